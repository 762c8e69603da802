package main

import (
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const sample = `took: 9m
something logged
BenchmarkHot/wxtoken/goroutines=1-2 1000 10 ns/op 0 allocs/op
BenchmarkHot/wxtoken/goroutines=10-2 1000 30 ns/op
BenchmarkHot/oauth2/goroutines=1-2 1000 40 ns/op
BenchmarkHot/wxtoken/goroutines=1-2 1000 12 ns/op 0 allocs/op
BenchmarkHot/oauth2/goroutines=1-2 1000 40 ns/op
BenchmarkProcesses/processes=1-2 1 2 lag-ms 1 fetches/op
BenchmarkProcesses/processes=1-2 1 4 lag-ms 2 fetches/op
BenchmarkProcesses/processes=2-2 1 5 lag-ms 1 fetches/op
BenchmarkHerd/wxtoken-redis-2 1 4.5 lag-ms
BenchmarkBuild/wxtoken-memory-2 1 6262 KB 262 KB-more
`

func TestDocument(t *testing.T) {
	r := read(t.TempDir(), []byte(sample))
	assert.Equal(t, []string{"wxtoken", "oauth2"}, r.Rows("Hot"))
	page, err := r.page()
	require.NoError(t, err)
	for _, row := range []string{
		"in 9m on",
		"| hot path, one goroutine ÷ x/oauth2 | ≤ 0.2 | 0.275 | **no** |",
		"| hot path, parallel ÷ x/oauth2 | ≤ 0.1 | – | – |",
		"| cold herd, redis: last caller after the platform's answer, ms | ≤ 6 | 4.5 | yes |",
		"| cold start, processes=1: fetches, most | 1 | 2 | **no** |",
		"| wxtoken-memory | 6262 | 262 | – |",
	} {
		assert.Contains(t, string(page), row)
	}
	for _, picture := range []string{"hot", "processes"} {
		assert.Contains(t, string(page), "(benchmarks/"+picture+".svg)")
		svg, err := os.ReadFile(r.pictures + "/" + picture + ".svg")
		require.NoError(t, err)
		assert.Contains(t, string(svg), "</svg>")
	}
	assert.Equal(t, "11 ± 9%", series{11, 10, 12, 11, 11, 11, 11, 11, 10, 12}.String())
}

// Each library in processes of its own, against the platform.
func TestShortRun(t *testing.T) {
	r := read("", []byte(output(os.Args[0], "-test.run=-", "-test.bench=Herd", "-test.benchtime=1x", "-test.short")))
	assert.Len(t, r.Rows("Herd"), 6)
	for _, row := range r.Rows("Herd") {
		assert.Equal(t, series{0}, r.Of("failed/op", "Herd", row), row)
		if strings.HasPrefix(row, "wxtoken") {
			assert.Equal(t, series{1}, r.Of("fetches/op", "Herd", row), row)
		}
	}
}
