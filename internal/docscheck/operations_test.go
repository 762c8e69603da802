package docscheck

import (
	"io/fs"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/bradfitz/gomemcache/memcache"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/wxtoken/wxtoken"
	"github.com/wxtoken/wxtoken/internal/servers"
	"github.com/wxtoken/wxtoken/wxtest"
)

// An app on the fake platform, for one page of documentation to be tried on.
type app struct {
	t        *testing.T
	platform *wxtest.Server
}

func newApp(t *testing.T) app {
	platform := wxtest.NewServer(wxtest.WithApp("wx1", "secret"))
	t.Cleanup(platform.Close)
	return app{t, platform}
}

// token is what a process that starts now gets with a cache.
func (a app) token(c wxtoken.Cache) string {
	f := wxtoken.NewFetcher("wx1", "secret", wxtoken.WithBaseURL(a.platform.URL))
	tok, err := wxtoken.New(f, c).Token(a.t.Context())
	require.NoError(a.t, err)
	return tok.Value
}

func client(t *testing.T, o redis.Options) *redis.Client {
	c := redis.NewClient(&o)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// The commands of docs/operations.md move a record to another server, and show
// it, and what moves it to any other cache does.
func TestOperations(t *testing.T) {
	a := newApp(t)
	from, to := servers.Redis(t), servers.Redis(t)
	old := wxtoken.NewRedisCache(client(t, redis.Options{Addr: from.Addr()}))
	token := a.token(old)

	said := ""
	for _, b := range pages(t)["docs/operations.md"].blocks {
		if b.lang != "sh" {
			continue
		}
		cmd := exec.Command("sh", "-e", "-c", strings.ReplaceAll(b.text, "APPID", "wx1"))
		cmd.Env = append(cmd.Environ(), "OLD=redis://"+from.Addr(), "NEW=redis://"+to.Addr(), "REDIS_URL=redis://"+to.Addr())
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s:%d\n%s", b.page, b.line, out)
		said += string(out)
	}
	assert.Contains(t, said, token, "the last command shows the record")
	assert.Equal(t, token, a.token(wxtoken.NewRedisCache(client(t, redis.Options{Addr: to.Addr()}))))

	other := wxtoken.NewMemcachedCache(memcache.New(servers.Memcached(t).Addr()))
	record, err := old.Get(t.Context(), "wxtoken:token:wx1")
	require.NoError(t, err)
	stored, err := other.CompareAndSwap(t.Context(), "wxtoken:token:wx1", nil, record, 3*time.Hour)
	require.NoError(t, err)
	assert.True(t, stored)
	assert.Equal(t, token, a.token(other), "a fetch in place of the record that was moved")
}

// The rights that docs/operations.md asks for are enough.
func TestRights(t *testing.T) {
	rights := regexp.MustCompile("(?m)^\\| rights [^|]*\\| `([^`]*)` \\|").FindStringSubmatch(read(t, "docs/operations.md"))
	require.Len(t, rights, 2)
	server := servers.Redis(t)
	rules := []any{"ACL", "SETUSER", "wxtoken", "on", ">password"}
	for _, rule := range strings.Fields(rights[1]) {
		rules = append(rules, rule)
	}
	require.NoError(t, client(t, redis.Options{Addr: server.Addr()}).Do(t.Context(), rules...).Err())

	a := newApp(t)
	limited := redis.Options{Addr: server.Addr(), Username: "wxtoken", Password: "password"}
	first := a.token(wxtoken.NewRedisCache(client(t, limited)))
	assert.Equal(t, first, a.token(wxtoken.NewRedisCache(client(t, limited))))
	assert.Error(t, client(t, limited).Get(t.Context(), "another:key").Err(), "who has all rights proves nothing")
}

// Which test runs the commands of a page.
var ranBy = map[string]string{
	"README.md":                   "internal/docscheck/code_test.go",
	"README.zh-CN.md":             "internal/docscheck/code_test.go",
	"docs/operations.md":          "internal/docscheck/operations_test.go",
	"examples/metrics/README.md":  "examples/metrics/main_test.go",
	"examples/migrate/README.md":  "examples/migrate/main_test.go",
	"cmd/wxtoken/README.md":       "cmd/wxtoken/readme_test.go",
	"cmd/wxtoken/README.zh-CN.md": "cmd/wxtoken/readme_test.go",
}

// Any other command is a target of the Makefile, or a test that exists; and so
// is every `make` in the text.
func TestOtherCommands(t *testing.T) {
	makefile := read(t, "Makefile")
	inText := regexp.MustCompile("`make ([^`]+)`")
	targets := func(page, words string) {
		for word := range strings.FieldsSeq(words) {
			if !strings.Contains(word, "=") {
				assert.True(t, strings.Contains(makefile, "\n"+word+":"), "%s: no target for: make %s", page, words)
			}
		}
	}
	for path, p := range pages(t) {
		for _, m := range inText.FindAllStringSubmatch(read(t, path), -1) {
			targets(path, m[1])
		}
		if ranBy[path] != "" {
			read(t, ranBy[path])
			continue
		}
		for _, b := range p.blocks {
			if b.lang != "sh" {
				continue
			}
			for command := range strings.Lines(b.text) {
				words := strings.Fields(command)
				switch pattern := slices.Index(words, "-run"); {
				case words[0] == "make":
					targets(path, strings.Join(words[1:], " "))
				case words[0] == "go" && pattern > 0:
					pkg := words[slices.IndexFunc(words, func(w string) bool { return strings.HasPrefix(w, ".") })]
					out, err := run(root, "go", "test", "-list", words[pattern+1], pkg)
					assert.NoError(t, err, out)
					assert.Contains(t, out, "Test", "%s: no such test: %s", path, command)
				default:
					t.Errorf("%s:%d: no test runs: %s", path, b.line, command)
				}
			}
		}
	}
}

// The errors that README.md quotes are those of the code.
func TestQuotedErrors(t *testing.T) {
	_, symptoms, found := strings.Cut(read(t, "README.md"), "\n### By symptom\n")
	require.True(t, found)
	symptoms, _, _ = strings.Cut(symptoms, "\n## ")
	var sources strings.Builder
	require.NoError(t, filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(path, ".go") && !strings.HasSuffix(path, "_test.go") {
			rel, err := filepath.Rel(root, path)
			require.NoError(t, err)
			sources.WriteString(read(t, rel))
		}
		return err
	}))
	quoted := regexp.MustCompile("(?m)^\\| `([^`]* [^`]*)`")
	all := quoted.FindAllStringSubmatch(symptoms, -1)
	require.Greater(t, len(all), 4)
	for _, m := range all {
		said := strings.NewReplacer("10s", "%s", "1m0s", "%s", " ...", "").Replace(m[1])
		assert.True(t, strings.Contains(sources.String(), said), "no error says: %s", said)
	}
}
