package docscheck

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// chinese is where the Chinese version of an English page is, or would be.
func chinese(path string) string {
	if rest, ok := strings.CutPrefix(path, "docs/"); ok {
		return "docs/zh-CN/" + rest
	}
	return strings.TrimSuffix(path, ".md") + ".zh-CN.md"
}

// A Chinese page has the headings, tables and code of the English one, and both
// link to each other.
func TestBothLanguages(t *testing.T) {
	all := pages(t)
	pairs := 0
	for path, en := range all {
		zh, ok := all[chinese(path)]
		if !ok {
			continue
		}
		pairs++
		t.Run(path, func(t *testing.T) {
			assert.Equal(t, levels(en), levels(zh), "levels of the headings")
			assert.Equal(t, bare(en), bare(zh), "code, comments and prose aside")
			assert.Equal(t, shapes(en), shapes(zh), "columns of each row of each table")
			assert.True(t, linksTo(en, zh) && linksTo(zh, en), "links to the other language")
		})
	}
	require.Greater(t, pairs, 1)
}

func levels(p page) (levels []int) {
	for _, h := range p.headings {
		levels = append(levels, h.level)
	}
	return levels
}

// shapes counts the cells of each row; a | in code is written &#124;.
func shapes(p page) (all [][]int) {
	for _, table := range p.tables {
		var columns []int
		for _, row := range table {
			columns = append(columns, strings.Count(row, "|"))
		}
		all = append(all, columns)
	}
	return all
}

func linksTo(from, to page) bool {
	return slices.ContainsFunc(from.links, func(link string) bool {
		path, _ := from.target(link)
		return path == to.path
	})
}

var (
	comment = regexp.MustCompile(`(^|\s)(//|#) .*$`)
	spaces  = regexp.MustCompile(`\s+`)
)

// bare is the code of a page, without what is in the language of its readers.
func bare(p page) (all []string) {
	for _, b := range p.blocks {
		text := b.lang + "\n"
		if !slices.Contains([]string{"go", "sh", "json", "yaml"}, b.lang) {
			b.text = fmt.Sprintf("%d lines", strings.Count(b.text, "\n"))
		}
		for line := range strings.Lines(b.text) {
			if line = strings.TrimSpace(comment.ReplaceAllString(strings.TrimRight(line, "\n"), "")); line != "" {
				text += spaces.ReplaceAllString(line, " ") + "\n"
			}
		}
		all = append(all, text)
	}
	return all
}
