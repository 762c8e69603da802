// Package docscheck tests the documentation: links lead somewhere, Go code
// compiles, both languages have the same structure, the errcodes are those of the
// code, and docs/api.txt lists what is exported.
package docscheck

import (
	"fmt"
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
	tables   [][]string // of each its lines, without the one under the heading
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
			rel = filepath.ToSlash(rel)
			all[rel] = parse(t, rel, read(t, rel))
		}
		return nil
	}))
	require.Contains(t, all, "README.md")
	return all
}

// read returns a file of the repository.
func read(t *testing.T, path string) string {
	text, err := os.ReadFile(filepath.Join(root, path))
	require.NoError(t, err)
	return strings.ReplaceAll(string(text), "\r\n", "\n")
}

func parse(t *testing.T, path, text string) page {
	p := page{path: path}
	seen := map[string]int{}
	inTable := false
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
			seen[h.anchor]++
			if n := seen[h.anchor]; n > 1 {
				h.anchor = fmt.Sprintf("%s-%d", h.anchor, n-1)
			}
			p.headings = append(p.headings, h)
		}
		row := strings.HasPrefix(line, "|")
		if row && !inTable {
			p.tables = append(p.tables, nil)
		}
		inTable = row
		if last := len(p.tables) - 1; row && strings.Trim(line, "|-: ") != "" {
			p.tables[last] = append(p.tables[last], line)
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

// index is the number of the heading with this anchor, or -1.
func (p page) index(anchor string) int {
	for i, h := range p.headings {
		if h.anchor == anchor {
			return i
		}
	}
	return -1
}

// target resolves a link of p within the repository.
func (p page) target(to string) (path, anchor string) {
	path, anchor, _ = strings.Cut(to, "#")
	if path == "" {
		return p.path, anchor
	}
	return filepath.ToSlash(filepath.Join(filepath.Dir(p.path), path)), anchor
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
			if strings.Contains(to, "://") {
				continue
			}
			path, anchor := p.target(to)
			if !assert.True(t, exists(path), "%s links to %s", p.path, to) || anchor == "" {
				continue
			}
			assert.GreaterOrEqual(t, all[path].index(anchor), 0, "%s links to %s: %s has no such heading", p.path, to, path)
		}
	}
}
