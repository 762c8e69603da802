package docscheck

import (
	"fmt"
	"go/format"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// What code in the documentation may use without saying where it comes from.
const (
	imports = `
		bytes context errors fmt io log/slog net/http os strings testing testing/synctest time
		github.com/wxtoken/wxtoken github.com/wxtoken/wxtoken/wxtest github.com/wxtoken/wxtoken/cachetest
		github.com/wxtoken/wxtoken/adapter github.com/wxtoken/wxtoken/cmd/wxtoken/client github.com/wxtoken/wxtoken/jssdk github.com/wxtoken/wxtoken/openplatform
		github.com/redis/go-redis/v9 github.com/bradfitz/gomemcache/memcache`
	variables = `
		ctx              context.Context
		appID, appSecret, corpID, agentSecret, authorizerAppID, msgToken, encodingAESKey, pageURL string
		oldKey, newKey   [32]byte
		rdb              *redis.Client
		mc               *memcache.Client
		src              *wxtoken.Source
		tok              wxtoken.Token
		fetcher          wxtoken.Fetcher
		cache            wxtoken.Cache
		observe          func(wxtoken.Event)
		errcode          int
		err              error
`
)

var (
	versioned = regexp.MustCompile(`/(go-)?([a-z]+)(/v\d+)?$`)
	declared  = regexp.MustCompile(`(?m)^([a-zA-Z, ]+) := `)
)

// program makes a Go file of code that is a whole file, declarations or
// statements.
func program(text string) ([]byte, error) {
	if strings.HasPrefix(text, "package ") {
		return []byte(text), nil
	}
	body := text
	if !strings.HasPrefix(body, "func ") && !strings.HasPrefix(body, "type ") {
		for _, m := range declared.FindAllStringSubmatch(text, -1) {
			text += strings.Repeat("_, ", strings.Count(m[1], ",")) + "_ = " + m[1] + "\n" // or they would be unused
		}
		body = "var (" + variables + ")\n\nfunc _() {\n" + text + "}\n"
	}
	head := "package snippet\n\n"
	for path := range strings.FieldsSeq(imports) {
		name := versioned.FindStringSubmatch("/" + path)[2]
		if strings.Contains(body, name+".") && !strings.Contains(body, name+" := ") {
			head += fmt.Sprintf("import %s %q\n", name, path)
		}
	}
	return format.Source([]byte(head + body))
}

// nested reports whether a page belongs to a module other than the root's.
func nested(file string) bool {
	for dir := path.Dir(file); dir != "."; dir = path.Dir(dir) {
		if exists(path.Join(dir, "go.mod")) {
			return true
		}
	}
	return false
}

// All Go code in the pages of the root module compiles, and tests in it pass: each
// piece as a package of a module that requires what the root requires.
func TestGoCode(t *testing.T) {
	dir := t.TempDir()
	write := func(text []byte, elem ...string) {
		file := filepath.Join(append([]string{dir}, elem...)...)
		require.NoError(t, os.MkdirAll(filepath.Dir(file), 0o755))
		require.NoError(t, os.WriteFile(file, text, 0o644))
	}
	tests := 0
	for path, p := range pages(t) {
		for _, b := range p.blocks {
			if b.lang != "go" || nested(path) {
				continue
			}
			text, err := program(b.text)
			if !assert.NoError(t, err, "%s:%d", path, b.line) {
				continue
			}
			name := "code.go"
			if strings.Contains(b.text, "func Test") {
				name = "code_test.go"
				tests++
			}
			write(text, fmt.Sprintf("%s_%d", strings.NewReplacer("/", "_", ".", "_").Replace(path), b.line), name)
		}
	}
	require.NotZero(t, tests, "where is all the code?")
	abs, err := filepath.Abs(root)
	require.NoError(t, err)
	mod := strings.Replace(read(t, "go.mod"), "module github.com/wxtoken/wxtoken\n", "module snippets\n", 1)
	write(fmt.Appendf(nil, "%s\nrequire github.com/wxtoken/wxtoken v0.0.0\nreplace github.com/wxtoken/wxtoken => %q\n", mod, filepath.ToSlash(abs)), "go.mod")
	write([]byte(read(t, "go.sum")), "go.sum")

	cmd := exec.Command("go", "test", "-vet=off", "./...")
	cmd.Dir = dir
	flags := strings.ReplaceAll(os.Getenv("GOFLAGS"), "-race", "") // what is left decides whether it finds compiled packages
	cmd.Env = append(os.Environ(), "GOFLAGS="+flags, "GOWORK=off", "PWD="+dir)
	out, err := cmd.CombinedOutput()
	assert.NoError(t, err, "%s", out)
}
