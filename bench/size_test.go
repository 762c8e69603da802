package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/wxtoken/wxtoken"
)

// BenchmarkFootprint weighs Sources that nobody calls, each of an app of its own: live heap and goroutines for each.
func BenchmarkFootprint(b *testing.B) {
	n := size(100_000, 1000)
	names, fetchers, sources := make([]string, n), make([]wxtoken.Fetcher, n), make([]*wxtoken.Source, n)
	for i := range names {
		names[i] = fmt.Sprintf("wx%016d", i)
	}
	report := func(after, before int, unit string) { b.ReportMetric(max(0, float64(after-before)/float64(n)), unit) }
	for b.Loop() {
		before := heap()
		for i, name := range names {
			fetchers[i] = wxtoken.NewFetcher(name, secret)
		}
		report(heap(), before, "B/fetcher")
		for i, name := range names {
			fetchers[i] = fetcher(name, twoHours)
		}
		cache := &emptied{Cache: wxtoken.NewMemoryCache()}
		goroutines := runtime.NumGoroutine()
		before = heap()
		for i, f := range fetchers {
			sources[i] = wxtoken.New(f, cache, wxtoken.WithLocalAge(5*time.Second))
		}
		report(heap(), before, "B/unused")
		for _, src := range sources {
			_, err := src.Token(context.Background())
			require.NoError(b, err)
		}
		time.Sleep(6 * time.Second) // no copy is fresh, and no timer left
		full := heap()
		cache.Cache = nil
		light := heap()
		report(light, before, "B/used")
		report(full, light, "B/record")
		report(runtime.NumGoroutine(), goroutines, "goroutines")
	}
	runtime.KeepAlive(sources)
}

// emptied is a cache that can be taken away, to weigh the rest.
type emptied struct{ wxtoken.Cache }

func heap() int {
	runtime.GC()
	runtime.GC() // the first may still be sweeping
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return int(stats.HeapAlloc)
}

// BenchmarkBuild builds the programs of the directory of that name with an empty build cache, and weighs them.
func BenchmarkBuild(b *testing.B) {
	for _, program := range []string{"bare", "standard", "memory", "redis", "silenceper", "weapp", "fastwego"}[:size(7, 2)] {
		b.Run(program, func(b *testing.B) {
			pkg, dir := "./programs/"+program, b.TempDir()
			binary := filepath.Join(dir, "program")
			for i := 0; b.Loop(); i++ {
				cache := "GOCACHE=" + filepath.Join(dir, fmt.Sprint("cache", i))
				goTool(b, cache, "build", "-trimpath", "-ldflags=-s -w", "-o", binary, pkg)
			}
			info, err := os.Stat(binary)
			require.NoError(b, err)
			modules, packages := map[string]bool{}, 0
			for module := range strings.FieldsSeq(goTool(b, "", "list", "-deps", "-f", "{{if .Module}}{{.Module.Path}}{{end}}", pkg)) {
				if module != "github.com/wxtoken/wxtoken/bench" {
					modules[module] = true
					packages++
				}
			}
			b.ReportMetric(b.Elapsed().Seconds()/float64(b.N), "s/build")
			b.ReportMetric(float64(info.Size())/1000, "KB")
			b.ReportMetric(float64(len(modules)), "modules")
			b.ReportMetric(float64(packages), "packages")
		})
	}
}

func goTool(b *testing.B, env string, args ...string) string {
	cmd := exec.Command("go", args...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", env)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	require.NoError(b, err)
	return string(out)
}
