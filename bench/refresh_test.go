package main

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/wxtoken/wxtoken"
	"github.com/wxtoken/wxtoken/internal/servers"
)

const (
	refreshLatency = 200 * time.Millisecond  // of the platform; a call that takes half of it has waited for it
	refreshLife    = 2400 * time.Millisecond // of a token
	refreshAhead   = refreshLife / 4
)

// BenchmarkRefresh measures what 50 callers see of a token's replacement, which is one operation.
func BenchmarkRefresh(b *testing.B) {
	redis := servers.Redis(b).Addr()
	for _, l := range []struct {
		name string
		make func(f fetch) getter
	}{
		{"wxtoken", func(f fetch) getter {
			return ours(fetcher("rotating", f), redisCache(redis), wxtoken.WithRefreshAhead(refreshAhead),
				wxtoken.WithLocalAge(300*time.Millisecond), wxtoken.WithFetchTimeout(time.Second))
		}},
		{"google", func(f fetch) getter { return google(f, refreshAhead) }},
		{"aws", func(f fetch) getter { return amazon(f, refreshAhead) }},
		{"oauth2", func(f fetch) getter { return xoauth2(f, refreshAhead) }},
	} {
		b.Run(l.name, func(b *testing.B) {
			var fetches, calls, waited, worst atomic.Int64
			get := l.make(func() (string, time.Time) {
				expires := time.Now().Add(refreshLife)
				time.Sleep(refreshLatency)
				return fmt.Sprint("token-", fetches.Add(1)), expires
			})
			call(get)
			last := fetches.Load() + int64(b.N)
			b.ResetTimer()
			var callers sync.WaitGroup
			for range 50 {
				callers.Go(func() {
					for ; fetches.Load() < last; time.Sleep(time.Millisecond) {
						start := time.Now()
						call(get)
						took := int64(time.Since(start))
						calls.Add(1)
						if took > int64(refreshLatency/2) {
							waited.Add(1)
						}
						for w := worst.Load(); took > w && !worst.CompareAndSwap(w, took); w = worst.Load() {
						}
					}
				})
			}
			callers.Wait()
			b.ReportMetric(float64(calls.Load())/float64(b.N), "calls/op")
			b.ReportMetric(float64(waited.Load())/float64(b.N), "waited/op")
			b.ReportMetric(float64(worst.Load())/1e6, "worst-ms")
		})
	}
}
