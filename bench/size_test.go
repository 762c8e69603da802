package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/wxtoken/wxtoken"
)

// BenchmarkFootprint weighs Sources that nobody calls, each of an app of its own: live heap and goroutines for each. It
// also measures what New, the first call, which fetches, and a hot call of each in turn take.
func BenchmarkFootprint(b *testing.B) {
	n := size(100_000, 1000)
	names, fetchers, sources := make([]string, n), make([]wxtoken.Fetcher, n), make([]*wxtoken.Source, n)
	report := func(after, before int, unit string) { b.ReportMetric(max(0, float64(after-before)/float64(n)), unit) }
	each := func(unit string, do func(i int)) {
		start := time.Now()
		for i := range n {
			do(i)
		}
		report(int(time.Since(start)), 0, unit)
	}
	token := func(i int) {
		_, err := sources[i].Token(context.Background())
		require.NoError(b, err)
	}
	for b.Loop() {
		each("ns/name", func(i int) { names[i] = fmt.Sprintf("wx%016d", i) })
		before := heap()
		each("ns/fetcher", func(i int) { fetchers[i] = wxtoken.NewFetcher(names[i], secret) })
		report(heap(), before, "B/fetcher")
		each("ns/fetcher", func(i int) { fetchers[i] = fetcher(names[i], twoHours) })
		cache := &counter{Cache: wxtoken.NewMemoryCache()}
		goroutines := runtime.NumGoroutine()
		before = heap()
		each("ns/New", func(i int) { sources[i] = wxtoken.New(fetchers[i], cache, wxtoken.WithLocalAge(5*time.Second)) })
		report(heap(), before, "B/unused")
		each("ns/first", token)
		each("ns/hot", token)
		time.Sleep(6 * time.Second) // no copy is fresh, and no timer left
		full := heap()
		cache.Cache = nil // only the Sources are left
		light := heap()
		report(light, before, "B/used")
		report(full, light, "B/record")
		report(runtime.NumGoroutine(), goroutines, "goroutines")
	}
	runtime.KeepAlive(sources)
}

func heap() int {
	runtime.GC()
	runtime.GC() // the first may still be sweeping
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return int(stats.HeapAlloc)
}

// Programs that get a token from one expression.
var programs = []struct{ name, imports, token string }{
	{"bare", `"encoding/json"; "net/http"`, `func() (answer struct{ ExpiresIn int }, err error) {
		resp, err := http.Get("https://api.weixin.qq.com/cgi-bin/token?appid=" + id + "&secret=" + secret)
		if err == nil {
			err = json.NewDecoder(resp.Body).Decode(&answer)
		}
		return answer, err
	}()`},
	{"wxtoken-memory", `"context"; "github.com/wxtoken/wxtoken"`,
		`wxtoken.New(wxtoken.NewFetcher(id, secret), wxtoken.NewMemoryCache()).Token(context.Background())`},
	{"wxtoken-redis", `"context"; "github.com/wxtoken/wxtoken"; "github.com/redis/go-redis/v9"`,
		`wxtoken.New(wxtoken.NewFetcher(id, secret), wxtoken.NewRedisCache(redis.NewClient(&redis.Options{}))).Token(context.Background())`},
	{"silenceper-memory", `"github.com/silenceper/wechat/v2/cache"; "github.com/silenceper/wechat/v2/credential"`,
		`credential.NewDefaultAccessToken(id, secret, "app", cache.NewMemory()).GetAccessToken()`},
	{"weapp-memory", `"github.com/medivhzhan/weapp/v3"`, `weapp.NewClient(id, secret).AccessToken()`},
	{"fastwego-file", `"github.com/fastwego/offiaccount"`,
		`offiaccount.GetAccessToken(offiaccount.New(offiaccount.Config{Appid: id, Secret: secret}))`},
}

// BenchmarkBuild builds the programs with an empty build cache, and weighs them.
func BenchmarkBuild(b *testing.B) {
	var bare int64
	for _, program := range programs[:size(len(programs), 2)] {
		b.Run(program.name, func(b *testing.B) {
			b.Setenv("CGO_ENABLED", "0")
			dir := b.TempDir()
			source, binary := filepath.Join(dir, "main.go"), filepath.Join(dir, "program")
			text := fmt.Sprintf("package main\nimport (\"fmt\"; \"os\"; %s)\nfunc main() {\nid, secret := os.Getenv(\"ID\"), os.Getenv(\"SECRET\")\nfmt.Println(%s)\n}\n",
				program.imports, program.token)
			require.NoError(b, os.WriteFile(source, []byte(text), 0o600))
			for i := 0; b.Loop(); i++ {
				b.Setenv("GOCACHE", filepath.Join(dir, fmt.Sprint("cache", i)))
				output("go", "build", "-trimpath", "-ldflags=-s -w", "-o", binary, source)
			}
			info, err := os.Stat(binary)
			require.NoError(b, err)
			if bare == 0 {
				bare = info.Size()
			}
			modules, packages := map[string]bool{}, strings.Fields(output("go", "list", "-deps", "-f", "{{with .Module}}{{.Path}}{{end}}", source))
			for _, module := range packages {
				modules[module] = true
			}
			b.ReportMetric(b.Elapsed().Seconds()/float64(b.N), "s/build")
			b.ReportMetric(float64(info.Size())/1000, "KB")
			b.ReportMetric(float64(info.Size()-bare)/1000, "KB-more")
			b.ReportMetric(float64(len(modules)), "modules")
			b.ReportMetric(float64(len(packages)), "packages")
		})
	}
}
