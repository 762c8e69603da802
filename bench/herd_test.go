package main

import (
	"fmt"
	"io"
	"net"
	"regexp"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/wxtoken/wxtoken/internal/servers"
)

const platformLatency = 50 * time.Millisecond

// BenchmarkHerd measures a cold start: there is no token, and 500 callers in each of 8 processes ask at once.
func BenchmarkHerd(b *testing.B) {
	redis, memcached := servers.Redis(b).Addr(), servers.Memcached(b, "-c", "16384").Addr()
	for _, w := range []worker{
		{Library: "wxtoken", Store: "redis", Addr: redis}, {Library: "wxtoken", Store: "memcached", Addr: memcached},
		{Library: "silenceper", Store: "redis", Addr: redis}, {Library: "silenceper", Store: "memcached", Addr: memcached},
		{Library: "weapp", Store: "memory"}, {Library: "fastwego", Store: "file"},
	} {
		b.Run(w.Library+"-"+w.Store, func(b *testing.B) { herd(b, w, 8, size(500, 50)) })
	}
}

// BenchmarkProcesses measures a cold start of 1 to 32 processes with 100 callers each.
func BenchmarkProcesses(b *testing.B) {
	w := worker{Library: "wxtoken", Store: "redis", Addr: servers.Redis(b).Addr()}
	for n := 1; n <= size(32, 4); n *= 2 {
		b.Run(fmt.Sprint("processes=", n), func(b *testing.B) { herd(b, w, n, 100) })
	}
}

// herd reports what came of a cold start, on average over b.N of them.
func herd(b *testing.B, w worker, processes, callers int) {
	p := newPlatform(b, platformLatency)
	w.Callers = callers
	var sum stampede
	for b.Loop() {
		w.start(b, p, processes, &sum)
	}
	report := func(v float64, unit string) { b.ReportMetric(v/float64(b.N), unit) }
	report(float64(sum.fetches), "fetches/op")
	report(float64(sum.failed), "failed/op")
	report(float64(sum.stale), "stale/op")
	report(float64(sum.lag)/1e6, "lag-ms")
	report(float64(sum.commands)/float64(processes), "commands/process")
}

var counted = map[string]struct {
	ask   string
	count *regexp.Regexp
}{
	"redis":     {"INFO commandstats\r\nQUIT\r\n", regexp.MustCompile(`cmdstat_(?:get|set|setnx|eval|evalsha):calls=(\d+)`)},
	"memcached": {"stats\r\nquit\r\n", regexp.MustCompile(`STAT cmd_(?:get|set|touch) (\d+)`)},
}

// commands returns how many commands on keys a store has counted, 0 where there is no server. A swap of wxtoken on Redis
// is one EVALSHA; the GET and SET in it count as well.
func commands(tb testing.TB, store, addr string) int {
	how, ok := counted[store]
	if !ok {
		return 0
	}
	conn, err := net.Dial("tcp", addr)
	require.NoError(tb, err)
	defer conn.Close()
	fmt.Fprint(conn, how.ask)
	text, err := io.ReadAll(conn)
	require.NoError(tb, err)
	total := 0
	for _, m := range how.count.FindAllSubmatch(text, -1) {
		n, err := strconv.Atoi(string(m[1]))
		require.NoError(tb, err)
		total += n
	}
	return total
}
