package docscheck

import (
	"flag"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/wxtoken/wxtoken/internal/errcode"
)

// codes returns the errcodes that begin the rows of the tables of a section.
func codes(t *testing.T, page, heading string) (rows []string) {
	for _, m := range regexp.MustCompile(`\n\| (-?\d{1,5}((, |、)-?\d{1,5})*)\b`).FindAllStringSubmatch(section(t, page, heading), -1) {
		rows = append(rows, strings.ReplaceAll(m[1], "、", ", "))
	}
	return rows
}

// docs/troubleshooting.md is the one table of errcodes: it lists those that the
// code has advice for, and no others.
func TestErrcodes(t *testing.T) {
	rows := codes(t, "docs/troubleshooting.md", "## By errcode")
	assert.Equal(t, rows, codes(t, "docs/zh-CN/troubleshooting.md", "## 按 errcode"), "English and Chinese")
	listed := slices.Sorted(slices.Values(strings.Split(strings.Join(rows, ", "), ", ")))
	known := map[string]bool{}
	for code := -2000; code < 100_000; code++ {
		for _, p := range []errcode.Platform{errcode.WeChat, errcode.Stable, errcode.WeCom, errcode.QQ, errcode.ThirdParty} {
			if p.Advice(code) != "" {
				known[strconv.Itoa(code)] = true
			}
		}
	}
	assert.Equal(t, slices.Sorted(maps.Keys(known)), slices.Compact(listed))
}

// docs/design.md has the cooldowns of internal/protocol, code by code.
func TestCooldowns(t *testing.T) {
	var cases []string
	for _, m := range regexp.MustCompile(`\n\tcase ([-\d, ]+):`).FindAllStringSubmatch(read(t, "internal/protocol/cooldown.go"), -1) {
		cases = append(cases, m[1])
	}
	assert.ElementsMatch(t, cases, codes(t, "docs/design.md", "### Cooldowns"))
}

// The package's comment promises what README.md does, in the same words.
func TestPromises(t *testing.T) {
	markup := regexp.MustCompile("//|[`*[]|](\\(.*?\\))?")
	words := func(text string) []string { return strings.Fields(markup.ReplaceAllString(text, "")) }
	assert.Equal(t, words(section(t, "README.md", "## What is promised")), words(section(t, "doc.go", "// # What is promised")))
}

// The tests that token_test.go names for each promise exist.
func TestTestsOfPromises(t *testing.T) {
	tests := ""
	files(t, "_test.go", func(_, text string) { tests += text })
	contents, _, _ := strings.Cut(read(t, "token_test.go"), "\npackage ")
	for _, name := range regexp.MustCompile(`\b(Test|Example)[A-Z]\w+`).FindAllString(contents, -1) {
		assert.True(t, strings.Contains(tests, "\nfunc "+name+"("), name)
	}
}

var update = flag.Bool("update", false, "write docs/api.txt")

// docs/api.txt has what go doc says of the exported names, without comments.
// `make api-diff` says which changes are compatible.
func TestAPI(t *testing.T) {
	parts := regexp.MustCompile(`\n(CONSTANTS|VARIABLES|FUNCTIONS|TYPES)\n`)
	unwanted := regexp.MustCompile(`(?m)^(    .*|[ \t]*// .*)?\n|[ \t]*// .*$`)
	text := ""
	for _, pkg := range []string{".", "adapter", "cachetest", "jssdk", "openplatform", "wxtest"} {
		cmd := exec.Command("go", "doc", "-all", "./"+pkg)
		cmd.Dir = root
		out, err := cmd.Output()
		require.NoError(t, err)
		said := strings.ReplaceAll(string(out), "\r\n", "\n")
		said = said[parts.FindStringIndex(said)[0]:] // after the package comment
		text += "package " + pkg + "\n" + unwanted.ReplaceAllString(said, "")
	}
	if *update {
		require.NoError(t, os.WriteFile(filepath.Join(root, "docs/api.txt"), []byte(text), 0o644))
	}
	assert.Equal(t, read(t, "docs/api.txt"), text, "The exported names changed. Name what changed in CHANGELOG.md, and run: make api")
}
