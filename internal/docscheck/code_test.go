package docscheck

import (
	"bytes"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/format"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// What code in the documentation may use without saying where it comes from.
var (
	imports = map[string]string{
		"wxtoken": "github.com/wxtoken/wxtoken", "wxtest": "github.com/wxtoken/wxtoken/wxtest",
		"client":    "github.com/wxtoken/wxtoken/cmd/wxtoken/client",
		"cachetest": "github.com/wxtoken/wxtoken/cachetest", "adapter": "github.com/wxtoken/wxtoken/adapter",
		"redis": "github.com/redis/go-redis/v9", "memcache": "github.com/bradfitz/gomemcache/memcache",
		"context": "context", "errors": "errors", "fmt": "fmt", "http": "net/http", "os": "os", "slog": "log/slog",
		"testing": "testing", "time": "time",
	}
	variables = `
		ctx              context.Context
		appID, appSecret string
		rdb              *redis.Client
		mc               *memcache.Client
		src              *wxtoken.Source
		tok              wxtoken.Token
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
		for name, path := range imports {
			if strings.Contains(body, name+".") {
				text += fmt.Sprintf("import %s %q\n", name, path)
			}
		}
		text += body
	}
	return format.Source([]byte(text))
}

// declared uses the variables that statements declare, so that the compiler is
// content.
func declared(statements string) (string, error) {
	file, err := parser.ParseFile(token.NewFileSet(), "", "package p; func _() {\n"+statements+"}", 0)
	if err != nil {
		return "", err
	}
	var used strings.Builder
	for _, s := range file.Decls[0].(*ast.FuncDecl).Body.List {
		if a, ok := s.(*ast.AssignStmt); ok && a.Tok == token.DEFINE {
			for _, v := range a.Lhs {
				fmt.Fprintf(&used, "_ = %s\n", v.(*ast.Ident).Name)
			}
		}
	}
	return used.String(), nil
}

// All Go code in the documentation of the root module compiles, each piece as a
// package of its own that exists only in the compiler's overlay.
func TestGoCodeCompiles(t *testing.T) {
	abs, err := filepath.Abs(root)
	require.NoError(t, err)
	overlay := struct{ Replace map[string]string }{map[string]string{}}
	args := []string{"build", "-overlay", ""} // go vet wants real directories
	dir := t.TempDir()
	for _, p := range pages(t) {
		for _, b := range p.blocks {
			if b.lang != "go" || !p.inRoot {
				continue
			}
			file, err := program(b)
			if !assert.NoError(t, err, "%s:%d", b.page, b.line) {
				continue
			}
			name := fmt.Sprintf("%s_%d", strings.NewReplacer("/", "_", ".", "_").Replace(b.page), b.line)
			real := filepath.Join(dir, name)
			require.NoError(t, os.WriteFile(real, file, 0o600))
			overlay.Replace[filepath.Join(abs, "internal", "docscheck", name, "code.go")] = real
			args = append(args, "./internal/docscheck/"+name)
		}
	}
	require.Greater(t, len(args), 5, "where is all the code?")
	text, err := json.Marshal(overlay)
	require.NoError(t, err)
	args[2] = filepath.Join(dir, "overlay.json")
	require.NoError(t, os.WriteFile(args[2], text, 0o600))
	out, err := run(abs, "go", args...)
	assert.NoError(t, err, out)
}

// Commands that are not run: each has a reason.
var notRun = map[string]string{
	"make test": "this is part of it",
}

// The commands of README.md, which are those of the other one, work in the order
// in which they stand there, and say what it shows. They are run without a shell, each block where its text says.
func TestCommands(t *testing.T) {
	checkout, err := filepath.Abs(root)
	require.NoError(t, err)
	var ran []string
	said := ""
	for _, b := range pages(t)["README.md"].blocks {
		if b.lang == "text" { // what the command before it says, figures aside
			assert.Equal(t, firstWords(b.text), firstWords(said), "%s:%d", b.page, b.line)
		}
		if b.lang != "sh" {
			continue
		}
		dir := checkout
		if strings.Contains(b.text, "../wxtoken") {
			dir = module(t, checkout)
		}
		for command := range strings.Lines(b.text) {
			command = strings.TrimSpace(command)
			if notRun[command] != "" {
				assert.Contains(t, read(t, "Makefile"), "\n"+strings.TrimPrefix(command, "make ")+":")
				continue
			}
			words := strings.Fields(command)
			for i := range words {
				words[i] = strings.ReplaceAll(words[i], "../wxtoken", checkout)
			}
			out, err := run(dir, words[0], words[1:]...)
			assert.NoError(t, err, "%s\n%s", command, out)
			ran, said = append(ran, command), out
		}
		if dir != checkout {
			out, err := run(dir, "go", "build", "-o", filepath.Join(t.TempDir(), "app"), ".")
			assert.NoError(t, err, "a program cannot use wxtoken after\n%s%s", b.text, out)
		}
	}
	assert.True(t, slices.Contains(ran, "go run ./examples/quickstart"))
	assert.Len(t, ran, 4)
}

// firstWords gives the first word of each line.
func firstWords(text string) (words []string) {
	for line := range strings.Lines(text) {
		word, _, _ := strings.Cut(line, " ")
		words = append(words, word)
	}
	return words
}

// module is a user's module that imports wxtoken.
func module(t *testing.T, checkout string) string {
	dir := t.TempDir()
	sums, err := os.ReadFile(filepath.Join(checkout, "go.sum"))
	require.NoError(t, err)
	for name, text := range map[string]string{
		"go.mod":  "module example.com/app\n\ngo 1.25.0\n",
		"go.sum":  string(sums),
		"main.go": "package main\n\nimport \"github.com/wxtoken/wxtoken\"\n\nfunc main() { _ = wxtoken.NewMemoryCache() }\n",
	} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	return dir
}

// run runs a command in dir, and gives what it says.
func run(dir, name string, args ...string) (string, error) {
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOFLAGS=", "GOWORK=", "WECHAT_APPID=", "WECHAT_SECRET=", "PWD="+dir)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	return out.String(), err
}
