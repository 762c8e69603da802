// Package docscheck tests that the documentation is true where a program can
// tell: links, commands, Go code, both languages of the README, and the list of
// exported names.
package docscheck

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const root = "../.."

// A page is a Markdown file of the repository.
type page struct {
	path     string // from root, with slashes
	headings []heading
	blocks   []block
	links    []string
	rows     int // of tables
	inRoot   bool
}

type heading struct {
	level  int
	anchor string
}

// A block is fenced code.
type block struct {
	page string
	line int // where it begins
	lang string
	text string
}

var (
	link     = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	fence    = regexp.MustCompile("^\\s*```(\\w*)\\s*$")
	code     = regexp.MustCompile("`[^`]*`")
	anchored = regexp.MustCompile(`[^\p{L}\p{N}_ -]`)
)

// pages reads every Markdown file.
func pages(t *testing.T) map[string]page {
	all := map[string]page{}
	require.NoError(t, filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		switch name := d.Name(); {
		case err != nil:
			return err
		case d.IsDir() && strings.HasPrefix(name, ".") && name != ".." && name != ".github":
			return fs.SkipDir
		case strings.HasSuffix(name, ".md"):
			rel, err := filepath.Rel(root, path)
			require.NoError(t, err)
			all[filepath.ToSlash(rel)] = parse(t, filepath.ToSlash(rel), read(t, rel))
		}
		return nil
	}))
	require.Contains(t, all, "README.md")
	return all
}

// read gives a file of the repository.
func read(t *testing.T, path string) string {
	text, err := os.ReadFile(filepath.Join(root, path))
	require.NoError(t, err)
	return strings.ReplaceAll(string(text), "\r\n", "\n")
}

func parse(t *testing.T, path, text string) page {
	p := page{path: path, inRoot: true}
	for dir := filepath.Dir(path); dir != "."; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(root, dir, "go.mod")); err == nil {
			p.inRoot = false
		}
	}
	seen := map[string]bool{}
	var open *block
	for i, line := range strings.Split(text, "\n") {
		if m := fence.FindStringSubmatch(line); m != nil {
			if open == nil {
				open = &block{page: path, line: i + 1, lang: m[1]}
			} else {
				p.blocks = append(p.blocks, *open)
				open = nil
			}
			continue
		}
		if open != nil {
			open.text += line + "\n"
			continue
		}
		if level := len(line) - len(strings.TrimLeft(line, "#")); level > 0 {
			h := heading{level, anchor(strings.TrimSpace(line[level:]))}
			assert.False(t, seen[h.anchor], "%s:%d: two headings with the anchor #%s", path, i+1, h.anchor)
			seen[h.anchor] = true
			p.headings = append(p.headings, h)
		}
		if strings.HasPrefix(strings.TrimSpace(line), "|") {
			p.rows++
		}
		for _, m := range link.FindAllStringSubmatch(code.ReplaceAllString(line, ""), -1) {
			p.links = append(p.links, m[1])
		}
	}
	assert.Nil(t, open, "%s: code that is not closed", path)
	return p
}

// anchor is what GitHub makes of a heading.
func anchor(heading string) string {
	return strings.ReplaceAll(anchored.ReplaceAllString(strings.ToLower(heading), ""), " ", "-")
}

// Every link to a file of the repository, and to a heading in it, leads there.
// Nothing outside of the repository is asked.
func TestLinks(t *testing.T) {
	all := pages(t)
	for _, p := range all {
		for _, to := range p.links {
			if strings.Contains(to, "://") {
				continue
			}
			path, anchor, _ := strings.Cut(to, "#")
			target := p.path
			if path != "" {
				target = filepath.ToSlash(filepath.Join(filepath.Dir(p.path), path))
				if _, err := os.Stat(filepath.Join(root, target)); !assert.NoError(t, err, "%s links to %s", p.path, to) {
					continue
				}
			}
			if anchor != "" {
				found := false
				for _, h := range all[target].headings {
					found = found || h.anchor == anchor
				}
				assert.True(t, found, "%s links to %s: %s has no such heading", p.path, to, target)
			}
		}
	}
}

// README.zh-CN.md has the same sections, code and tables as README.md, and the
// same links but for those to headings of its own.
func TestBothREADMEsSayTheSame(t *testing.T) {
	all := pages(t)
	en, zh := all["README.md"], all["README.zh-CN.md"]
	shape := func(p page) (levels []int, code []string, links []string) {
		for _, h := range p.headings {
			levels = append(levels, h.level)
		}
		for _, b := range p.blocks {
			if b.lang == "mermaid" {
				b.text = "" // its words are translated
			}
			code = append(code, b.lang+"\n"+b.text)
		}
		for _, to := range p.links {
			switch {
			case strings.HasPrefix(to, "#"):
				to = "#"
			case strings.HasPrefix(to, "README"):
				to = "README"
			}
			links = append(links, to)
		}
		return levels, code, links
	}
	levels, code, links := shape(en)
	levelsZH, codeZH, linksZH := shape(zh)
	assert.Equal(t, levels, levelsZH, "levels of the headings")
	assert.Equal(t, code, codeZH, "code")
	assert.ElementsMatch(t, links, linksZH, "links")
	assert.Equal(t, en.rows, zh.rows, "rows of tables")
}

// The badges that no service makes agree with what they are about.
func TestBadges(t *testing.T) {
	badge := func(pattern, in, file string) {
		want := regexp.MustCompile(in).FindStringSubmatch(read(t, file))
		for _, readme := range []string{"README.md", "README.zh-CN.md"} {
			got := regexp.MustCompile(pattern).FindStringSubmatch(read(t, readme))
			if assert.Len(t, got, 2, readme) && assert.Len(t, want, 2, file) {
				assert.Equal(t, want[1], got[1], "%s against %s", readme, file)
			}
		}
	}
	badge(`badge/Go-(\d+\.\d+)%2B`, `(?m)^go (\d+\.\d+)`, "go.mod")
	badge(`badge/coverage-(\d+)%25`, `(?m)^COVERAGE\s*:= (\d+)`, "Makefile")
	badge(`badge/license-(MIT)-`, `^(MIT) License`, "LICENSE")
}
