package wxtoken_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/wxtoken/wxtoken"
)

// mortal is a process: once it is killed, it stores nothing, and what it fetches
// reaches nobody.
func mortal(f wxtoken.Fetcher, cache wxtoken.Cache, opts ...wxtoken.Option) (src *wxtoken.Source, kill func()) {
	c, dead := breakable(cache)
	return wxtoken.New(f, c, opts...), func() { dead.Store(true) }
}

// A fleet of processes that each live for a moment, one after the other.
type fleet struct {
	every, life, patience time.Duration
	waits                 bool // each ends with Wait
}

// run lets the fleet live for d, and returns the longest time in which no process
// that asked got a token.
func (fl fleet) run(t *testing.T, f wxtoken.Fetcher, cache wxtoken.Cache, d time.Duration) (worst time.Duration) {
	start := time.Now()
	last := start
	for time.Since(start) < d {
		src, kill := mortal(f, cache)
		born := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), fl.patience)
		if _, err := src.Token(ctx); err == nil {
			worst = max(worst, time.Since(last))
			last = time.Now()
		}
		cancel()
		if fl.waits {
			assert.NoError(t, src.Wait(t.Context()))
		} else {
			time.Sleep(fl.life - time.Since(born))
		}
		kill()
		time.Sleep(fl.every - time.Since(born))
	}
	return max(worst, time.Since(last))
}

func TestProcessesThatLiveForAMoment(t *testing.T) {
	for _, test := range []struct {
		fleet
		repeatable bool
	}{
		{fleet{every: 7 * time.Second, life: 2500 * time.Millisecond, patience: 2 * time.Second}, false},
		{fleet{every: 16 * time.Second, life: 14 * time.Second, patience: 5 * time.Second}, false},
		{fleet{every: 4 * time.Second, life: 3 * time.Second, patience: time.Second}, false},
		{fleet{every: 9 * time.Second, life: 2500 * time.Millisecond, patience: 2 * time.Second}, true},
		{fleet{every: 20 * time.Second, patience: 2 * time.Second, waits: true}, false},
	} {
		bubble(t, fmt.Sprintf("%s of every %s, repeatable=%v, waits=%v", test.life, test.every, test.repeatable, test.waits), func(t *testing.T) {
			f := &stub{latency: 700 * time.Millisecond, repeatable: test.repeatable}
			worst := test.run(t, f, wxtoken.NewMemoryCache(), 9*time.Hour)
			assert.LessOrEqual(t, worst, 30*time.Second+test.every)
			assert.LessOrEqual(t, f.fetches.Load(), int64(60*9/24))
			t.Logf("at most %s without a token, %d fetches", worst, f.fetches.Load())
		})
	}
}

// Each process is killed while it fetches, however often.
func TestProcessesThatAreKilledWhileTheyFetch(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		f, cache := &stub{latency: time.Second}, wxtoken.NewMemoryCache()
		for range 5 {
			src, kill := mortal(f, cache)
			ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
			_, err := src.Token(ctx)
			assert.Error(t, err)
			cancel()
			kill()
			time.Sleep(500 * time.Millisecond)
		}
		start := time.Now()
		token(t, wxtoken.New(f, cache))
		assert.LessOrEqual(t, time.Since(start), 18*time.Second, "the store drops the record, lease and all, after 17 s")
		assert.EqualValues(t, 2, f.fetches.Load())
	})
}

// The lease of a process that died, left by a version that gave its record an
// hour to live. No process lives long enough to see it abandoned.
func TestOrphanedLeaseAndShortLives(t *testing.T) {
	for _, record := range []string{
		`{"v":1,"epoch":"e","seq":0,"lease":"of a process that died"}`,
		`{"v":1,"epoch":"e","seq":3,"lease":"you.1","lease_for":22500,"owed":2}`,
		`{"v":1,"epoch":"e","seq":3,"token":"old","issued_at":1,"expires_at":2,"lease":"you.1","lease_for":4000}`,
	} {
		for _, life := range []time.Duration{2500 * time.Millisecond, 6 * time.Second} {
			bubble(t, fmt.Sprint(life, record), func(t *testing.T) {
				f, cache := &stub{latency: 300 * time.Millisecond}, wxtoken.NewMemoryCache()
				put(t, cache, []byte(record))
				start := time.Now()
				for f.fetches.Load() == 0 {
					born := time.Now()
					src, kill := mortal(f, cache)
					ctx, cancel := context.WithTimeout(t.Context(), life)
					_, _ = src.Token(ctx)
					time.Sleep(life - time.Since(born))
					cancel()
					kill()
					require.Less(t, time.Since(start), 40*time.Second)
				}
			})
		}
	}
}

// The lease says how long it lasts: anyone who has a shorter timeout waits for it.
func TestLeaseOfAProcessWithALongerTimeout(t *testing.T) {
	bubble(t, "is respected", func(t *testing.T) {
		f, cache, l := &stub{latency: 3 * time.Second}, wxtoken.NewMemoryCache(), &log{}
		long := wxtoken.New(f, cache, wxtoken.WithFetchTimeout(20*time.Second))
		short := wxtoken.New(&stub{latency: 500 * time.Millisecond, key: ""}, cache, l.option(), wxtoken.WithFetchTimeout(800*time.Millisecond))
		go long.Token(t.Context())
		synctest.Wait()
		start := time.Now()
		assert.Equal(t, "token-1", token(t, short))
		assert.InDelta(t, 3*time.Second, time.Since(start), float64(30*time.Millisecond))
		assert.Zero(t, l.count(wxtoken.EventTakeover))
	})
	bubble(t, "over a day, the shorter one takes none over, and has a token", func(t *testing.T) {
		f, cache, l := &stub{latency: 2500 * time.Millisecond}, wxtoken.NewMemoryCache(), &log{}
		srcs := []*wxtoken.Source{
			wxtoken.New(f, cache, l.option(), wxtoken.WithFetchTimeout(time.Second), wxtoken.WithRefreshAhead(8*time.Minute)), // tries first
			wxtoken.New(f, cache, l.option(), wxtoken.WithFetchTimeout(12*time.Second)),
		}
		time.Sleep(time.Second)
		token(t, srcs[1])
		for start := time.Now(); time.Since(start) < 24*time.Hour; time.Sleep(9 * time.Second) {
			for _, src := range srcs {
				token(t, src)
			}
		}
		assert.Zero(t, l.count(wxtoken.EventTakeover))
		assert.LessOrEqual(t, f.fetches.Load(), int64(40), "each that times out is followed by two")
		t.Logf("%d fetches", f.fetches.Load())
	})
}

// Each takeover without a token in between waits longer, even where the store
// loses the record together with the lease.
func TestLeasesGrow(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		cache, want := wxtoken.NewMemoryCache(), 15_000.0
		for range 10 {
			f := &stub{latency: time.Hour} // its process dies before
			src, kill := mortal(f, cache)
			for f.fetches.Load() == 0 {
				ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
				_, _ = src.Token(ctx)
				cancel()
				time.Sleep(10 * time.Millisecond)
			}
			assert.InDelta(t, want, recordOf(t, cache)["lease_for"], 10)
			want = min(want*1.5, 300_000)
			kill()
		}
		assert.Equal(t, 300_000.0, want)
	})
	bubble(t, "a store that keeps no token is asked less and less often", func(t *testing.T) {
		l, fetches := &log{}, 0
		f := wxtoken.FetcherFunc("stub", func(context.Context) (wxtoken.Token, error) {
			fetches++
			return wxtoken.Token{Value: strings.Repeat("t", 512), ExpiresAt: time.Now().Add(2 * time.Hour)}, nil
		})
		store := &smallCache{wxtoken.NewMemoryCache(), 400}
		src := wxtoken.New(f, store, l.option())
		count := func(d time.Duration) int {
			before := fetches
			for start := time.Now(); time.Since(start) < d; time.Sleep(20 * time.Second) {
				_, _ = src.Token(t.Context())
			}
			return fetches - before
		}
		assert.InDelta(t, 9, count(17*time.Minute), 2)
		assert.InDelta(t, 12, count(time.Hour), 2, "every five minutes: 300 a day")
		assert.Positive(t, l.count(wxtoken.EventCacheError))
	})
}

// A smallCache refuses values of more than largest bytes.
type smallCache struct {
	wxtoken.Cache
	largest int
}

func (c *smallCache) CompareAndSwap(ctx context.Context, key string, old, new []byte, ttl time.Duration) (bool, error) {
	if len(new) > c.largest {
		return false, errors.New("object too large for cache")
	}
	return c.Cache.CompareAndSwap(ctx, key, old, new, ttl)
}

// A swap that timed out takes effect when nobody waits for it any more.
func TestLeaseThatComesLate(t *testing.T) {
	bubble(t, "is free for its own process, and no takeover", func(t *testing.T) {
		f, l, store := &stub{}, &log{}, wxtoken.NewMemoryCache()
		cache := &faultyCache{Cache: store}
		var late atomic.Bool
		cache.swap = func(ctx context.Context) error {
			if late.CompareAndSwap(true, false) {
				<-ctx.Done()
				return ctx.Err()
			}
			return nil
		}
		src := wxtoken.New(f, &lateCache{cache, &late, 9 * time.Second}, l.option())
		late.Store(true)
		ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second)
		defer cancel()
		_, _ = src.Token(ctx)
		for start := time.Now(); time.Since(start) < 5*time.Minute; time.Sleep(time.Second) {
			_, _ = src.Token(t.Context())
		}
		assert.Zero(t, l.count(wxtoken.EventTakeover))
		assert.Equal(t, "token-1", token(t, src))
		assert.NotContains(t, recordOf(t, store), "owed")
		assert.NotContains(t, recordOf(t, store), "lease")
		assert.EqualValues(t, 1, f.fetches.Load())
	})
}

// A lateCache lets one swap take effect late, long after it has failed.
type lateCache struct {
	wxtoken.Cache
	armed *atomic.Bool
	after time.Duration
}

func (c *lateCache) CompareAndSwap(ctx context.Context, key string, old, new []byte, ttl time.Duration) (bool, error) {
	if !c.armed.Load() {
		return c.Cache.CompareAndSwap(ctx, key, old, new, ttl)
	}
	time.AfterFunc(c.after, func() { _, _ = c.Cache.CompareAndSwap(context.Background(), key, old, new, ttl) })
	return c.Cache.CompareAndSwap(ctx, key, old, new, ttl)
}

// A young process leaves a usable token to others, and replaces an expired one.
func TestYoungProcess(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		f, cache := &stub{}, wxtoken.NewMemoryCache()
		token(t, wxtoken.New(f, cache))
		time.Sleep(119*time.Minute + 40*time.Second)
		young := wxtoken.New(f, cache)
		for start := time.Now(); time.Since(start) < 14*time.Second; time.Sleep(time.Second) {
			require.Equal(t, "token-1", token(t, young))
		}
		assert.EqualValues(t, 1, f.fetches.Load())
		time.Sleep(7 * time.Second) // it has expired
		assert.Equal(t, "token-2", token(t, wxtoken.New(f, cache)))
	})
	bubble(t, "while processes come and go, callers get the token until it expires, and wait once", func(t *testing.T) {
		random := rand.New(rand.NewPCG(1, 2))
		f, cache := &stub{latency: 400 * time.Millisecond, lifetime: 20 * time.Minute}, wxtoken.NewMemoryCache()
		waits := 0
		for start := time.Now(); time.Since(start) < 5*time.Hour; {
			src, kill := mortal(f, cache)
			for end := time.Now().Add(time.Duration(1+random.IntN(9)) * time.Second); time.Now().Before(end); time.Sleep(300 * time.Millisecond) {
				before := time.Now()
				token(t, src)
				if time.Since(before) > 0 {
					waits++
				}
			}
			require.NoError(t, src.Wait(t.Context()))
			kill()
		}
		assert.Equal(t, 15, waits, "once for each token")
		assert.EqualValues(t, 15, f.fetches.Load())
	})
}

// While a process fetches for a repeatable token, another may follow a second later.
func TestLeaseOfARepeatableFetcher(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		cache := wxtoken.NewMemoryCache()
		src, kill := mortal(&stub{latency: time.Minute, repeatable: true}, cache)
		go src.Token(context.Background())
		synctest.Wait()
		assert.EqualValues(t, 1000, recordOf(t, cache)["lease_for"])
		kill()
		start, f := time.Now(), &stub{repeatable: true}
		token(t, wxtoken.New(f, cache))
		assert.InDelta(t, time.Second, time.Since(start), float64(30*time.Millisecond))
		assert.NotContains(t, recordOf(t, cache), "owed")
		assert.EqualValues(t, 1, f.fetches.Load())
	})
}
