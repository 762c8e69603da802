package main

import (
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/wxtoken/wxtoken/internal/servers"
)

func TestMain(m *testing.M) {
	if os.Getenv(workerEnv) != "" {
		work()
		return
	}
	os.Exit(m.Run())
}

func TestSeries(t *testing.T) {
	s := series{4, 1, 3}
	assert.Equal(t, 1.0, s.min())
	assert.Equal(t, 3.0, s.median())
	assert.Equal(t, 2.5, median([]float64{4, 1, 3, 2}))
	assert.Equal(t, series{2, 1, 0.5}, s.over(series{2, 1, 6}), "each in its own round")
}

func TestInterleave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sleeper := func(d time.Duration) func(int) { return func(n int) { time.Sleep(time.Duration(n) * d) } }
		measured := method{rounds: 3, tries: 2, each: time.Millisecond, goroutines: 2}.interleave([]subject{{"fast", sleeper(10)}, {"slow", sleeper(1000)}})
		assert.Equal(t, []series{{5, 5, 5}, {500, 500, 500}}, measured, "two goroutines at once")
	})
}

func TestDigits(t *testing.T) {
	for v, want := range map[float64]string{0: "0", 0.0314: "0.031", 1: "1.00", 12.34: "12.3", 999.6: "1,000", 1234567: "1,234,567"} {
		assert.Equal(t, want, digits(v))
	}
}

func TestEverySubjectHandsOutItsToken(t *testing.T) {
	for _, s := range cached(servers.Redis(t).Addr(), filepath.Join(t.TempDir(), "fastwego")) {
		assert.NotPanics(t, func() { s.run(2) }, s.name)
	}
}

// Each library in processes of its own, against the platform.
func TestStampede(t *testing.T) {
	program := new(servers.Program)
	t.Cleanup(program.Close)
	b := &bench{servers: program, quick: true}
	redis, memcached := servers.Redis(t).Addr(), servers.Memcached(t).Addr()
	for _, c := range []struct {
		library, store, addr string
		fetches              int
	}{
		{"wxtoken", "redis", redis, 1}, {"wxtoken", "memcached", memcached, 1},
		{"silenceper", "redis", redis, 0}, {"silenceper", "memcached", memcached, 0}, {"weapp", "", "", 0}, {"fastwego", "", "", 2},
	} {
		p := b.platform(platformLatency)
		f := b.fleet(2, setup{Library: c.library, Store: c.store, Addr: c.addr, Platform: p.url})
		st := f.stampede(p, 3)
		f.stop()
		assert.Zero(t, st.failed, c)
		assert.Positive(t, st.fetches, c)
		if c.fetches > 0 {
			assert.Equal(t, c.fetches, st.fetches, c)
		}
		assert.Less(t, st.lag, time.Minute, c)
	}
}

func TestReport(t *testing.T) {
	s := &section{title: "T", command: "c"}
	s.table([]string{"a", "b"}, [][]string{{"1", "2"}})
	s.expect(false, "speed", "≤ 1", "2")
	assert.Equal(t, []string{"| a | b |\n| --- | --: |\n| 1 | 2 |"}, s.parts)
	assert.Contains(t, summary([]*section{s}), "| speed | ≤ 1 | 2 | **no** |")
	b := &bench{servers: new(servers.Program), pictures: t.TempDir()}
	line := curve{name: "line"}
	line.add(1, 10)
	line.add(10, 20)
	for _, path := range []string{
		b.curves("curves", "title", "x", "y", []curve{line}),
		b.dots("dots", "title", [2]string{"left", "right"}, []pair{{"**one**", 1, 2}}),
	} {
		svg, err := os.ReadFile(path)
		require.NoError(t, err)
		assert.Contains(t, string(svg), "</svg>")
	}
}
