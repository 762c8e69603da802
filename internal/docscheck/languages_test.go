package docscheck

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"

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

// A Chinese page has the headings, tables and code of the English one, and its
// links lead to the Chinese versions of the same places.
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
			sameTables(t, en, zh)
			assert.ElementsMatch(t, translated(all, en), places(all, zh), "links: on the left where they should lead")
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

var comment = regexp.MustCompile(`(^|\s)(//|#) .*$`)

// bare is the code of a page, with the lines of the language for humans left out.
func bare(p page) (all []string) {
	for _, b := range p.blocks {
		text := b.lang + "\n"
		if !slices.Contains([]string{"go", "sh", "json", "yaml"}, b.lang) {
			b.text = fmt.Sprintf("%d lines", strings.Count(b.text, "\n"))
		}
		for line := range strings.Lines(b.text) {
			if line = strings.TrimRight(comment.ReplaceAllString(strings.TrimRight(line, "\n"), ""), " "); line != "" {
				text += spaces.ReplaceAllString(line, " ") + "\n"
			}
		}
		all = append(all, text)
	}
	return all
}

var spaces = regexp.MustCompile(`\s+`)

// sameTables compares the shapes of tables, and the code in each row.
func sameTables(t *testing.T, en, zh page) {
	if !assert.Len(t, zh.tables, len(en.tables), "tables") {
		return
	}
	for i := range en.tables {
		if !assert.Len(t, zh.tables[i], len(en.tables[i]), "rows of the table that begins %s", en.tables[i][0]) {
			continue
		}
		for j, row := range en.tables[i] {
			other := zh.tables[i][j]
			assert.Equal(t, columns(row), columns(other), "columns of %s", row)
			assert.ElementsMatch(t, code.FindAllString(row, -1), code.FindAllString(other, -1), "code in\n%s\n%s", row, other)
		}
	}
}

// columns counts the cells of a row; a | in code is written &#124;.
func columns(row string) int { return strings.Count(row, "|") - 1 }

// places are where the links of a page lead: file and number of the heading.
func places(all map[string]page, p page) (places []string) {
	for _, to := range p.links {
		if strings.Contains(to, "://") {
			places = append(places, to)
			continue
		}
		path, anchor := p.target(to)
		if other(path) == p.path { // to the other language
			continue
		}
		places = append(places, fmt.Sprintf("%s %d", path, all[path].index(anchor)))
	}
	return places
}

// translated are the places to which the links of the Chinese version of p
// should lead.
func translated(all map[string]page, p page) (should []string) {
	for _, place := range places(all, p) {
		path, rest, local := strings.Cut(place, " ")
		zh := chinese(path)
		if _, there := all[zh]; local && there {
			place = zh + " " + rest
		}
		should = append(should, place)
	}
	return should
}

// other is the same page in the other language.
func other(path string) string {
	if rest, ok := strings.CutPrefix(path, "docs/zh-CN/"); ok {
		return "docs/" + rest
	}
	if rest, ok := strings.CutSuffix(path, ".zh-CN.md"); ok {
		return rest + ".md"
	}
	return chinese(path)
}

// Pages in both languages link to one another, and comments in the code of a
// Chinese page are Chinese.
func TestChinesePages(t *testing.T) {
	words := regexp.MustCompile(`[a-z]{2,} [a-z]{2,} [a-z]{2,}`)
	for path, p := range pages(t) {
		if !strings.Contains(path, "zh-CN") {
			continue
		}
		for _, from := range []string{path, other(path)} {
			assert.Contains(t, linked(pages(t)[from]), other(from), "%s does not link to the other language", from)
		}
		for _, b := range p.blocks {
			for line := range strings.Lines(b.text) {
				_, said, found := strings.Cut(line, "// ")
				if found && !strings.ContainsFunc(said, isHan) {
					assert.NotRegexp(t, words, said, "%s:%d: a comment that is not Chinese", path, b.line)
				}
			}
		}
	}
}

func linked(p page) (paths []string) {
	for _, to := range p.links {
		path, _ := p.target(to)
		paths = append(paths, path)
	}
	return paths
}

func isHan(c rune) bool { return unicode.Is(unicode.Han, c) }
