package docscheck

import (
	"encoding/json"
	"fmt"
	"go/ast"
	"go/format"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
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
		appID, appSecret, corpID, agentSecret, authorizerAppID string
		msgToken, encodingAESKey, pageURL string
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

// program makes a Go file of code that is a whole file, declarations or
// statements.
func program(b block) ([]byte, error) {
	text := b.text
	if !strings.HasPrefix(text, "package ") {
		body := text
		if !strings.HasPrefix(body, "func ") && !strings.HasPrefix(body, "type ") {
			used, err := declared(text)
			if err != nil {
				return nil, err
			}
			body = "var (" + variables + ")\n\nfunc _() {\n" + text + used + "}\n"
		}
		text = "package snippet\n\n"
		for path := range strings.FieldsSeq(imports) {
			if name := nameOf(path); strings.Contains(body, name+".") && !strings.Contains(body, name+" := ") {
				text += fmt.Sprintf("import %s %q\n", name, path)
			}
		}
		text += body
	}
	return format.Source([]byte(text))
}

var versioned = regexp.MustCompile(`/(go-)?([a-z]+)(/v\d+)?$`)

// nameOf is the name of the package at path.
func nameOf(path string) string {
	return versioned.FindStringSubmatch("/" + path)[2]
}

// declared uses the variables that statements declare, so that the compiler is
// content.
func declared(statements string) (string, error) {
	file, err := parser.ParseFile(token.NewFileSet(), "", "package p; func _() {\n"+statements+"}", 0)
	if err != nil {
		return "", err
	}
	used := map[string]bool{}
	for _, s := range file.Decls[0].(*ast.FuncDecl).Body.List {
		if a, ok := s.(*ast.AssignStmt); ok && a.Tok == token.DEFINE {
			for _, v := range a.Lhs {
				used["_ = "+v.(*ast.Ident).Name+"\n"] = true
			}
		}
	}
	return strings.Join(slices.Sorted(maps.Keys(used)), ""), nil
}

// nested reports whether a page belongs to a module other than the root's.
func nested(path string) bool {
	for dir := filepath.Dir(path); dir != "."; dir = filepath.Dir(dir) {
		if exists(filepath.Join(dir, "go.mod")) {
			return true
		}
	}
	return false
}

// All Go code in the pages of the root module compiles, and tests in it pass:
// each piece as a package of its own that exists only in the compiler's overlay.
func TestGoCode(t *testing.T) {
	abs, err := filepath.Abs(root)
	require.NoError(t, err)
	overlay := struct{ Replace map[string]string }{map[string]string{}}
	dir := t.TempDir()
	var programs, tests []string
	for path, p := range pages(t) {
		for _, b := range p.blocks {
			if b.lang != "go" || nested(path) {
				continue
			}
			text, err := program(b)
			if !assert.NoError(t, err, "%s:%d", b.page, b.line) {
				continue
			}
			name := fmt.Sprintf("%s_%d", strings.NewReplacer("/", "_", ".", "_").Replace(b.page), b.line)
			code := filepath.Join(dir, name)
			require.NoError(t, os.WriteFile(code, text, 0o600))
			file, to := "code.go", &programs
			if strings.Contains(b.text, "func Test") {
				file, to = "code_test.go", &tests
			}
			overlay.Replace[filepath.Join(abs, "internal", "docscheck", name, file)] = code
			*to = append(*to, "./internal/docscheck/"+name)
		}
	}
	require.NotEmpty(t, programs, "where is all the code?")
	require.NotEmpty(t, tests)
	text, err := json.Marshal(overlay)
	require.NoError(t, err)
	file := filepath.Join(dir, "overlay.json")
	require.NoError(t, os.WriteFile(file, text, 0o600))

	run := func(name string, args ...string) {
		cmd := exec.Command(name, args...)
		cmd.Dir = abs
		cmd.Env = append(os.Environ(), "GOFLAGS=", "PWD="+abs)
		out, err := cmd.CombinedOutput()
		assert.NoError(t, err, "%s", out)
	}
	run("go", append([]string{"build", "-overlay", file}, programs...)...)
	bin := filepath.Join(dir, "bin") + string(filepath.Separator)
	// Compiled and run apart, since go vet and go test want real directories.
	run("go", append([]string{"test", "-c", "-vet=off", "-overlay", file, "-o", bin}, tests...)...)
	built, err := filepath.Glob(bin + "*")
	require.NoError(t, err)
	assert.Len(t, built, len(tests))
	for _, test := range built {
		run(test)
	}
}
