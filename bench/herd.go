package main

import (
	"fmt"
	"slices"
	"time"

	"github.com/wxtoken/wxtoken/internal/servers"
)

const (
	herdProcesses = 8
	herdCallers   = 500
)

// herd measures a cold start: no token anywhere, and everybody asks at once.
func (b *bench) herd() *section {
	s := &section{title: "A cold herd", command: b.commandFor("herd")}
	redis, memcached := servers.Redis(b.servers).Addr(), servers.Memcached(b.servers, "-c", "16384").Addr()
	callers := b.scale(herdCallers, 50)
	s.text("%d processes with %d callers each start at the same moment on an empty key; the platform takes %v to answer. "+
		"Lag is the time from the platform's last answer to the last of all callers served. "+
		"A process is stale if one of its callers got a token that was superseded already.",
		herdProcesses, callers, platformLatency)
	var rows [][]string
	for _, c := range []struct {
		library, store, addr string
		rounds               int
	}{
		{"wxtoken", "redis", redis, b.scale(25, 2)},
		{"wxtoken", "memcached", memcached, b.scale(25, 2)},
		{"silenceper", "redis", redis, b.scale(10, 1)},
		{"silenceper", "memcached", memcached, b.scale(10, 1)},
		{"weapp", "", "", b.scale(5, 1)},
		{"fastwego", "", "", b.scale(5, 1)},
	} {
		p := b.platform(platformLatency)
		f := b.fleet(herdProcesses, setup{Library: c.library, Store: c.store, Addr: c.addr, Platform: p.url})
		f.stampede(p, 1) // connections are made, and code is paged in
		var runs []stampede
		for range c.rounds {
			runs = append(runs, f.stampede(p, callers))
		}
		f.stop()
		rows = append(rows, herdRow(c.library, c.store, runs))
		if c.library == "wxtoken" {
			s.expectHerd(c.store, runs)
		}
	}
	s.table([]string{"", "rounds", "fetches, min / median / max", "rounds with 1 fetch", "stale processes, max", "failed calls",
		"lag ms, min / median / max"}, rows)
	s.text("Not to be downloaded as modules, so measured elsewhere, 1,000 callers of 4 sources on one Redis: " +
		"PowerWeChat v3.2.58 757 fetches; chanxuehong 3ccc67d 1,000; lixinio 0.8.6 one fetch, after 14 to 20 s.")
	return s
}

func herdRow(library, store string, runs []stampede) []string {
	var fetches, lags series
	stale, failed := 0, 0
	for _, r := range runs {
		fetches = append(fetches, float64(r.fetches))
		lags = append(lags, float64(r.lag)/1e6)
		stale, failed = max(stale, r.stale), failed+r.failed
	}
	name := library
	if name == "wxtoken" {
		name = nameOurs
	}
	if store != "" {
		name += ", " + store
	}
	return []string{name, fmt.Sprint(len(runs)), spreadOf(fetches), fmt.Sprint(single(runs)), fmt.Sprint(stale), thousands(failed), spreadOf(lags)}
}

func single(runs []stampede) int {
	n := 0
	for _, r := range runs {
		if r.fetches == 1 {
			n++
		}
	}
	return n
}

func spreadOf(values series) string {
	return digits(values.min()) + " / " + digits(values.median()) + " / " + digits(slices.Max(values))
}

func (s *section) expectHerd(store string, runs []stampede) {
	var lags series
	for _, r := range runs {
		lags = append(lags, float64(r.lag))
	}
	ones, failed := single(runs), 0
	for _, r := range runs {
		failed += r.failed
	}
	s.expect(ones == len(runs), "cold herd on "+store+": rounds with one fetch",
		fmt.Sprintf("%d of %[1]d", len(runs)), fmt.Sprintf("%d of %d", ones, len(runs)))
	s.expect(failed == 0, "cold herd on "+store+": failed calls", "0", fmt.Sprint(failed))
	lag := time.Duration(lags.median())
	s.expect(lag <= 60*time.Millisecond, "cold herd on "+store+": last caller after the platform's answer (median)",
		"≤ 60 ms", lag.Round(100*time.Microsecond).String())
}
