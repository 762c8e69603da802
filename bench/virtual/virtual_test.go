// Package virtual measures, in the virtual time of testing/synctest, what would
// take days: how often a fleet of processes asks the cache and the platform.
package virtual

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/wxtoken/wxtoken"
	"github.com/wxtoken/wxtoken/wxtest"
)

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

// A run is a fleet of processes: Sources on one cache.
type run struct {
	processes int
	every     time.Duration // each process makes a batch of calls
	batch     int
	length    time.Duration
}

// play gives cache operations a minute for each process, and fetches a day,
// both without the first minutes, in which the first token is fetched.
func (r run) play(t *testing.T) (perMinute, perDay float64) {
	synctest.Test(t, func(t *testing.T) {
		platform := wxtest.NewPlatform(wxtest.WithApp("wx1", "secret"))
		platform.Inject(wxtest.Latency(50 * time.Millisecond))
		store := &counter{Cache: wxtoken.NewMemoryCache()}
		ctx, stop := context.WithCancel(t.Context())
		var all sync.WaitGroup
		for p := range r.processes {
			src := wxtoken.New(wxtoken.NewFetcher("wx1", "secret", wxtoken.WithHTTPClient(platform.Client())), store)
			all.Go(func() {
				time.Sleep(r.every * time.Duration(p) / time.Duration(r.processes))
				for ctx.Err() == nil {
					for range r.batch {
						tok, err := src.Token(context.Background())
						if err != nil || tok.Value == "" {
							t.Error("no token: ", err)
						}
					}
					time.Sleep(r.every)
				}
			})
		}
		time.Sleep(3 * time.Minute)
		operations, fetches := store.operations.Load(), platform.Stats().Fetches().Total()
		time.Sleep(r.length)
		operations, fetches = store.operations.Load()-operations, platform.Stats().Fetches().Total()-fetches
		stop()
		all.Wait()
		perMinute = float64(operations) / r.length.Minutes() / float64(r.processes)
		perDay = float64(fetches) / r.length.Hours() * 24
	})
	return perMinute, perDay
}

// Eight processes with 10,000 calls a second each.
func TestTrafficAtTenThousandCallsASecond(t *testing.T) {
	perMinute, _ := run{processes: 8, every: 10 * time.Millisecond, batch: 100, length: 10 * time.Minute}.play(t)
	fmt.Printf("figure busy 8 %.3f\n", perMinute)
	assert.LessOrEqual(t, perMinute, 2.5, "cache operations a minute and process")
}

func TestFetchesADay(t *testing.T) {
	const days = 2
	for _, processes := range []int{1, 8, 50} {
		t.Run(fmt.Sprint(processes), func(t *testing.T) {
			perMinute, perDay := run{processes: processes, every: 20 * time.Second, batch: 1, length: days * 24 * time.Hour}.play(t)
			fmt.Printf("figure days %d %.3f %.3f\n", processes, perMinute, perDay)
			require.GreaterOrEqual(t, perDay, 12.0)
			require.LessOrEqual(t, perDay, 13.0)
			assert.LessOrEqual(t, perMinute, 2.5, "cache operations a minute and process, rotations included")
		})
	}
}
