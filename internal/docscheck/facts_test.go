package docscheck

import (
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/wxtoken/wxtoken/internal/errcode"
)

const troubleshooting = "docs/troubleshooting.md"

// The tables of errcodes list all that wxtoken knows what to do about, and no
// others.
func TestErrcodes(t *testing.T) {
	section := between(t, read(t, troubleshooting), "\n## By errcode\n", "\n## ")
	listed := map[int]bool{}
	number := regexp.MustCompile(`-?\d+`)
	for line := range strings.Lines(section) {
		if cells := strings.Split(line, "|"); len(cells) > 2 {
			for _, code := range number.FindAllString(cells[1], -1) {
				n, err := strconv.Atoi(code)
				require.NoError(t, err)
				listed[n] = true
			}
		}
	}
	for code := -2000; code < 100_000; code++ {
		known := false
		for _, p := range []errcode.Platform{"", errcode.WeChat, errcode.Stable, errcode.WeCom, errcode.QQ, errcode.ThirdParty} {
			known = known || p.Advice(code) != ""
		}
		assert.Equal(t, known, listed[code], "errcode %d: left, whether internal/errcode knows it, and right, %s", code, troubleshooting)
	}
}

// The errors that the tables quote are those of the code.
func TestQuotedErrors(t *testing.T) {
	section := between(t, read(t, troubleshooting), "\n## By symptom\n", "\x00")
	var sources strings.Builder
	walk(t, ".go", func(path string) {
		if !strings.HasSuffix(path, "_test.go") {
			sources.WriteString(read(t, path))
		}
	})
	all := regexp.MustCompile("(?m)^\\| `([^`]* [^`]*)`").FindAllStringSubmatch(section, -1)
	require.Greater(t, len(all), 4)
	for _, m := range all {
		for part := range strings.SplitSeq(m[1], "…") {
			assert.True(t, strings.Contains(sources.String(), strings.TrimSpace(part)), "no error says: %s", part)
		}
	}
}

// between returns what text has between two others, or up to its end.
func between(t *testing.T, text, from, to string) string {
	_, rest, found := strings.Cut(text, from)
	require.True(t, found, "no %q", from)
	part, _, _ := strings.Cut(rest, to)
	return part
}
