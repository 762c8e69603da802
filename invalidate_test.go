package wxtoken_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/wxtoken/wxtoken"
)

func TestInvalidate(t *testing.T) {
	// a Source with a token that is a minute old
	aMinuteOld := func(t *testing.T) (*wxtoken.Source, *countingFetcher, *log) {
		f, l := &countingFetcher{latency: 50 * time.Millisecond}, &log{}
		src := wxtoken.New(f, nil, l.option())
		token(t, src)
		time.Sleep(time.Minute)
		return src, f, l
	}
	bubble(t, "an old value has no effect", func(t *testing.T) {
		src, f, _ := aMinuteOld(t)
		require.NoError(t, src.Invalidate(t.Context(), "another"))
		require.NoError(t, src.Invalidate(t.Context(), ""))
		assert.Equal(t, "token-1", token(t, src))
		assert.EqualValues(t, 1, f.fetches.Load())
	})
	bubble(t, "a thousand reports cause one fetch", func(t *testing.T) {
		src, f, l := aMinuteOld(t)
		together(1000, func(int) {
			assert.NoError(t, src.Invalidate(t.Context(), "token-1"))
			assert.Equal(t, "token-2", token(t, src))
		})
		assert.EqualValues(t, 2, f.fetches.Load())
		assert.Equal(t, 1, l.count(wxtoken.EventReject))
	})

	bubble(t, "a process that has just started is believed", func(t *testing.T) {
		f, cache := &countingFetcher{}, wxtoken.NewMemoryCache()
		token(t, wxtoken.New(f, cache))
		time.Sleep(time.Minute)
		src := wxtoken.New(f, cache)
		require.NoError(t, src.Invalidate(t.Context(), "token-1"))
		assert.EqualValues(t, 1, f.fetches.Load(), "a report is no fetch")
		assert.Equal(t, "token-2", token(t, src))
	})
	bubble(t, "another process's newer token is adopted", func(t *testing.T) {
		f, cache := &countingFetcher{}, wxtoken.NewMemoryCache()
		a, b := wxtoken.New(f, cache), wxtoken.New(f, cache)
		token(t, a)
		token(t, b)
		age(t)
		require.NoError(t, a.Invalidate(t.Context(), "token-1"))
		assert.Equal(t, "token-2", token(t, a))
		assert.Equal(t, "token-1", token(t, b))
		require.NoError(t, b.Invalidate(t.Context(), "token-1"))
		assert.Equal(t, "token-2", token(t, b))
		assert.EqualValues(t, 2, f.fetches.Load())
	})

	bubble(t, "several tokens at once are each decided on", func(t *testing.T) {
		f, cache := &countingFetcher{}, wxtoken.NewMemoryCache()
		token(t, wxtoken.New(f, cache))
		age(t)
		src := wxtoken.New(f, slow(cache, 50*time.Millisecond)) // holds no token yet
		together(3, func(i int) {
			time.Sleep(time.Duration(i) * time.Millisecond)
			assert.NoError(t, src.Invalidate(t.Context(), fmt.Sprint("token-", i)))
		})
		assert.Equal(t, "token-2", token(t, src))
	})
}

// From this age on, the rejection of a token is believed, by how many were
// rejected in a row before it.
func TestAgeFromWhichARejectionIsBelieved(t *testing.T) {
	bubble(t, "a tenth of the fetch timeout at first", func(t *testing.T) {
		l := &log{}
		src := wxtoken.New(&countingFetcher{}, nil, l.option(), wxtoken.WithFetchTimeout(6*time.Second))
		for n, from := range []time.Duration{600 * time.Millisecond, 12 * time.Second, 24 * time.Second, 48 * time.Second, 96 * time.Second, 192 * time.Second, 300 * time.Second} {
			current := token(t, src)
			time.Sleep(from - 10*time.Millisecond)
			require.ErrorContains(t, src.Invalidate(t.Context(), current), fmt.Sprintf("not believed before it is %s old", from), "token %d", n+1)
			time.Sleep(20 * time.Millisecond)
			require.NoError(t, src.Invalidate(t.Context(), current), "token %d", n+1)
		}
		rejected := 0
		for _, e := range l.all() {
			if e.Kind == wxtoken.EventReject {
				assert.InDelta(t, []float64{0.61, 12, 24, 48, 96, 192, 300}[rejected], e.Age.Seconds(), 0.05)
				rejected++
			}
		}
		assert.Equal(t, 7, rejected)
	})
	bubble(t, "a token that lived its life begins again", func(t *testing.T) {
		f := &countingFetcher{lifetime: 10 * time.Minute}
		src := wxtoken.New(f, nil)
		token(t, src)
		time.Sleep(2 * time.Second)
		require.NoError(t, src.Invalidate(t.Context(), "token-1"))
		for f.fetches.Load() < 3 { // token-2 lives its life
			token(t, src)
			time.Sleep(time.Second)
		}
		require.Equal(t, "token-3", token(t, src))
		assert.NoError(t, src.Invalidate(t.Context(), "token-3"))
	})
	for early, want := range map[int]bool{0: true, 1: false} {
		bubble(t, fmt.Sprintf("a process that has just started goes by issued_at, %d rejected before", early), func(t *testing.T) {
			cache, now := wxtoken.NewMemoryCache(), time.Now()
			put(t, cache, recordWith("x", now.Add(-135*time.Second), now.Add(time.Hour), fmt.Sprintf(`"early":%d,`, early)))
			src := wxtoken.New(&countingFetcher{}, cache)
			assert.Equal(t, want, src.Invalidate(t.Context(), "x") == nil, "two minutes may be its issuer's clock")
			time.Sleep(5 * time.Second)
			assert.NoError(t, src.Invalidate(t.Context(), "x"))
		})
	}
}

func TestInvalidateWhileTheCacheIsDown(t *testing.T) {
	bubble(t, "a repeatable fetcher decides by its own copy", func(t *testing.T) {
		cache, _ := broken(wxtoken.NewMemoryCache())
		src := wxtoken.New(&countingFetcher{repeatable: true}, cache)
		require.Equal(t, "token-1", token(t, src))
		time.Sleep(1500 * time.Millisecond)
		require.NoError(t, src.Invalidate(t.Context(), "token-1"))
		require.Equal(t, "token-2", token(t, src))
		time.Sleep(7 * time.Second)
		require.ErrorContains(t, src.Invalidate(t.Context(), "token-2"), "not believed before it is 20s old")
	})
	bubble(t, "a token that a repeatable fetcher could not publish is replaced at once, and once at its end", func(t *testing.T) {
		f := &countingFetcher{repeatable: true}
		cache, down := breakable(wxtoken.NewMemoryCache())
		f.answer = func(int64) error { down.Store(true); return nil }
		src := wxtoken.New(f, cache)
		require.Equal(t, "token-1", token(t, src))
		time.Sleep(40 * time.Second)
		require.NoError(t, src.Invalidate(t.Context(), "token-1"))
		for start := time.Now(); time.Since(start) < 119*time.Minute; time.Sleep(5 * time.Second) {
			require.NotEqual(t, "token-1", token(t, src))
		}
		assert.Equal(t, "token-3", token(t, src))
		down.Store(false)
		time.Sleep(time.Minute)
		use(t, 3*time.Second, time.Second, src)
		assert.Equal(t, "token-3", recordOf(t, cache.Cache)["token"])
		assert.NotContains(t, recordOf(t, cache.Cache), "lease")
		assert.EqualValues(t, 3, f.fetches.Load())
	})
	bubble(t, "a rejected token is withheld for a moment, once", func(t *testing.T) {
		cache, down := breakable(wxtoken.NewMemoryCache())
		src := wxtoken.New(&countingFetcher{}, cache)
		token(t, src)
		age(t)
		down.Store(true)
		withheld := time.Duration(0)
		for range 60 { // somebody reports it again and again: it may be good
			assert.ErrorIs(t, src.Invalidate(t.Context(), "token-1"), wxtoken.ErrCacheUnavailable)
			assert.NoError(t, src.Invalidate(t.Context(), "an old one"))
			for range 10 {
				if _, err := src.Token(t.Context()); err != nil {
					assert.ErrorIs(t, err, wxtoken.ErrCacheUnavailable)
					withheld += 100 * time.Millisecond
				}
				time.Sleep(100 * time.Millisecond)
			}
		}
		assert.Positive(t, withheld)
		assert.LessOrEqual(t, withheld, 3*time.Second)
		down.Store(false)
		time.Sleep(3 * time.Second)
		assert.NoError(t, src.Invalidate(t.Context(), "token-1"))
		assert.Equal(t, "token-2", token(t, src))
	})
	bubble(t, "one that could not be published is replaced when the cache is back", func(t *testing.T) {
		cache, down := breakable(wxtoken.NewMemoryCache())
		src := wxtoken.New(&countingFetcher{answer: func(n int64) error { down.Store(n == 1); return nil }}, cache)
		require.Equal(t, "token-1", token(t, src))
		age(t)
		down.Store(false)
		require.NoError(t, src.Invalidate(t.Context(), "token-1"))
		assert.Equal(t, "token-2", token(t, src))
	})
	bubble(t, "a read that fails once withholds nothing", func(t *testing.T) {
		cache := slow(wxtoken.NewMemoryCache(), time.Millisecond)
		src := wxtoken.New(&countingFetcher{}, cache)
		token(t, src)
		time.Sleep(500 * time.Millisecond)
		fails := cache.gets.Load() + 1
		cache.get = func(context.Context) error {
			time.Sleep(time.Millisecond)
			if cache.gets.Load() == fails {
				return errDown
			}
			return nil
		}
		assert.ErrorContains(t, src.Invalidate(t.Context(), "token-1"), "not believed")
		assert.Equal(t, "token-1", token(t, src))
	})
}

// Many goroutines of two processes, over a cache that fails and loses replies,
// over a store that is sometimes emptied: a token of which Invalidate said that it
// is out of use is never handed out again by that process.
func TestInvalidateNilMeansThatTheTokenIsOutOfUse(t *testing.T) {
	for seed := range uint64(6) {
		bubbles(t, fmt.Sprint("seed ", seed), func(t *testing.T) {
			f := &countingFetcher{latency: 30 * time.Millisecond, repeatable: seed%2 == 1}
			store := newSwappable()
			for p := range uint64(2) {
				var one sync.Mutex // a call that was given up may still be under way
				random := rand.New(rand.NewPCG(seed, p))
				draw := func(n int) bool {
					one.Lock()
					defer one.Unlock()
					return random.IntN(n) == 0
				}
				fail := func(context.Context) error {
					time.Sleep(time.Millisecond)
					if draw(4) {
						return errDown
					}
					return nil
				}
				cache := &faultyCache{Cache: store, get: fail, swap: fail}
				cache.after = func(stored bool, err error) (bool, error) {
					if draw(5) {
						return false, errDown
					}
					return stored, err
				}
				src := wxtoken.New(f, cache)
				var mu sync.Mutex
				out := map[string]bool{}
				for g := range uint64(6) {
					random := rand.New(rand.NewPCG(seed, 10+10*p+g))
					go func() {
						for range 400 {
							mu.Lock()
							before := maps.Clone(out)
							mu.Unlock()
							ctx, cancel := context.WithTimeout(t.Context(), time.Duration(1+random.IntN(3000))*time.Millisecond)
							tok, err := src.Token(ctx)
							if err == nil && before[tok.Value] {
								t.Errorf("%s was handed out again", tok.Value)
							}
							if err == nil && random.IntN(3) == 0 && src.Invalidate(ctx, tok.Value) == nil {
								mu.Lock()
								out[tok.Value] = true
								mu.Unlock()
							}
							cancel()
							if random.IntN(300) == 0 {
								store.lose()
							}
							time.Sleep(time.Duration(random.IntN(8000)) * time.Millisecond)
						}
					}()
				}
			}
			time.Sleep(time.Hour)
			assert.Greater(t, f.fetches.Load(), int64(5))
		})
	}
}

func TestReportsDoNotKeepTokenFromItsTurn(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		src := wxtoken.New(&countingFetcher{}, slow(wxtoken.NewMemoryCache(), 10*time.Millisecond))
		start := time.Now()
		var served atomic.Bool
		for i := range 2000 { // of a process that holds no token yet, so that each report needs a look
			go func() {
				for !served.Load() {
					_ = src.Invalidate(t.Context(), fmt.Sprint("old-", i))
				}
			}()
		}
		time.Sleep(15 * time.Millisecond)
		token(t, src)
		served.Store(true)
		assert.LessOrEqual(t, time.Since(start), 60*time.Millisecond, "two looks, and two writes")
	})
}

// The last swap failed, so nothing can be decided on the rejection; the reads go on.
func TestRejectionInAStoreThatOnlyReads(t *testing.T) {
	for name, fails := range map[string]func() (bool, error){
		"by an error": func() (bool, error) { return false, errors.New("READONLY") },
		"by silence":  func() (bool, error) { time.Sleep(time.Minute); return false, nil },
	} {
		bubble(t, name, func(t *testing.T) {
			reads := &faultyCache{Cache: wxtoken.NewMemoryCache()}
			cache := &swapsBy{Cache: reads}
			src := wxtoken.New(&countingFetcher{}, cache)
			token(t, src)
			age(t)
			cache.swap = func(context.Context, string, []byte, []byte, time.Duration) (bool, error) { return fails() }
			require.Error(t, src.Invalidate(t.Context(), "token-1"))
			before, start := reads.gets.Load(), time.Now()
			for ; time.Since(start) < 10*time.Second; time.Sleep(10 * time.Millisecond) {
				if _, err := src.Token(t.Context()); err != nil {
					require.ErrorIs(t, err, wxtoken.ErrCacheUnavailable)
					require.Less(t, time.Since(start), 3*time.Second, "withheld")
				}
			}
			assert.Less(t, reads.gets.Load()-before, int64(30), "reads in 10 s")
			assert.Equal(t, "token-1", token(t, src))
		})
	}
}

// A token can be reported to a process that has not seen it yet: behind a load
// balancer, say, that sends the report to another instance of a token server.
func TestInvalidateOfATokenThatOnlyOthersHaveSeen(t *testing.T) {
	// behind returns two Sources, of which the second still holds token-1, while the
	// record has had token-2 for a while.
	behind := func(t *testing.T, since time.Duration) (ahead, behind *wxtoken.Source, f *countingFetcher, cache *faultyCache) {
		f, cache = &countingFetcher{}, &faultyCache{Cache: wxtoken.NewMemoryCache()}
		ahead, behind = wxtoken.New(f, cache), wxtoken.New(f, cache, wxtoken.WithLocalAge(10*time.Minute))
		token(t, ahead)
		time.Sleep(50 * time.Second)
		require.Equal(t, "token-1", token(t, behind))
		require.NoError(t, ahead.Invalidate(t.Context(), "token-1"))
		require.Equal(t, "token-2", token(t, ahead))
		time.Sleep(since)
		require.Equal(t, "token-1", token(t, behind))
		return ahead, behind, f, cache
	}
	bubble(t, "it is recorded", func(t *testing.T) {
		ahead, behind, f, _ := behind(t, 3*time.Minute)
		require.NoError(t, behind.Invalidate(t.Context(), "token-2"))
		assert.Equal(t, "token-3", token(t, behind))
		time.Sleep(time.Minute)
		assert.Equal(t, "token-3", token(t, ahead))
		assert.EqualValues(t, 3, f.fetches.Load())
	})
	bubble(t, "it is not believed of a young token", func(t *testing.T) {
		_, behind, f, cache := behind(t, time.Minute)
		assert.ErrorContains(t, behind.Invalidate(t.Context(), "token-2"), "not believed before it is 20s old")
		assert.Equal(t, "token-2", token(t, behind), "but the record was read")
		assert.NotContains(t, recordOf(t, cache), "rejected")
		assert.EqualValues(t, 2, f.fetches.Load())
	})
	bubble(t, "while the cache is down, the copy decides", func(t *testing.T) {
		_, behind, _, cache := behind(t, 3*time.Minute)
		cache.get = func(context.Context) error { return errDown }
		for range 10 {
			assert.NoError(t, behind.Invalidate(t.Context(), "token-2"))
			assert.ErrorIs(t, behind.Invalidate(t.Context(), "token-1"), wxtoken.ErrCacheUnavailable)
			time.Sleep(time.Second)
		}
		cache.get = nil
		time.Sleep(6 * time.Second)
		require.NoError(t, behind.Invalidate(t.Context(), "token-2"))
		assert.Equal(t, "token-3", token(t, behind))
	})
}

func TestReportsOfUnknownValuesCostLittle(t *testing.T) {
	for _, c := range []struct {
		name          string
		value         string
		callers       int
		every         time.Duration
		reads, events int
	}{
		{"one caller", "of another app", 1, 100 * time.Millisecond, 31, 0},
		{"50 callers", "of another app", 50, 100 * time.Millisecond, 31, 0},
		{"seldom", "of another app", 3, 5 * time.Second, 12, 0},
		{"the token before", "token-1", 50, 100 * time.Millisecond, 0, 0},
	} {
		bubble(t, c.name, func(t *testing.T) {
			f, cache, l := &countingFetcher{}, &faultyCache{Cache: wxtoken.NewMemoryCache()}, &log{}
			src := wxtoken.New(f, cache, l.option())
			token(t, src)
			age(t)
			require.NoError(t, src.Invalidate(t.Context(), "token-1"))
			require.Equal(t, "token-2", token(t, src))
			reads, events, until := cache.gets.Load(), len(l.all()), time.Now().Add(time.Minute)
			together(c.callers, func(int) {
				for time.Now().Before(until) {
					assert.NoError(t, src.Invalidate(t.Context(), c.value))
					time.Sleep(c.every)
				}
			})
			assert.LessOrEqual(t, cache.gets.Load()-reads, int64(c.reads))
			assert.LessOrEqual(t, len(l.all())-events, c.events)
			assert.Equal(t, "token-2", token(t, src))
			assert.EqualValues(t, 2, f.fetches.Load())
		})
	}
}
