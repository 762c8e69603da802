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

// docs/troubleshooting.md is the one table of errcodes: it lists those that the
// code has advice for, and no others.
func TestErrcodes(t *testing.T) {
	_, section, found := strings.Cut(read(t, "docs/troubleshooting.md"), "\n## By errcode\n")
	require.True(t, found)
	section, _, _ = strings.Cut(section, "\n## ")
	listed := map[string]bool{}
	for line := range strings.Lines(section) {
		if cells := strings.Split(line, "|"); len(cells) > 2 {
			for _, code := range regexp.MustCompile(`-?\d+`).FindAllString(cells[1], -1) {
				listed[code] = true
			}
		}
	}
	for code := -2000; code < 100_000; code++ {
		known := false
		for _, p := range []errcode.Platform{"", errcode.WeChat, errcode.Stable, errcode.WeCom, errcode.QQ, errcode.ThirdParty} {
			known = known || p.Advice(code) != ""
		}
		assert.Equal(t, known, listed[strconv.Itoa(code)], "errcode %d: known to internal/errcode, and listed", code)
	}
}
