package wxtoken_test

import (
	"context"
	"errors"
	"fmt"
	"math"
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

func TestCacheDown(t *testing.T) {
	bubble(t, "a cold start sends nothing to the platform", func(t *testing.T) {
		f := &countingFetcher{}
		cache, repair := broken(wxtoken.NewMemoryCache())
		src := wxtoken.New(f, cache)
		for range 20 {
			_, err := src.Token(t.Context())
			require.ErrorIs(t, err, wxtoken.ErrCacheUnavailable)
			require.ErrorIs(t, err, errDown)
		}
		assert.Zero(t, f.fetches.Load())
		assert.LessOrEqual(t, cache.gets.Load(), int64(4), "a failing cache sees a trickle")
		repair()
		time.Sleep(2 * time.Second)
		token(t, src)
	})
	bubble(t, "a repeatable fetcher fetches by itself", func(t *testing.T) {
		f := &countingFetcher{}
		cache, repair := broken(wxtoken.NewMemoryCache())
		src := wxtoken.New(wxtoken.Repeatable(f), cache)
		use(t, time.Minute, time.Second, src)
		repair()
		use(t, time.Minute, 59*time.Second, src)
		assert.Equal(t, "token-1", token(t, src))
		assert.Equal(t, "token-1", recordOf(t, cache.Cache)["token"], "coordinated again")
		assert.EqualValues(t, 1, f.fetches.Load())
	})
	for _, end := range []time.Duration{-time.Hour, 2 * time.Minute} {
		bubble(t, "what a repeatable fetcher fetched outlives a record that expires in "+end.String(), func(t *testing.T) {
			cache, repair := broken(wxtoken.NewMemoryCache())
			put(t, cache.Cache, recordWith("old", time.UnixMilli(0), time.Now().Add(end),
				fmt.Sprintf(`"cooldown":{"until":%d,"code":45009},`, time.Now().Add(time.Hour).UnixMilli())))
			src := wxtoken.New(&countingFetcher{repeatable: true}, cache)
			require.Equal(t, "token-1", token(t, src))
			repair()
			for range 10 {
				time.Sleep(time.Minute)
				require.Equal(t, "token-1", token(t, src))
			}
			require.NoError(t, src.Invalidate(t.Context(), "token-1"))
			time.Sleep(6 * time.Minute) // the cooldown is over
			assert.Equal(t, "token-2", token(t, src))
		})
	}
	bubble(t, "a repeatable fetcher's failures are a trickle as well", func(t *testing.T) {
		f := &countingFetcher{repeatable: true, answer: failBetween(1, ever, &wxtoken.APIError{Code: 40125})}
		cache, _ := broken(wxtoken.NewMemoryCache())
		src := wxtoken.New(f, cache)
		for range 600 {
			_, err := src.Token(t.Context())
			require.ErrorIs(t, err, wxtoken.ErrCacheUnavailable)
			var denial *wxtoken.APIError
			require.ErrorAs(t, err, &denial)
			time.Sleep(100 * time.Millisecond)
		}
		assert.LessOrEqual(t, f.fetches.Load(), int64(2))
	})
	bubble(t, "the copy is served until it expires", func(t *testing.T) {
		f := &countingFetcher{}
		cache, down := breakable(wxtoken.NewMemoryCache())
		src := wxtoken.New(f, cache)
		token(t, src)
		down.Store(true)
		require.Zero(t, use(t, 2*time.Hour-time.Second, time.Second, src))
		time.Sleep(2 * time.Second)
		_, err := src.Token(t.Context())
		assert.ErrorIs(t, err, wxtoken.ErrCacheUnavailable)
		assert.EqualValues(t, 1, f.fetches.Load())
	})
	bubble(t, "a slow cache holds up nobody who has a copy", func(t *testing.T) {
		cache := &faultyCache{Cache: wxtoken.NewMemoryCache()}
		src := wxtoken.New(&countingFetcher{}, cache)
		token(t, src)
		cache.get = hang
		start := time.Now()
		assert.LessOrEqual(t, use(t, 10*time.Minute, time.Second, src), 1)
		assert.LessOrEqual(t, time.Since(start), 10*time.Minute+2*time.Second, "and that one for a second")
	})
	bubble(t, "a cache that hangs after the fetch holds up nobody either", func(t *testing.T) {
		cache := &faultyCache{Cache: wxtoken.NewMemoryCache()}
		src := wxtoken.New(&countingFetcher{answer: func(int64) error { cache.get, cache.swap = hang, hang; return nil }}, cache)
		start := time.Now()
		token(t, src)
		assert.LessOrEqual(t, time.Since(start), time.Second)
	})
	bubble(t, "a token in hand is used, and published when the cache is back", func(t *testing.T) {
		f, l := &countingFetcher{}, &log{}
		cache, down := breakable(wxtoken.NewMemoryCache())
		f.answer = func(int64) error { down.Store(true); return nil }
		src := wxtoken.New(f, cache, l.option())
		use(t, 3*time.Second, 100*time.Millisecond, src)
		assert.NotContains(t, recordOf(t, cache.Cache), "token")
		down.Store(false)
		time.Sleep(3 * time.Second)
		use(t, time.Second, time.Second, src)
		assert.Equal(t, "token-1", recordOf(t, cache.Cache)["token"])
		assert.EqualValues(t, 1, f.fetches.Load())
		assert.Positive(t, l.count(wxtoken.EventCacheError))
	})
	bubble(t, "a store that only reads", func(t *testing.T) {
		f := &countingFetcher{}
		cache := &faultyCache{Cache: wxtoken.NewMemoryCache(), swap: func(context.Context) error { return errors.New("READONLY") }}
		_, err := wxtoken.New(f, cache).Token(t.Context())
		assert.ErrorIs(t, err, wxtoken.ErrCacheUnavailable)
		assert.Zero(t, f.fetches.Load())
	})
}

func TestLostRepliesOfTheCache(t *testing.T) {
	for name, after := range map[string]func(bool, error) (bool, error){
		"stored, and an error": func(bool, error) (bool, error) { return false, errDown },
		"stored, and false":    func(bool, error) (bool, error) { return false, nil },
	} {
		for swap := int64(1); swap <= 2; swap++ {
			bubble(t, fmt.Sprintf("%s, swap %d", name, swap), func(t *testing.T) {
				f := &countingFetcher{}
				cache := &faultyCache{Cache: wxtoken.NewMemoryCache()}
				cache.after = func(stored bool, err error) (bool, error) {
					if cache.swaps.Load() == swap {
						return after(stored, err)
					}
					return stored, err
				}
				src := wxtoken.New(f, cache)
				assert.Equal(t, "token-1", token(t, src))
				r := recordOf(t, cache)
				assert.Equal(t, "token-1", r["token"])
				assert.NotContains(t, r, "lease")
				assert.NotContains(t, r, "owed")
				time.Sleep(time.Hour)
				token(t, src)
				assert.EqualValues(t, 1, f.fetches.Load())
			})
		}
	}
}

func TestDeadProcess(t *testing.T) {
	// dies has a process take the lease and die.
	dies := func(cache wxtoken.Cache) {
		src, kill := mortal(&countingFetcher{latency: time.Hour}, cache)
		go src.Token(context.Background())
		synctest.Wait()
		kill()
	}
	bubble(t, "its lease is taken over, and one fetch settles which token is newest", func(t *testing.T) {
		f, l, cache := &countingFetcher{}, &log{}, wxtoken.NewMemoryCache()
		dies(cache)
		src := wxtoken.New(f, cache, l.option())
		start := time.Now()
		assert.Equal(t, "token-1", token(t, src))
		assert.InDelta(t, 15*time.Second, time.Since(start), float64(50*time.Millisecond))
		assert.Equal(t, 1, l.count(wxtoken.EventTakeover))
		use(t, 100*time.Minute, time.Minute, src)
		assert.EqualValues(t, 2, f.fetches.Load(), "one more fetch settles which token is the latest")
		assert.NotContains(t, recordOf(t, cache), "owed")
	})
	bubble(t, "while the token is usable, it is given more time", func(t *testing.T) {
		f, l, cache := &countingFetcher{}, &log{}, wxtoken.NewMemoryCache()
		src := wxtoken.New(f, cache, l.option())
		token(t, src)
		time.Sleep(115 * time.Minute)
		change(t, cache, func(r map[string]any) { r["lease"] = "of a process that died" })
		start := time.Now()
		for l.count(wxtoken.EventTakeover) == 0 {
			require.Zero(t, use(t, time.Second, 100*time.Millisecond, src))
		}
		assert.InDelta(t, 62*time.Second, time.Since(start), float64(4*time.Second))
	})
	bubble(t, "a record with another nonce each time is watched again", func(t *testing.T) {
		f, cache := &countingFetcher{}, wxtoken.NewMemoryCache()
		dies(cache)
		src := wxtoken.New(f, cache)
		go token(t, src)
		for i := range 3 {
			time.Sleep(14 * time.Second)
			change(t, cache, func(r map[string]any) { r["lease"] = fmt.Sprint("other", i) })
			require.Zero(t, f.fetches.Load())
		}
		token(t, src)
	})
	bubble(t, "however many are killed while they fetch", func(t *testing.T) {
		f, cache := &countingFetcher{latency: time.Second}, wxtoken.NewMemoryCache()
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

func TestPausedProcessDoesNotPublish(t *testing.T) {
	bubble(t, "its token is dropped and a fetch is owed", func(t *testing.T) {
		f, l, cache := &countingFetcher{}, &log{}, wxtoken.NewMemoryCache()
		paused := &faultyCache{Cache: cache}
		paused.swap = func(context.Context) error {
			if paused.swaps.Load() == 2 { // between the fetch and its publishing
				time.Sleep(100 * time.Second)
			}
			return nil
		}
		// Its own cache calls may take so long that it notices nothing. No first lease lasts over 45 s.
		a := wxtoken.New(f, paused, l.option(), wxtoken.WithFetchTimeout(time.Hour))
		go a.Token(context.Background())
		synctest.Wait()
		b := wxtoken.New(f, slow(cache, 200*time.Millisecond))
		start := time.Now()
		tok, err := b.Token(t.Context())
		for ; err != nil; tok, err = b.Token(t.Context()) {
			time.Sleep(time.Second)
		}
		assert.Equal(t, "token-2", tok.Value)
		assert.InDelta(t, 45*time.Second, time.Since(start), float64(10*time.Second))
		time.Sleep(2 * time.Minute)
		assert.Equal(t, "token-2", recordOf(t, cache)["token"])
		use(t, 10*time.Minute, time.Minute, a, b)
		assert.Equal(t, 1, l.count(wxtoken.EventLeaseLost))
		assert.EqualValues(t, 3, f.fetches.Load())
		assert.Equal(t, "token-3", token(t, a))
		assert.Equal(t, "token-3", token(t, b))
	})
	bubble(t, "a lease that came late is given back", func(t *testing.T) {
		f := &countingFetcher{}
		cache := &faultyCache{Cache: wxtoken.NewMemoryCache()}
		cache.after = func(stored bool, err error) (bool, error) {
			if cache.swaps.Load() == 1 {
				time.Sleep(1900 * time.Millisecond)
			}
			return stored, err
		}
		src := wxtoken.New(f, cache, wxtoken.WithFetchTimeout(time.Second)) // cache calls get 200 ms
		require.Equal(t, "token-1", token(t, src))
		assert.EqualValues(t, 1, f.fetches.Load())
	})
}

func TestStoreLosesTheRecord(t *testing.T) {
	bubble(t, "one fetch, and callers do not wait", func(t *testing.T) {
		f, store := &countingFetcher{latency: 200 * time.Millisecond}, newSwappable()
		srcs := processes(5, f, store)
		use(t, 20*time.Minute, 10*time.Minute, srcs...)
		store.lose()
		require.Zero(t, use(t, 220*time.Second, time.Second, srcs...))
		assert.EqualValues(t, 2, f.fetches.Load())
		for _, src := range srcs {
			assert.Equal(t, "token-2", token(t, src))
		}
	})
	bubble(t, "while the platform denies: the copy serves, and the cache sees a trickle", func(t *testing.T) {
		f := &countingFetcher{answer: failBetween(2, ever, &wxtoken.APIError{Code: 45009})}
		store := newSwappable()
		cache := slow(store, time.Millisecond)
		src := wxtoken.New(f, cache)
		token(t, src)
		store.lose()
		assert.Zero(t, use(t, time.Minute, 100*time.Millisecond, src))
		assert.Equal(t, "token-1", token(t, src))
		assert.LessOrEqual(t, cache.gets.Load(), int64(60), "reads in a minute")
	})
	// Deleting the record by hand forces a new token, and nobody waits for it. Where
	// the fetcher is repeatable, the process that fetched the token writes its copy
	// back if it is the first to notice; any other one fetches.
	for _, repeatable := range []bool{false, true} {
		bubble(t, fmt.Sprint("by hand, repeatable=", repeatable), func(t *testing.T) {
			f := &countingFetcher{latency: 250 * time.Millisecond, repeatable: repeatable}
			store := newSwappable()
			srcs := processes(3, f, store)
			use(t, time.Second, time.Second, srcs...)
			wait := func(d time.Duration) { require.Zero(t, use(t, d, time.Second, srcs...)) }
			wait(7 * time.Minute)
			store.lose()
			wait(150 * time.Second)
			assert.EqualValues(t, 2, f.fetches.Load())
			assert.Equal(t, "token-2", token(t, srcs[2]))
			store.lose() // and again, too soon
			wait(130 * time.Second)
			assert.EqualValues(t, 2, f.fetches.Load())
			wait(4 * time.Minute)
			assert.LessOrEqual(t, f.fetches.Load(), int64(3))
		})
	}
	for _, after := range []time.Duration{5 * time.Minute, 7 * time.Minute, 9 * time.Minute} {
		bubble(t, "by hand, the first of all after "+after.String(), func(t *testing.T) {
			f, store := &countingFetcher{repeatable: true}, newSwappable()
			src := wxtoken.New(f, store)
			use(t, after, time.Second, src)
			store.lose()
			use(t, 150*time.Second, time.Second, src)
			assert.EqualValues(t, 2, f.fetches.Load(), "it was deleted to force one")
		})
	}
}

func TestStrangeRecords(t *testing.T) {
	for _, value := range []string{
		"", "null", "[]", "{}", "0", "\x00\xff", "a_plain_token_of_another_sdk", `{"v":0}`, `{"v":1}`, `{"v":"1"}`, `{"v":1,"sealed":7}`,
		`{"v":1,"epoch":"e","seq":-1}`, `{"v":1,"epoch":"e","owed":99}`, `{"v":1,"epoch":"e","cooldown":{"step":2147483647}}`,
		`{"v":1,"epoch":"e","seq":1,"token":"x\ny","expires_at":4102444800000}`,
		recordWith("x", time.Now(), time.Now().AddDate(100, 0, 0), ""),
		`{"v":1,"epoch":"` + strings.Repeat("e", 1<<20) + `","seq":1}`,
		`{"v":1,` + strings.Repeat(`"x":0,`, 1<<20) + `"epoch":"e"}`,
		strings.Repeat("[", 1<<20),
	} {
		bubble(t, fmt.Sprintf("overwritten: %.80s", value), func(t *testing.T) {
			cache, l := wxtoken.NewMemoryCache(), &log{}
			put(t, cache, value)
			assert.Equal(t, "token-1", token(t, wxtoken.New(&countingFetcher{}, cache, l.option())))
			assert.Equal(t, "token-1", recordOf(t, cache)["token"])
			require.Equal(t, 1, l.count(wxtoken.EventCacheError))
			assert.Less(t, len(l.all()[0].Err.Error()), 300)
		})
	}
	for value, text := range map[string]string{
		`{"v":2,"anything":true}`:         "upgrade this process",
		`{"v":2,"sealed":{"a":"b"}}`:      "upgrade this process",
		`{"v":1,"sealed":"AAECAwQFBgcI"}`: "give WithEncryption the key",
	} {
		bubble(t, "left alone: "+value, func(t *testing.T) {
			for _, f := range []*countingFetcher{{}, {repeatable: true}} {
				cache := wxtoken.NewMemoryCache()
				put(t, cache, value)
				src := wxtoken.New(f, cache)
				for range 20 {
					_, err := src.Token(t.Context())
					assert.ErrorContains(t, err, text)
					time.Sleep(time.Second)
				}
				assert.Zero(t, f.fetches.Load())
				assert.Equal(t, value, stored(t, cache))
			}
		})
	}
}

// The store has the record of a moment ago, while other processes go on.
func TestStoreGoesBack(t *testing.T) {
	bubble(t, "the newer token is written back and verified", func(t *testing.T) {
		l, cache := &log{}, wxtoken.NewMemoryCache()
		src := wxtoken.New(&countingFetcher{}, cache, l.option())
		token(t, src)
		before := stored(t, cache)
		time.Sleep(time.Minute)
		require.NoError(t, src.Invalidate(t.Context(), "token-1"))
		require.Equal(t, "token-2", token(t, src))
		put(t, cache, before)
		time.Sleep(time.Minute)
		use(t, 3*time.Second, time.Second, src)
		assert.Equal(t, "token-2", token(t, src))
		assert.Equal(t, "token-2", recordOf(t, cache)["token"])
		assert.EqualValues(t, 1, recordOf(t, cache)["owed"])
		assert.Equal(t, 1, l.count(wxtoken.EventRestore))
		use(t, 4*time.Minute, time.Minute, src)
		assert.Equal(t, "token-3", recordOf(t, cache)["token"])
		assert.NotContains(t, recordOf(t, cache), "owed")
	})
	bubble(t, "a rejection of the newer token takes it out of use", func(t *testing.T) {
		cache := wxtoken.NewMemoryCache()
		src := wxtoken.New(&countingFetcher{}, cache)
		token(t, src)
		before := stored(t, cache)
		age(t)
		require.NoError(t, src.Invalidate(t.Context(), "token-1"))
		require.Equal(t, "token-2", token(t, src))
		put(t, cache, before)
		age(t)
		require.NoError(t, src.Invalidate(t.Context(), "token-2"))
		assert.Equal(t, "token-3", token(t, src))
	})
	bubble(t, "while another process notes a doubt: the newest token wins, and is verified", func(t *testing.T) {
		f, cache := &countingFetcher{latency: 100 * time.Millisecond}, wxtoken.NewMemoryCache()
		a, b := wxtoken.New(f, cache), wxtoken.New(f, cache)
		token(t, a)
		token(t, b)
		before := stored(t, cache)
		time.Sleep(3 * time.Minute)
		require.NoError(t, a.Invalidate(t.Context(), "token-1"))
		require.Equal(t, "token-2", token(t, a))
		put(t, cache, before)
		change(t, cache, func(r map[string]any) { r["owed"], r["seq"] = 2, 4 }) // b's request timed out, in the branch that had gone back
		served := map[string]bool{}
		for start := time.Now(); time.Since(start) < 5*time.Minute; time.Sleep(time.Second) {
			served[token(t, a)] = true
			served[token(t, b)] = true
		}
		assert.Equal(t, "token-3", recordOf(t, cache)["token"])
		assert.NotContains(t, recordOf(t, cache), "owed")
		assert.Equal(t, map[string]bool{"token-1": true, "token-2": true, "token-3": true}, served)
		assert.EqualValues(t, 3, f.fetches.Load())
	})
	bubble(t, "during a fetch: its token is published all the same, and verified", func(t *testing.T) {
		f, cache := &countingFetcher{latency: 2 * time.Second}, wxtoken.NewMemoryCache()
		src := wxtoken.New(f, cache)
		token(t, src)
		before := stored(t, cache)
		for f.fetches.Load() == 1 {
			token(t, src)
			time.Sleep(time.Second)
		}
		put(t, cache, before) // without the lease
		time.Sleep(1500 * time.Millisecond)
		assert.Equal(t, "token-2", token(t, src))
		assert.Equal(t, "token-2", recordOf(t, cache)["token"])
		assert.EqualValues(t, 1, recordOf(t, cache)["owed"])
		use(t, 2*time.Minute, time.Second, src)
		assert.EqualValues(t, 3, f.fetches.Load())
		assert.NotContains(t, recordOf(t, cache), "owed")
	})
	bubble(t, "to an empty one during a fetch: nobody fetches twice at once", func(t *testing.T) {
		f, store := &countingFetcher{latency: 3 * time.Second}, newSwappable()
		src := wxtoken.New(f, store)
		go src.Token(context.Background())
		time.Sleep(time.Second)
		store.lose()
		assert.Equal(t, "token-1", token(t, src))
		require.NoError(t, src.Wait(t.Context()))
		assert.EqualValues(t, 1, recordOf(t, store)["owed"])
		assert.EqualValues(t, 1, f.fetches.Load())
	})
	bubble(t, "two masters for 40 s, each with a fetch: they agree, and one fetch settles which is newest", func(t *testing.T) {
		f := &countingFetcher{latency: 100 * time.Millisecond}
		shared := wxtoken.NewMemoryCache()
		one, two := &swappable{cache: shared}, &swappable{cache: shared}
		a, b := wxtoken.New(f, one), wxtoken.New(f, two)
		token(t, a)
		token(t, b)
		time.Sleep(20 * time.Second)
		two.lose()
		put(t, two, stored(t, shared))
		require.NoError(t, a.Invalidate(t.Context(), "token-1"))
		require.NoError(t, b.Invalidate(t.Context(), "token-1"))
		require.Equal(t, "token-2", token(t, a))
		require.Equal(t, "token-3", token(t, b))
		time.Sleep(40 * time.Second)
		two.use(shared) // the older one's master wins
		use(t, 4*time.Minute, time.Second, a, b)
		assert.Equal(t, "token-4", recordOf(t, shared)["token"])
		assert.Equal(t, "token-4", token(t, a))
		assert.Equal(t, "token-4", token(t, b))
		assert.EqualValues(t, 4, f.fetches.Load())
	})
	bubble(t, "a rejection that was lost is written again, and causes one fetch", func(t *testing.T) {
		cache := wxtoken.NewMemoryCache()
		src := wxtoken.New(&countingFetcher{}, cache)
		token(t, src)
		before := stored(t, cache)
		time.Sleep(20 * time.Second)
		require.NoError(t, src.Invalidate(t.Context(), "token-1"))
		put(t, cache, before)
		assert.Equal(t, "token-2", token(t, src))
		assert.EqualValues(t, 1, recordOf(t, cache)["early"])
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
				f, cache := &countingFetcher{latency: 300 * time.Millisecond}, wxtoken.NewMemoryCache()
				put(t, cache, record)
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
		cache, l := wxtoken.NewMemoryCache(), &log{}
		long := wxtoken.New(&countingFetcher{latency: 3 * time.Second}, cache, wxtoken.WithFetchTimeout(20*time.Second))
		short := wxtoken.New(&countingFetcher{latency: 500 * time.Millisecond}, cache, l.option(), wxtoken.WithFetchTimeout(800*time.Millisecond))
		go long.Token(t.Context())
		synctest.Wait()
		start := time.Now()
		assert.Equal(t, "token-1", token(t, short))
		assert.InDelta(t, 3*time.Second, time.Since(start), float64(30*time.Millisecond))
		assert.Zero(t, l.count(wxtoken.EventTakeover))
	})
	bubble(t, "over hours, the shorter one takes none over, and has a token", func(t *testing.T) {
		f, cache, l := &countingFetcher{latency: 2500 * time.Millisecond}, wxtoken.NewMemoryCache(), &log{}
		short := wxtoken.New(f, cache, l.option(), wxtoken.WithFetchTimeout(time.Second), wxtoken.WithRefreshAhead(8*time.Minute)) // tries first
		long := wxtoken.New(f, cache, l.option(), wxtoken.WithFetchTimeout(12*time.Second))
		token(t, long)
		use(t, 8*time.Hour, 9*time.Second, short, long)
		assert.Zero(t, l.count(wxtoken.EventTakeover))
		assert.LessOrEqual(t, f.fetches.Load(), int64(14), "each that times out is followed by two")
	})
}

// Each takeover without a token in between waits longer, even where the store
// loses the record together with the lease.
func TestLeasesGrow(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		cache, want := wxtoken.NewMemoryCache(), 15_000.0
		for range 10 {
			f := &countingFetcher{latency: time.Hour} // its process dies before
			src, kill := mortal(f, slow(cache, 400*time.Millisecond))
			for f.fetches.Load() == 0 {
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				_, _ = src.Token(ctx)
				cancel()
				time.Sleep(time.Second)
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

// A smallCache rejects values of more than largest bytes.
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
		f, l, store := &countingFetcher{}, &log{}, wxtoken.NewMemoryCache()
		var once atomic.Bool
		cache := &swapsBy{Cache: store}
		cache.swap = func(ctx context.Context, key string, old, new []byte, ttl time.Duration) (bool, error) {
			if once.Swap(true) {
				return store.CompareAndSwap(ctx, key, old, new, ttl)
			}
			time.AfterFunc(9*time.Second, func() { _, _ = store.CompareAndSwap(context.Background(), key, old, new, ttl) })
			return false, hang(ctx)
		}
		src := wxtoken.New(f, cache, l.option())
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

// A young process leaves a usable token to others, and replaces an expired one.
func TestYoungProcess(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		f, cache := &countingFetcher{}, wxtoken.NewMemoryCache()
		token(t, wxtoken.New(f, cache))
		time.Sleep(119*time.Minute + 40*time.Second)
		use(t, 14*time.Second, time.Second, wxtoken.New(f, cache))
		assert.EqualValues(t, 1, f.fetches.Load())
		time.Sleep(7 * time.Second) // it has expired
		assert.Equal(t, "token-2", token(t, wxtoken.New(f, cache)))
	})
	bubble(t, "while processes come and go, callers get the token until it expires, and wait once", func(t *testing.T) {
		random := rand.New(rand.NewPCG(1, 2))
		f, cache := &countingFetcher{latency: 400 * time.Millisecond, lifetime: 20 * time.Minute}, wxtoken.NewMemoryCache()
		blocked := 0
		for start := time.Now(); time.Since(start) < 90*time.Minute; {
			src, kill := mortal(f, cache)
			blocked += use(t, time.Duration(1+random.IntN(9))*time.Second, 300*time.Millisecond, src)
			require.NoError(t, src.Wait(t.Context()))
			kill()
		}
		assert.Equal(t, 5, blocked, "once for each token")
		assert.EqualValues(t, 5, f.fetches.Load())
	})
}

// While a process fetches for a repeatable token, another may follow a second later.
func TestLeaseOfARepeatableFetcher(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		cache := wxtoken.NewMemoryCache()
		src, kill := mortal(&countingFetcher{latency: time.Minute, repeatable: true}, cache)
		go src.Token(context.Background())
		synctest.Wait()
		assert.EqualValues(t, 1000, recordOf(t, cache)["lease_for"])
		kill()
		start, f := time.Now(), &countingFetcher{repeatable: true}
		token(t, wxtoken.New(f, cache))
		assert.InDelta(t, time.Second, time.Since(start), float64(30*time.Millisecond))
		assert.NotContains(t, recordOf(t, cache), "owed")
		assert.EqualValues(t, 1, f.fetches.Load())
	})
}

// neverSwaps says of every write, after 100 µs, that something else was there.
type neverSwaps struct{ wxtoken.Cache }

func (neverSwaps) CompareAndSwap(context.Context, string, []byte, []byte, time.Duration) (bool, error) {
	time.Sleep(100 * time.Microsecond)
	return false, nil
}

func TestStoreThatNeverSwaps(t *testing.T) {
	bubble(t, "is not asked in a tight loop", func(t *testing.T) {
		f, cache, l := &countingFetcher{}, &faultyCache{Cache: neverSwaps{wxtoken.NewMemoryCache()}}, &log{}
		_, err := wxtoken.New(f, cache, l.option()).Token(t.Context())
		assert.Error(t, err)
		assert.Equal(t, 1, l.count(wxtoken.EventCacheError), "the operator learns of it")
		assert.Less(t, cache.gets.Load(), int64(200), "reads in a minute")
		assert.Zero(t, f.fetches.Load())
	})
	bubble(t, "leaves the copy in use", func(t *testing.T) {
		store := newSwappable()
		src := wxtoken.New(&countingFetcher{}, store)
		token(t, src)
		store.use(neverSwaps{store.current()})
		use(t, 2*time.Hour-time.Second, time.Second, src)
	})
}

// What a Fetcher returns is a token that a record can hold, or a failure like any
// other. Lifetimes are capped at 30 days.
func TestTokensThatAFetcherReturns(t *testing.T) {
	const bad, cap = 0, 30 * 24 * time.Hour
	soon := time.Unix(946688400, 0) // an hour from the beginning of a bubble
	for name, test := range map[string]struct {
		value   string
		expires time.Time
		err     error
		want    time.Duration // until the expiry
	}{
		"good":             {"t", soon, nil, time.Hour},
		"of the year 9999": {"t", time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC), nil, cap},
		"endless":          {"t", time.UnixMilli(math.MaxInt64), nil, cap},
		"beyond that":      {"t", time.Unix(1<<60, 0), nil, bad}, // in more than 2^63 ms
		"expired":          {"t", time.Unix(946684800, 0), nil, bad},
		"with a space":     {"a b", soon, nil, bad},
		"from a file":      {"t\n", soon, nil, bad},
		"not UTF-8":        {"t\xff", soon, nil, bad},
		"not ASCII":        {"密", soon, nil, bad},
		"beside an error":  {"t", soon, errDown, bad},
	} {
		bubble(t, name, func(t *testing.T) {
			l, cache, fetches := &log{}, wxtoken.NewMemoryCache(), 0
			srcs := processes(3, wxtoken.FetcherFunc("stub", func(context.Context) (wxtoken.Token, error) {
				fetches++
				return wxtoken.Token{Value: test.value, ExpiresAt: test.expires}, test.err
			}), cache, l.option())
			_, err := srcs[0].Token(t.Context())
			e := l.all()[0]
			if test.want != bad {
				require.NoError(t, err)
				assert.Equal(t, test.want, time.Until(e.ExpiresAt))
				use(t, time.Minute, time.Minute, srcs...)
				assert.Equal(t, test.value, recordOf(t, cache)["token"])
				assert.Equal(t, 1, fetches)
				return
			}
			assert.True(t, errors.Is(err, errDown) || strings.Contains(err.Error(), "check its Value"), err)
			assert.Error(t, e.Err)
			assert.Zero(t, e.ExpiresAt)
			for start := time.Now(); time.Since(start) < time.Hour; time.Sleep(20 * time.Second) {
				_, err := srcs[0].Token(t.Context())
				require.Error(t, err)
				require.NotContains(t, recordOf(t, cache), "token")
			}
			assert.Less(t, fetches, 150, "as many as without an answer")
		})
	}
}

func TestLeaseThatTheCacheDidNotConfirm(t *testing.T) {
	bubble(t, "is known again when the cache is back", func(t *testing.T) {
		f, l := &countingFetcher{}, &log{}
		cache, down := breakable(wxtoken.NewMemoryCache())
		cache.after = func(stored bool, err error) (bool, error) {
			if cache.swaps.Load() == 1 {
				down.Store(true)
				return false, errDown
			}
			return stored, err
		}
		src := wxtoken.New(f, cache, l.option())
		_, err := src.Token(t.Context())
		require.ErrorIs(t, err, wxtoken.ErrCacheUnavailable)
		require.Contains(t, recordOf(t, cache.Cache), "lease")
		down.Store(false)
		time.Sleep(time.Second)
		start := time.Now()
		token(t, src)
		assert.Less(t, time.Since(start), time.Second)
		assert.Zero(t, l.count(wxtoken.EventTakeover))
		assert.NotContains(t, recordOf(t, cache), "owed")
	})
}

// Whatever stands in the cache, the token is replaced in time, or when it is
// rejected, and the quota is safe.
func TestRecordsThatTheProtocolDidNotWrite(t *testing.T) {
	const inAnHour = `"token":"x","expires_at":946688400000` // by the clock of a bubble
	for name, fields := range map[string]string{
		"year 9999":  `"seq":1,"token":"x","expires_at":253402300799000`,
		"no end":     `"seq":1,"token":"x","expires_at":9223372036854775807,"issued_at":-9223372036854775808`,
		"negative":   `"seq":1,"token":"x","expires_at":-9223372036854775808,"issued_at":9223372036854775807`,
		"early":      `"seq":1,"early":9223372036854775807,` + inAnHour,
		"seq":        `"seq":9223372036854775807,` + inAnHour,
		"cooldown":   `"seq":1,"cooldown":{"until":9223372036854775807,"code":-1,"step":9223372036854775807}`,
		"cooldown 0": `"seq":1,"cooldown":{}`,
		"cooldown -": `"seq":1,"cooldown":{"until":-9223372036854775808,"code":45009}`,
		"lease":      `"seq":1,"lease":"other","owed":3,` + inAnHour,
		"rejected":   `"seq":1,"rejected":true,` + inAnHour,
	} {
		bubble(t, name, func(t *testing.T) {
			f, cache := &countingFetcher{}, wxtoken.NewMemoryCache()
			put(t, cache, `{"v":1,"epoch":"e",`+fields+`}`)
			src := wxtoken.New(f, cache)
			served := 0
			for start := time.Now(); time.Since(start) < time.Hour-time.Minute; time.Sleep(time.Second) {
				if _, err := src.Token(t.Context()); err == nil {
					served++
				}
			}
			assert.Greater(t, served, 3400, "of 3540 calls")
			for range 20 {
				time.Sleep(11 * time.Minute)
				_ = src.Invalidate(t.Context(), "x")
				_ = src.Invalidate(t.Context(), token(t, src))
			}
			assert.NotEqual(t, "x", token(t, src))
			assert.LessOrEqual(t, f.fetches.Load(), int64(30))
		})
	}
}

// Counts at their limit are counted on by a protocol that must not write what it
// would not read.
func TestCountsAtTheirLimit(t *testing.T) {
	for _, count := range []string{
		`"seq":9007199254740991`, `"seq":9007199254740990,"owed":1`, `"seq":1,"early":1073741823`,
		`"seq":1,"cooldown":{"step":1073741823,"code":-1,"until":0}`,
	} {
		bubble(t, count, func(t *testing.T) {
			cache, l, now := wxtoken.NewMemoryCache(), &log{}, time.Now()
			f := &countingFetcher{answer: failBetween(1, 2, &wxtoken.APIError{Code: -1})}
			put(t, cache, fmt.Sprintf(`{"v":1,"epoch":"e",%s,"token":"x","issued_at":%d,"expires_at":%d}`,
				count, now.UnixMilli(), now.Add(20*time.Minute).UnixMilli()))
			srcs := processes(2, f, cache, l.option())
			use(t, 10*time.Minute, time.Second, srcs...)
			for range 3 {
				require.NoError(t, srcs[0].Invalidate(t.Context(), token(t, srcs[0])))
				use(t, 55*time.Minute, 2*time.Second, srcs...)
			}
			assert.Zero(t, l.count(wxtoken.EventCacheError))
			assert.LessOrEqual(t, f.fetches.Load(), int64(10))
		})
	}
}

// A hanging fetcher gets no answer while hangs is true.
type hanging struct {
	countingFetcher
	hangs atomic.Bool
}

func (h *hanging) Fetch(ctx context.Context) (wxtoken.Token, error) {
	if h.hangs.Load() {
		h.fetches.Add(1)
		<-ctx.Done()
		return wxtoken.Token{}, ctx.Err()
	}
	return h.countingFetcher.Fetch(ctx)
}

// failing returns how many calls of src.Token fail for d, if one that has patience for
// as long as that is made after every pause.
func failing(t *testing.T, src *wxtoken.Source, patience, every, d time.Duration) (fails int) {
	for end := time.Now().Add(d); time.Now().Before(end); {
		began := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		if _, err := src.Token(ctx); err != nil {
			fails++
		}
		cancel()
		time.Sleep(every - time.Since(began))
	}
	return fails
}

// One member reports a good token while the token endpoint hangs: the others have no
// token until that has lasted for three fetches, and get the reported one then.
func TestAFalseReportWhileTheEndpointHangs(t *testing.T) {
	for _, test := range []struct {
		timeout  time.Duration // of a fetch
		members  int
		patience time.Duration
		every    time.Duration
		most     int // calls that fail
	}{
		{10 * time.Second, 2, time.Second, time.Second, 40},
		{10 * time.Second, 5, 300 * time.Millisecond, 4 * time.Second, 12},
		{10 * time.Second, 3, 2 * time.Second, 50 * time.Second, 3},
		{4 * time.Second, 3, 500 * time.Millisecond, 700 * time.Millisecond, 30},
	} {
		bubble(t, fmt.Sprintf("%d members, fetch timeout %s, a call every %s", test.members, test.timeout, test.every), func(t *testing.T) {
			f, cache := &hanging{countingFetcher: countingFetcher{latency: 200 * time.Millisecond}}, wxtoken.NewMemoryCache()
			var srcs []*wxtoken.Source
			for range test.members {
				srcs = append(srcs, wxtoken.New(f, cache, wxtoken.WithFetchTimeout(test.timeout)))
			}
			for _, src := range srcs {
				require.Equal(t, "token-1", token(t, src))
			}
			time.Sleep(time.Minute)
			f.hangs.Store(true)
			require.NoError(t, srcs[0].Invalidate(t.Context(), "token-1"))
			fails := make([]int, test.members)
			together(test.members, func(i int) {
				time.Sleep(time.Duration(i) * 130 * time.Millisecond)
				if i > 0 {
					fails[i] = failing(t, srcs[i], test.patience, test.every+time.Duration(i)*test.every/9, 30*time.Minute)
				}
			})
			for _, n := range fails {
				assert.LessOrEqual(t, n, test.most)
			}
			assert.LessOrEqual(t, f.fetches.Load(), int64(30))
			t.Logf("%v calls failed, %d fetches", fails, f.fetches.Load())
			// Once the platform answers, nobody gets the reported token instead of waiting for the new one.
			f.hangs.Store(false)
			time.Sleep(11 * time.Minute)
			together(test.members, func(i int) { assert.NotEqual(t, "token-1", token(t, srcs[i])) })
		})
	}
}

// A member that waits for minutes, behind a black hole, holds the others up for one
// lease of 45 s when nobody has a token, and not at all when there is one.
func TestAMemberWithATimeoutOfMinutes(t *testing.T) {
	for timeout, repeatable := range map[time.Duration]bool{50 * time.Second: false, 4 * time.Minute: false, 15 * time.Minute: true, 30 * time.Hour: false, 90 * time.Minute: true} {
		bubble(t, fmt.Sprintf("%s, repeatable=%v", timeout, repeatable), func(t *testing.T) {
			sick, good := &hanging{countingFetcher: countingFetcher{repeatable: repeatable}}, &countingFetcher{latency: 150 * time.Millisecond, repeatable: repeatable}
			sick.hangs.Store(true)
			cache := wxtoken.NewMemoryCache()
			patient := wxtoken.New(sick, cache, wxtoken.WithFetchTimeout(timeout), wxtoken.WithRefreshAhead(7*time.Minute))
			srcs := []*wxtoken.Source{wxtoken.New(good, cache), wxtoken.New(good, cache), wxtoken.New(good, cache)}
			go patient.Token(t.Context()) // it is the first of all
			time.Sleep(time.Second)
			start := time.Now()
			for {
				if _, err := srcs[0].Token(t.Context()); err == nil {
					break
				}
				time.Sleep(time.Second)
			}
			assert.LessOrEqual(t, time.Since(start), 50*time.Second)

			fails := make([]int, len(srcs))
			ctx, cancel := context.WithTimeout(t.Context(), 14*time.Hour)
			defer cancel()
			go func() {
				for ; ctx.Err() == nil; time.Sleep(700 * time.Millisecond) {
					short, cancel := context.WithTimeout(ctx, time.Second)
					_, _ = patient.Token(short)
					cancel()
				}
			}()
			together(len(srcs), func(i int) {
				fails[i] = failing(t, srcs[i], 500*time.Millisecond, time.Duration(i+3)*time.Second, 14*time.Hour)
			})
			assert.Equal(t, []int{0, 0, 0}, fails)
			assert.LessOrEqual(t, sick.fetches.Load(), int64(3), "it leaves the refresh to the others")
			t.Logf("%s without a token at first, %d fetches, %d of the sick one", time.Since(start)-14*time.Hour, good.fetches.Load(), sick.fetches.Load())
		})
	}
}
