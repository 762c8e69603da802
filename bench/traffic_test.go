package main

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wxtoken/wxtoken"
	"github.com/wxtoken/wxtoken/internal/servers"
	"github.com/wxtoken/wxtoken/wxtest"
)

// BenchmarkTraffic counts what a process that calls all the time asks of Redis. Let it take a minute.
func BenchmarkTraffic(b *testing.B) {
	base, redis := newPlatform(b, platformLatency).url, servers.Redis(b).Addr()
	for name, get := range map[string]getter{
		"wxtoken":    ours(wxtoken.NewFetcher(appID, secret, wxtoken.WithBaseURL(base)), redisCache(redis)),
		"silenceper": silenceper(base, "traffic", silenceperRedis(redis)),
	} {
		b.Run(name, func(b *testing.B) {
			call(get)
			before := commands(b, "redis", redis)
			for b.Loop() {
				call(get)
			}
			sent := float64(commands(b, "redis", redis) - before)
			b.ReportMetric(sent/float64(b.N), "commands/call")
			b.ReportMetric(sent/b.Elapsed().Minutes(), "commands/min")
		})
	}
}

// A counter counts the operations on a cache.
type counter struct {
	wxtoken.Cache
	operations atomic.Int64
}

func (c *counter) Get(ctx context.Context, key string) ([]byte, error) {
	c.operations.Add(1)
	return c.Cache.Get(ctx, key)
}

func (c *counter) CompareAndSwap(ctx context.Context, key string, old, new []byte, ttl time.Duration) (bool, error) {
	c.operations.Add(1)
	return c.Cache.CompareAndSwap(ctx, key, old, new, ttl)
}

// TestVirtual plays what would take days in the virtual time of testing/synctest, which only tests have: how often
// processes ask the cache and the platform. It writes its figures as a benchmark would.
func TestVirtual(t *testing.T) {
	const days = 48 * time.Hour
	for _, c := range []struct {
		processes, batch int
		every            time.Duration // each process makes a batch of calls
		length           time.Duration
	}{
		{8, 100, 10 * time.Millisecond, 10 * time.Minute}, {1, 1, 20 * time.Second, days}, {8, 1, 20 * time.Second, days}, {50, 1, 20 * time.Second, days},
	} {
		synctest.Test(t, func(t *testing.T) {
			p := wxtest.NewPlatform(wxtest.WithApp(appID, secret))
			p.Inject(wxtest.Latency(platformLatency))
			store := &counter{Cache: wxtoken.NewMemoryCache()}
			end := time.Now().Add(3*time.Minute + c.length)
			for i := range c.processes {
				get := ours(wxtoken.NewFetcher(appID, secret, wxtoken.WithHTTPClient(p.Client())), store)
				go func() {
					time.Sleep(c.every * time.Duration(i) / time.Duration(c.processes))
					for ; time.Now().Before(end); time.Sleep(c.every) {
						for range c.batch {
							call(get)
						}
					}
				}()
			}
			time.Sleep(3 * time.Minute) // the first fetch is over
			operations, fetches := store.operations.Load(), p.Stats().Fetches().Total()
			time.Sleep(c.length)
			perMinute := float64(store.operations.Load()-operations) / c.length.Minutes() / float64(c.processes)
			perDay := float64(p.Stats().Fetches().Total()-fetches) / (c.length.Hours() / 24)
			fmt.Printf("BenchmarkVirtual/processes=%d,each=%d,every=%v 1 %.3f operations/min", c.processes, c.batch, c.every, perMinute)
			if c.length > time.Hour {
				fmt.Printf(" %.3f fetches/day", perDay)
			}
			fmt.Println()
			time.Sleep(time.Minute) // the callers return
		})
	}
}
