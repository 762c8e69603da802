// Package docscheck tests the documentation: links lead somewhere, Go code
// compiles, both languages have the same structure, what two places say is the
// same, and docs/api.txt lists what is exported.
package docscheck

import (
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const root = "../.."

// A page is a Markdown file of the repository.
type page struct {
	path    string // from root, with slashes
	anchors []string
	links   []string
	blocks  []block
	outline []string // the structure, which does not depend on the language
}

// A block is fenced code.
type block struct {
	line int // where it begins
	lang string
	text string
}

var (
	link     = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	code     = regexp.MustCompile("`[^`]*`")
	anchored = regexp.MustCompile(`[^\p{L}\p{N}_ -]`)
	numbered = regexp.MustCompile(`^\d+\. `)
	comment  = regexp.MustCompile(`(^|\s)(//|#) .*$`)
	spaces   = regexp.MustCompile(`\s+`)
)

// files calls f with every file of the repository whose name ends in suffix.
func files(t *testing.T, suffix string, f func(path, text string)) {
	require.NoError(t, filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		switch name := d.Name(); {
		case err != nil:
			return err
		case d.IsDir() && strings.HasPrefix(name, ".") && name != ".." && name != ".github":
			return fs.SkipDir
		case strings.HasSuffix(name, suffix) && !d.IsDir():
			rel, err := filepath.Rel(root, path)
			require.NoError(t, err)
			f(filepath.ToSlash(rel), read(t, rel))
		}
		return nil
	}))
}

// read returns a file of the repository.
func read(t *testing.T, path string) string {
	text, err := os.ReadFile(filepath.Join(root, path))
	require.NoError(t, err)
	return strings.ReplaceAll(string(text), "\r\n", "\n")
}

// section is the text under a heading of a page, up to the next of its level.
func section(t *testing.T, path, heading string) string {
	_, text, found := strings.Cut(read(t, path), "\n"+heading+"\n")
	require.True(t, found, "%s has no %s", path, heading)
	text, _, _ = strings.Cut(text, "\n"+heading[:strings.LastIndex(heading, "#")+1]+" ")
	return text
}

// pages reads every Markdown file.
func pages(t *testing.T) map[string]page {
	all := map[string]page{}
	files(t, ".md", func(path, text string) { all[path] = parse(t, path, text) })
	return all
}

func parse(t *testing.T, path, text string) page {
	p := page{path: path}
	var open *block
	for i, line := range strings.Split(text, "\n") {
		lang, fence := strings.CutPrefix(strings.TrimSpace(line), "```")
		level := len(line) - len(strings.TrimLeft(line, "#"))
		switch {
		case fence && open == nil:
			open = &block{line: i + 1, lang: lang}
		case fence:
			p.blocks = append(p.blocks, *open)
			p.outline = append(p.outline, "```"+open.lang+"\n"+open.bare())
			open = nil
		case open != nil:
			open.text += line + "\n"
		case level > 0:
			p.anchors = append(p.anchors, anchor(strings.TrimSpace(line[level:])))
			p.outline = append(p.outline, line[:level])
		case strings.HasPrefix(line, "|"): // a | in code is written &#124;
			p.outline = append(p.outline, strings.Repeat("|", strings.Count(line, "|")))
		case numbered.MatchString(line):
			p.outline = append(p.outline, numbered.FindString(line))
		}
		if open == nil {
			for _, m := range link.FindAllStringSubmatch(code.ReplaceAllString(line, ""), -1) {
				p.links = append(p.links, m[1])
			}
		}
	}
	assert.Nil(t, open, "%s: code that is not closed", path)
	return p
}

// bare is the code without what is in the language of its readers.
func (b block) bare() (text string) {
	if !slices.Contains([]string{"go", "sh", "json", "yaml"}, b.lang) {
		return strings.Repeat("\n", strings.Count(b.text, "\n"))
	}
	for line := range strings.Lines(b.text) {
		if line = strings.TrimSpace(comment.ReplaceAllString(strings.TrimRight(line, "\n"), "")); line != "" {
			text += spaces.ReplaceAllString(line, " ") + "\n"
		}
	}
	return text
}

// anchor is what GitHub makes of a heading.
func anchor(heading string) string {
	return strings.ReplaceAll(anchored.ReplaceAllString(strings.ToLower(heading), ""), " ", "-")
}

// target resolves a link of p within the repository.
func (p page) target(to string) (file, anchor string) {
	file, anchor, _ = strings.Cut(to, "#")
	if file == "" {
		return p.path, anchor
	}
	return path.Join(path.Dir(p.path), file), anchor
}

func exists(path string) bool {
	_, err := os.Stat(filepath.Join(root, path))
	return err == nil
}

// Every link to a file of the repository, and to a heading in it, leads there.
// Nothing outside of the repository is asked.
func TestLinks(t *testing.T) {
	all := pages(t)
	for _, p := range all {
		for _, to := range p.links {
			file, anchor := p.target(to)
			if strings.Contains(to, "://") || !assert.True(t, exists(file), "%s links to %s", p.path, to) {
				continue
			}
			if anchor != "" {
				assert.Contains(t, all[file].anchors, anchor, "%s links to %s", p.path, to)
			}
		}
	}
}

// chinese is where the Chinese translation of an English page would be.
func chinese(file string) string {
	if rest, ok := strings.CutPrefix(file, "docs/"); ok {
		return "docs/zh-CN/" + rest
	}
	return strings.TrimSuffix(file, ".md") + ".zh-CN.md"
}

// A Chinese page has the headings, tables, numbered lists and code of the English
// one, in the same order. Both link to each other; the Chinese one has no other link
// to an English page that is translated.
func TestBothLanguages(t *testing.T) {
	link := func(from, to page) {
		rel, _ := filepath.Rel(path.Dir(from.path), to.path)
		assert.Contains(t, from.links, filepath.ToSlash(rel), from.path)
	}
	all, pairs := pages(t), 0
	for _, en := range all {
		if zh, ok := all[chinese(en.path)]; ok {
			for _, to := range zh.links {
				if file, _ := zh.target(to); file != en.path {
					assert.NotContains(t, all, chinese(file), "%s links to %s", zh.path, to)
				}
			}
			pairs++
			assert.Equal(t, en.outline, zh.outline, "%s and %s", en.path, zh.path)
			link(en, zh)
			link(zh, en)
		}
	}
	require.Greater(t, pairs, 1)
}
