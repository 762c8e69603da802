package main

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"time"

	"github.com/wxtoken/wxtoken"
)

// footprint measures what a Source costs that nobody calls.
func (b *bench) footprint() *section {
	s := &section{title: "Footprint of idle Sources", command: b.commandFor("footprint")}
	count := b.scale(100_000, 1000)
	f := weigh(count)
	s.text("%s Sources, each of an app of its own, on one cache. Bytes are live heap after a garbage collection, for each Source. "+
		"Used once means: Token was called, the token fetched, and the time passed in which a copy counts as fresh "+
		"(WithLocalAge is 5 s here, so that this does not take longer). Then no timer is left.", thousands(count))
	s.table([]string{"", "bytes", "goroutines"}, [][]string{
		{"a Source, never used", digits(f.fresh), digits(f.freshGoroutines)},
		{"a Source, used once, with the token and all that it remembers", digits(f.used), digits(f.usedGoroutines)},
		{"its HTTPFetcher, in addition", digits(f.fetcher), "0"},
		{"its record in a MemoryCache, in addition", digits(f.record), "0"},
	})
	s.expect(f.fresh <= 1024, fmt.Sprintf("footprint: bytes per Source of %s, never used", thousands(count)), "≤ 1,024", digits(f.fresh))
	s.expect(f.used <= 1024, fmt.Sprintf("footprint: bytes per Source of %s, used once", thousands(count)), "≤ 1,024", digits(f.used))
	s.expect(f.freshGoroutines == 0 && f.usedGoroutines == 0, "footprint: goroutines per idle Source", "0", digits(f.usedGoroutines))
	return s
}

// A weight is bytes, or goroutines, for one Source of many.
type weight struct {
	fetcher, fresh, used, record    float64
	freshGoroutines, usedGoroutines float64
}

func weigh(count int) weight {
	var w weight
	per := func(after, before int) float64 { return max(0, float64(after-before)/float64(count)) }
	names, fetchers := make([]string, count), make([]wxtoken.Fetcher, count)
	for i := range names {
		names[i] = fmt.Sprintf("wx%016d", i)
	}
	before := heap()
	for i, name := range names {
		fetchers[i] = wxtoken.NewFetcher(name, secret)
	}
	w.fetcher = per(heap(), before)
	for i, name := range names {
		fetchers[i] = wxtoken.FetcherFunc(name, freshToken)
	}
	cache := &emptied{Cache: wxtoken.NewMemoryCache()}
	sources := make([]*wxtoken.Source, count)
	goroutines := runtime.NumGoroutine()
	before = heap()
	for i := range sources {
		sources[i] = wxtoken.New(fetchers[i], cache, wxtoken.WithLocalAge(5*time.Second))
	}
	w.fresh = per(heap(), before)
	w.freshGoroutines = per(runtime.NumGoroutine(), goroutines)
	for _, src := range sources {
		_, err := src.Token(context.Background())
		check(err == nil)
	}
	time.Sleep(6 * time.Second)
	full := heap()
	cache.Cache = nil
	light := heap()
	w.used, w.record = per(light, before), per(full, light)
	w.usedGoroutines = per(runtime.NumGoroutine(), goroutines)
	runtime.KeepAlive(sources)
	runtime.KeepAlive(fetchers)
	return w
}

// emptied is a cache that can be taken away, to weigh the rest.
type emptied struct{ wxtoken.Cache }

// freshToken gives each app a token of its own, as long as the platform's.
func freshToken(context.Context) (wxtoken.Token, error) {
	return wxtoken.Token{Value: strings.Clone(someToken), ExpiresAt: inTwoHours()}, nil
}

func heap() int {
	runtime.GC()
	runtime.GC() // the first may still be sweeping
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return int(stats.HeapAlloc)
}
