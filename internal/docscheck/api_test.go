package docscheck

import (
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "write docs/api.txt")

// docs/api.txt has what go doc says of the exported names, without comments.
// `make api-diff` says which changes are compatible.
func TestAPI(t *testing.T) {
	comment := regexp.MustCompile(`(?m)^    .*$|[ \t]*// .*$`)
	var text strings.Builder
	for _, pkg := range []string{".", "adapter", "cachetest", "jssdk", "openplatform", "wxtest"} {
		cmd := exec.Command("go", "doc", "-all", "./"+pkg)
		cmd.Dir = root
		out, err := cmd.Output()
		require.NoError(t, err)
		said := strings.ReplaceAll(string(out), "\r\n", "\n")
		start := regexp.MustCompile(`(?m)^(CONSTANTS|VARIABLES|FUNCTIONS|TYPES)$`).FindStringIndex(said) // after the package comment
		require.NotNil(t, start, pkg)
		text.WriteString("package " + pkg + "\n")
		for line := range strings.Lines(comment.ReplaceAllString(said[start[0]:], "")) {
			if strings.TrimSpace(line) != "" {
				text.WriteString(line)
			}
		}
	}
	if *update {
		require.NoError(t, os.WriteFile(filepath.Join(root, "docs/api.txt"), []byte(text.String()), 0o644))
	}
	assert.Equal(t, read(t, "docs/api.txt"), text.String(), "The exported names changed. Name what changed in CHANGELOG.md, and run: make api")
}
