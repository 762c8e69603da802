package wxtoken_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
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
		for range 60 {
			require.Equal(t, "token-1", token(t, src))
			time.Sleep(time.Second)
		}
		repair()
		time.Sleep(time.Minute)
		token(t, src)
		time.Sleep(time.Second)
		assert.Equal(t, "token-1", token(t, src))
		assert.Equal(t, "token-1", recordOf(t, cache.Cache)["token"], "coordinated again")
		assert.EqualValues(t, 1, f.fetches.Load())
	})
	for _, end := range []time.Duration{-time.Hour, 2 * time.Minute} {
		bubble(t, "what a repeatable fetcher fetched outlives a record that expires in "+end.String(), func(t *testing.T) {
			cache, repair := broken(wxtoken.NewMemoryCache())
			put(t, cache.Cache, fmt.Appendf(nil, `{"v":1,"epoch":"e","seq":1,"token":"old","expires_at":%d,"cooldown":{"until":%d,"code":45009}}`,
				time.Now().Add(end).UnixMilli(), time.Now().Add(time.Hour).UnixMilli()))
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
		f := &countingFetcher{repeatable: true, answer: func(int64) error { return &wxtoken.APIError{Code: 40125} }}
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
		cache := &faultyCache{Cache: wxtoken.NewMemoryCache()}
		src := wxtoken.New(f, cache)
		token(t, src)
		start := time.Now()
		cache.get = func(context.Context) error { return errDown }
		for time.Since(start) < 2*time.Hour-time.Second {
			before := time.Now()
			require.Equal(t, "token-1", token(t, src))
			require.Zero(t, time.Since(before))
			time.Sleep(time.Second)
		}
		time.Sleep(2 * time.Second)
		_, err := src.Token(t.Context())
		assert.ErrorIs(t, err, wxtoken.ErrCacheUnavailable)
		assert.EqualValues(t, 1, f.fetches.Load())
	})
	bubble(t, "a slow cache holds up nobody who has a copy", func(t *testing.T) {
		f := &countingFetcher{}
		cache := &faultyCache{Cache: wxtoken.NewMemoryCache()}
		src := wxtoken.New(f, cache)
		token(t, src)
		cache.get = func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
		waits := 0
		for range 600 {
			before := time.Now()
			token(t, src)
			require.LessOrEqual(t, time.Since(before), time.Second)
			if time.Since(before) > 0 {
				waits++
			}
			time.Sleep(time.Second)
		}
		assert.LessOrEqual(t, waits, 1)
	})
	bubble(t, "a token in hand is used, and published when the cache is back", func(t *testing.T) {
		f, l := &countingFetcher{}, &log{}
		cache, down := breakable(wxtoken.NewMemoryCache())
		f.answer = func(int64) error { down.Store(true); return nil }
		src := wxtoken.New(f, cache, l.option())
		for range 30 {
			require.Equal(t, "token-1", token(t, src))
			time.Sleep(100 * time.Millisecond)
		}
		assert.NotContains(t, recordOf(t, cache.Cache), "token")
		down.Store(false)
		time.Sleep(3 * time.Second)
		token(t, src)
		time.Sleep(time.Second)
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
	// The first process takes the lease and dies.
	dies := func(t *testing.T, cache wxtoken.Cache) {
		f := &countingFetcher{block: make(chan struct{})}
		itsCache, dead := breakable(cache)
		src := wxtoken.New(f, itsCache)
		go src.Token(context.Background())
		synctest.Wait()
		dead.Store(true)
		time.AfterFunc(time.Hour, func() { close(f.block) })
	}
	bubble(t, "its lease is taken over, and the doubt is resolved", func(t *testing.T) {
		f, l, cache := &countingFetcher{}, &log{}, wxtoken.NewMemoryCache()
		dies(t, cache)
		src := wxtoken.New(f, cache, l.option())
		start := time.Now()
		assert.Equal(t, "token-1", token(t, src))
		assert.InDelta(t, 15*time.Second, time.Since(start), float64(50*time.Millisecond))
		assert.Equal(t, 1, l.count(wxtoken.EventTakeover))
		for range 100 {
			time.Sleep(time.Minute)
			token(t, src)
		}
		assert.EqualValues(t, 2, f.fetches.Load(), "one more fetch settles which token is the latest")
		assert.NotContains(t, recordOf(t, cache), "owed")
	})
	bubble(t, "while the token is usable, it is given more time", func(t *testing.T) {
		f, l, cache := &countingFetcher{}, &log{}, wxtoken.NewMemoryCache()
		src := wxtoken.New(f, cache, l.option())
		token(t, src)
		r := recordOf(t, cache)
		r["lease"] = "of a process that died"
		raw, err := json.Marshal(r)
		require.NoError(t, err)
		time.Sleep(115 * time.Minute)
		put(t, cache, raw)
		start := time.Now()
		for l.count(wxtoken.EventTakeover) == 0 {
			before := time.Now()
			require.Equal(t, "token-1", token(t, src))
			require.Zero(t, time.Since(before))
			time.Sleep(100 * time.Millisecond)
		}
		assert.InDelta(t, 62*time.Second, time.Since(start), float64(4*time.Second))
	})
	bubble(t, "a record with another nonce each time is watched again", func(t *testing.T) {
		f, cache := &countingFetcher{}, wxtoken.NewMemoryCache()
		dies(t, cache)
		src := wxtoken.New(f, cache)
		done := make(chan struct{})
		go func() { defer close(done); token(t, src) }()
		for i := range 3 {
			time.Sleep(14 * time.Second)
			r := recordOf(t, cache)
			r["lease"] = fmt.Sprint("other", i)
			raw, err := json.Marshal(r)
			require.NoError(t, err)
			put(t, cache, raw)
			require.Zero(t, f.fetches.Load())
		}
		<-done
	})
}

func TestPausedProcessDoesNotPublish(t *testing.T) {
	bubble(t, "its token is dropped and a fetch is owed", func(t *testing.T) {
		cache := wxtoken.NewMemoryCache()
		f, l := &countingFetcher{}, &log{}
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
		b := wxtoken.New(f, cache)
		start := time.Now()
		for {
			tok, err := b.Token(t.Context())
			if err == nil {
				assert.Equal(t, "token-2", tok.Value)
				break
			}
			time.Sleep(time.Second)
		}
		assert.InDelta(t, 45*time.Second, time.Since(start), float64(10*time.Second))
		time.Sleep(2 * time.Minute)
		assert.Equal(t, "token-2", recordOf(t, cache)["token"])
		for range 10 {
			token(t, a)
			token(t, b)
			time.Sleep(time.Minute)
		}
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

func TestStoreLosesOrRewindsTheRecord(t *testing.T) {
	bubble(t, "flushed: one fetch, and callers do not wait", func(t *testing.T) {
		f := &countingFetcher{latency: 200 * time.Millisecond}
		cache := wxtoken.NewMemoryCache()
		store := &swappable{cache: cache}
		var srcs []*wxtoken.Source
		for range 5 {
			srcs = append(srcs, wxtoken.New(f, store))
			token(t, srcs[len(srcs)-1])
		}
		time.Sleep(10 * time.Minute)
		for _, src := range srcs {
			token(t, src)
		}
		store.lose()
		for range 220 {
			time.Sleep(time.Second)
			for _, src := range srcs {
				before := time.Now()
				token(t, src)
				require.Zero(t, time.Since(before))
			}
		}
		assert.EqualValues(t, 2, f.fetches.Load())
		for _, src := range srcs {
			assert.Equal(t, "token-2", token(t, src))
		}
	})
	bubble(t, "flushed while the platform denies: the copy serves, and the cache sees a trickle", func(t *testing.T) {
		f := &countingFetcher{answer: func(n int64) error {
			if n > 1 {
				return &wxtoken.APIError{Code: 45009}
			}
			return nil
		}}
		store := newSwappable()
		cache := &faultyCache{Cache: store, get: func(context.Context) error { time.Sleep(time.Millisecond); return nil }}
		src := wxtoken.New(f, cache)
		token(t, src)
		store.lose()
		waits := 0
		for range 600 {
			time.Sleep(100 * time.Millisecond)
			before := time.Now()
			require.Equal(t, "token-1", token(t, src))
			if time.Since(before) > 0 {
				waits++
			}
		}
		assert.Zero(t, waits)
		assert.LessOrEqual(t, cache.gets.Load(), int64(60), "reads in a minute")
	})
	bubble(t, "rewound: a rejection of the newer token takes it out of use", func(t *testing.T) {
		cache := wxtoken.NewMemoryCache()
		src := wxtoken.New(&countingFetcher{}, cache)
		token(t, src)
		before, err := cache.Get(t.Context(), "wxtoken:stub")
		require.NoError(t, err)
		age(t)
		require.NoError(t, src.Invalidate(t.Context(), "token-1"))
		require.Equal(t, "token-2", token(t, src))
		put(t, cache, before)
		age(t)
		require.NoError(t, src.Invalidate(t.Context(), "token-2"))
		assert.Equal(t, "token-3", token(t, src))
	})
	bubble(t, "rewound: the newer token is written back and verified", func(t *testing.T) {
		f, l := &countingFetcher{}, &log{}
		cache := wxtoken.NewMemoryCache()
		src := wxtoken.New(f, cache, l.option())
		token(t, src)
		before, err := cache.Get(t.Context(), "wxtoken:stub")
		require.NoError(t, err)
		time.Sleep(time.Minute)
		require.NoError(t, src.Invalidate(t.Context(), "token-1"))
		require.Equal(t, "token-2", token(t, src))
		put(t, cache, before)
		time.Sleep(time.Minute)
		for range 3 {
			require.Equal(t, "token-2", token(t, src))
			time.Sleep(time.Second)
		}
		assert.Equal(t, "token-2", recordOf(t, cache)["token"])
		assert.EqualValues(t, 1, recordOf(t, cache)["owed"])
		assert.Equal(t, 1, l.count(wxtoken.EventRestore))
		for range 3 {
			time.Sleep(time.Minute)
			token(t, src)
		}
		time.Sleep(time.Second)
		assert.Equal(t, "token-3", recordOf(t, cache)["token"])
		assert.NotContains(t, recordOf(t, cache), "owed")
	})
}

func TestStrangeRecords(t *testing.T) {
	for _, value := range []string{
		"", "null", "[]", "{}", `"token"`, "0", "\x00\xff", "a_plain_token_of_another_sdk",
		`{"v":0}`, `{"v":-1}`, `{"v":1}`, `{"v":"1"}`, `{"v":1,"epoch":"e","seq":-1}`,
		`{"v":1,"epoch":"e","owed":99}`, `{"v":1,"epoch":"e","token":"a b"}`, `{"v":1,"epoch":"e","seq":1e30}`,
		`{"v":1,"epoch":"e","cooldown":{"step":-1}}`, `{"v":1,"sealed":7}`,
		`{"v":1,"epoch":"e","cooldown":{"step":2147483647}}`, `{"v":1,"epoch":"e","early":2147483647}`,
	} {
		bubble(t, "overwritten: "+value, func(t *testing.T) {
			cache, l := wxtoken.NewMemoryCache(), &log{}
			put(t, cache, []byte(value))
			assert.Equal(t, "token-1", token(t, wxtoken.New(&countingFetcher{}, cache, l.option())))
			assert.Equal(t, "token-1", recordOf(t, cache)["token"])
			assert.Equal(t, 1, l.count(wxtoken.EventCacheError))
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
				put(t, cache, []byte(value))
				src := wxtoken.New(f, cache)
				for range 20 {
					_, err := src.Token(t.Context())
					assert.ErrorContains(t, err, text)
					time.Sleep(time.Second)
				}
				assert.Zero(t, f.fetches.Load())
				raw, err := cache.Get(t.Context(), "wxtoken:stub")
				require.NoError(t, err)
				assert.Equal(t, value, string(raw))
			}
		})
	}
}

// Deleting the record by hand forces a new token, and nobody waits for it. Where
// the fetcher is repeatable, the process that fetched the token writes its copy
// back if it is the first to notice; any other one fetches.
func TestRecordDeletedByHand(t *testing.T) {
	for _, repeatable := range []bool{false, true} {
		bubble(t, fmt.Sprint("repeatable=", repeatable), func(t *testing.T) {
			f := &countingFetcher{latency: 250 * time.Millisecond, repeatable: repeatable}
			store := newSwappable()
			srcs := []*wxtoken.Source{wxtoken.New(f, store), wxtoken.New(f, store), wxtoken.New(f, store)}
			use := func(d time.Duration) {
				for start := time.Now(); time.Since(start) < d; time.Sleep(500 * time.Millisecond) {
					for _, src := range srcs {
						before := time.Now()
						token(t, src)
						require.True(t, f.fetches.Load() < 2 || time.Since(before) == 0)
					}
				}
			}
			use(7 * time.Minute)
			store.lose()
			use(150 * time.Second)
			assert.EqualValues(t, 2, f.fetches.Load())
			assert.Equal(t, "token-2", token(t, srcs[2]))
			store.lose() // and again, too soon
			use(130 * time.Second)
			assert.EqualValues(t, 2, f.fetches.Load())
			use(4 * time.Minute)
			assert.LessOrEqual(t, f.fetches.Load(), int64(3))
		})
	}
}

// The store has the record of a moment ago, while other processes go on.
func TestStoreGoesBack(t *testing.T) {
	snapshot := func(t *testing.T, c wxtoken.Cache) []byte {
		raw, err := c.Get(t.Context(), "wxtoken:stub")
		require.NoError(t, err)
		return raw
	}
	bubble(t, "while another process notes a doubt: the newest token wins, and is verified", func(t *testing.T) {
		f, cache := &countingFetcher{latency: 100 * time.Millisecond}, wxtoken.NewMemoryCache()
		a, b := wxtoken.New(f, cache), wxtoken.New(f, cache)
		token(t, a)
		token(t, b)
		before := snapshot(t, cache)
		time.Sleep(3 * time.Minute)
		require.NoError(t, a.Invalidate(t.Context(), "token-1"))
		require.Equal(t, "token-2", token(t, a))
		r := map[string]any{}
		require.NoError(t, json.Unmarshal(before, &r))
		r["owed"], r["seq"] = 2, 4 // b's request timed out, in the branch that had gone back
		raw, err := json.Marshal(r)
		require.NoError(t, err)
		put(t, cache, raw)
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
		before := snapshot(t, cache)
		for f.fetches.Load() == 1 {
			token(t, src)
			time.Sleep(time.Second)
		}
		put(t, cache, before) // without the lease
		time.Sleep(1500 * time.Millisecond)
		assert.Equal(t, "token-2", token(t, src))
		assert.Equal(t, "token-2", recordOf(t, cache)["token"])
		assert.EqualValues(t, 1, recordOf(t, cache)["owed"])
		for start := time.Now(); time.Since(start) < 2*time.Minute; time.Sleep(time.Second) {
			token(t, src)
		}
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
		other := wxtoken.NewMemoryCache()
		put(t, other, snapshot(t, shared))
		two.use(other)
		require.NoError(t, a.Invalidate(t.Context(), "token-1"))
		require.NoError(t, b.Invalidate(t.Context(), "token-1"))
		require.Equal(t, "token-2", token(t, a))
		require.Equal(t, "token-3", token(t, b))
		time.Sleep(40 * time.Second)
		two.use(shared) // the older one's master wins
		for start := time.Now(); time.Since(start) < 4*time.Minute; time.Sleep(time.Second) {
			token(t, a)
			token(t, b)
		}
		assert.Equal(t, "token-4", recordOf(t, shared)["token"])
		assert.Equal(t, "token-4", token(t, a))
		assert.Equal(t, "token-4", token(t, b))
		assert.EqualValues(t, 4, f.fetches.Load())
	})
	bubble(t, "a rejection that was lost is written again, and causes one fetch", func(t *testing.T) {
		f, cache := &countingFetcher{}, wxtoken.NewMemoryCache()
		src := wxtoken.New(f, cache)
		token(t, src)
		before := snapshot(t, cache)
		time.Sleep(20 * time.Second)
		require.NoError(t, src.Invalidate(t.Context(), "token-1"))
		put(t, cache, before)
		assert.Equal(t, "token-2", token(t, src))
		assert.EqualValues(t, 1, recordOf(t, cache)["early"])
	})
}

// A record of any size costs little, and is overwritten.
func TestForeignRecordsOfAnySize(t *testing.T) {
	for name, value := range map[string]string{
		"an epoch of 40 MB":      `{"v":1,"epoch":"` + strings.Repeat("e", 40<<20) + `","seq":1}`,
		"a message of 9 MB":      `{"v":1,"epoch":"e","seq":1,"cooldown":{"until":1,"code":45009,"message":"` + strings.Repeat("m", 9<<20) + `"}}`,
		"a million fields":       `{"v":1,` + strings.Repeat(`"x":0,`, 1<<20) + `"epoch":"e"}`,
		"nesting":                strings.Repeat("[", 5<<20),
		"a token for 100 years":  fmt.Sprintf(`{"v":1,"epoch":"e","seq":1,"token":"x","expires_at":%d}`, time.Now().AddDate(100, 0, 0).UnixMilli()),
		"a token with a newline": `{"v":1,"epoch":"e","seq":1,"token":"x\ny","expires_at":4102444800000}`,
	} {
		bubble(t, name, func(t *testing.T) {
			store := &preloaded{value: []byte(value), Cache: wxtoken.NewMemoryCache()}
			f, l := &countingFetcher{}, &log{}
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			assert.Equal(t, "token-1", token(t, wxtoken.New(f, store, l.option())))
			runtime.ReadMemStats(&after)
			assert.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(4<<20), "bytes for a call")
			assert.Equal(t, "token-1", recordOf(t, store)["token"])
			require.Equal(t, 1, l.count(wxtoken.EventCacheError))
			assert.Less(t, len(l.all()[0].Err.Error()), 300)
		})
	}
}

// A preloaded store holds a value that was not copied for this test, until it is overwritten.
type preloaded struct {
	value []byte
	wxtoken.Cache
}

func (c *preloaded) Get(ctx context.Context, key string) ([]byte, error) {
	if c.value != nil {
		return c.value, nil
	}
	return c.Cache.Get(ctx, key)
}

func (c *preloaded) CompareAndSwap(ctx context.Context, key string, old, new []byte, ttl time.Duration) (bool, error) {
	if c.value == nil {
		return c.Cache.CompareAndSwap(ctx, key, old, new, ttl)
	}
	if len(old) != len(c.value) {
		return false, errors.New("this is not what was read")
	}
	c.value = nil
	return c.Cache.CompareAndSwap(ctx, key, nil, new, ttl)
}

// Each process is killed while it fetches, however often.
func TestProcessesThatAreKilledWhileTheyFetch(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
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
		f, cache, l := &countingFetcher{latency: 3 * time.Second}, wxtoken.NewMemoryCache(), &log{}
		long := wxtoken.New(f, cache, wxtoken.WithFetchTimeout(20*time.Second))
		short := wxtoken.New(&countingFetcher{latency: 500 * time.Millisecond, key: ""}, cache, l.option(), wxtoken.WithFetchTimeout(800*time.Millisecond))
		go long.Token(t.Context())
		synctest.Wait()
		start := time.Now()
		assert.Equal(t, "token-1", token(t, short))
		assert.InDelta(t, 3*time.Second, time.Since(start), float64(30*time.Millisecond))
		assert.Zero(t, l.count(wxtoken.EventTakeover))
	})
	bubble(t, "over hours, the shorter one takes none over, and has a token", func(t *testing.T) {
		f, cache, l := &countingFetcher{latency: 2500 * time.Millisecond}, wxtoken.NewMemoryCache(), &log{}
		srcs := []*wxtoken.Source{
			wxtoken.New(f, cache, l.option(), wxtoken.WithFetchTimeout(time.Second), wxtoken.WithRefreshAhead(8*time.Minute)), // tries first
			wxtoken.New(f, cache, l.option(), wxtoken.WithFetchTimeout(12*time.Second)),
		}
		time.Sleep(time.Second)
		token(t, srcs[1])
		for start := time.Now(); time.Since(start) < 8*time.Hour; time.Sleep(9 * time.Second) {
			for _, src := range srcs {
				token(t, src)
			}
		}
		assert.Zero(t, l.count(wxtoken.EventTakeover))
		assert.LessOrEqual(t, f.fetches.Load(), int64(14), "each that times out is followed by two")
		t.Logf("%d fetches", f.fetches.Load())
	})
}

// Each takeover without a token in between waits longer, even where the store
// loses the record together with the lease.
func TestLeasesGrow(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		cache, want := wxtoken.NewMemoryCache(), 15_000.0
		for range 10 {
			f := &countingFetcher{latency: time.Hour} // its process dies before
			src, kill := mortal(f, cache)
			for f.fetches.Load() == 0 {
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
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
		f, l, store := &countingFetcher{}, &log{}, wxtoken.NewMemoryCache()
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
		f, cache := &countingFetcher{}, wxtoken.NewMemoryCache()
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
		f, cache := &countingFetcher{latency: 400 * time.Millisecond, lifetime: 20 * time.Minute}, wxtoken.NewMemoryCache()
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
		assert.Equal(t, 1, l.count(wxtoken.EventCacheError), "the operator is told")
		assert.Less(t, cache.gets.Load(), int64(200), "reads in a minute")
		assert.Zero(t, f.fetches.Load())
	})
	bubble(t, "leaves the copy in use", func(t *testing.T) {
		store := newSwappable()
		src := wxtoken.New(&countingFetcher{}, store)
		token(t, src)
		store.use(neverSwaps{store.current()})
		for start := time.Now(); time.Since(start) < 2*time.Hour-time.Second; time.Sleep(time.Second) {
			token(t, src)
		}
	})
}

func TestTokenWithoutEnd(t *testing.T) {
	for _, end := range []time.Time{time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC), time.UnixMilli(math.MaxInt64)} {
		bubble(t, end.UTC().Format("year 2006"), func(t *testing.T) {
			f, cache := &constant{value: "endless", expires: end}, wxtoken.NewMemoryCache()
			for range 3 {
				assert.Equal(t, "endless", token(t, wxtoken.New(f, cache)))
			}
			assert.Equal(t, "endless", recordOf(t, cache)["token"])
			assert.EqualValues(t, 1, f.fetches.Load())
		})
	}
}

func TestTokenThatNoRecordCanHold(t *testing.T) {
	soon, never := time.Date(2000, 1, 2, 0, 0, 0, 0, time.UTC), time.Unix(1<<60, 0) // the latter in more than 2^63 ms
	for value, expires := range map[string]time.Time{"from-a-file\n": soon, "a b": soon, "t\xff": soon, "密": soon, "endless": never} {
		bubble(t, value, func(t *testing.T) {
			f, cache := &constant{value: value, expires: expires}, wxtoken.NewMemoryCache()
			src := wxtoken.New(f, cache)
			for start := time.Now(); time.Since(start) < time.Hour; time.Sleep(10 * time.Second) {
				_, err := src.Token(t.Context())
				require.ErrorContains(t, err, "check its Value")
				require.NotContains(t, recordOf(t, cache), "token")
			}
			assert.Less(t, f.fetches.Load(), int64(150), "as many as without an answer")
		})
	}
}

func TestTokenThatIsRepeatedAfterItExpired(t *testing.T) {
	bubble(t, "by the clock of another process, is not fetched in a tight loop", func(t *testing.T) {
		now, cache := time.Now(), wxtoken.NewMemoryCache()
		put(t, cache, fmt.Appendf(nil, `{"v":1,"epoch":"e","seq":1,"token":"same","issued_at":%d,"expires_at":%d}`,
			now.Add(-2*time.Hour).UnixMilli(), now.UnixMilli()))
		f := &repeater{countingFetcher{latency: 50 * time.Millisecond, repeatable: true}, now.Add(59 * time.Second)}
		src := wxtoken.New(f, cache)
		token(t, src)
		time.Sleep(time.Minute) // the platform issues another one then
		token(t, src)
		assert.Equal(t, "token-"+fmt.Sprint(f.fetches.Load()), recordOf(t, cache)["token"])
		assert.Less(t, f.fetches.Load(), int64(100), "in a minute")
	})
}

func TestTokenThatComesWithAnError(t *testing.T) {
	bubble(t, "is none", func(t *testing.T) {
		l, fails := &log{}, func(context.Context) (wxtoken.Token, error) {
			return wxtoken.Token{Value: "x", ExpiresAt: time.Now().Add(time.Hour)}, errDown
		}
		_, err := wxtoken.New(wxtoken.FetcherFunc("stub", fails), nil, l.option()).Token(t.Context())
		assert.ErrorIs(t, err, errDown)
		require.Equal(t, 1, l.count(wxtoken.EventFetch))
		assert.Zero(t, l.all()[0].ExpiresAt)
	})
}

func TestLeaseThatTheCacheDidNotConfirm(t *testing.T) {
	bubble(t, "is known again when the cache is back", func(t *testing.T) {
		f, l := &countingFetcher{}, &log{}
		cache := &faultyCache{Cache: wxtoken.NewMemoryCache()}
		down := false
		cache.get = func(context.Context) error {
			if down {
				return errDown
			}
			return nil
		}
		cache.after = func(stored bool, err error) (bool, error) {
			if down = cache.swaps.Load() == 1; down {
				return false, errDown
			}
			return stored, err
		}
		src := wxtoken.New(f, cache, l.option())
		_, err := src.Token(t.Context())
		require.ErrorIs(t, err, wxtoken.ErrCacheUnavailable)
		require.Contains(t, recordOf(t, cache.Cache), "lease")
		down = false
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
	now := func(d time.Duration) int64 { return time.Now().Add(d).UnixMilli() }
	for name, record := range map[string]func() string{
		"year 9999": func() string { return `{"v":1,"epoch":"e","seq":1,"token":"x","expires_at":253402300799000}` },
		"no end": func() string {
			return `{"v":1,"epoch":"e","seq":1,"token":"x","expires_at":9223372036854775807,"issued_at":-9223372036854775808}`
		},
		"negative": func() string {
			return `{"v":1,"epoch":"e","seq":1,"token":"x","expires_at":-9223372036854775808,"issued_at":9223372036854775807}`
		},
		"early": func() string {
			return fmt.Sprintf(`{"v":1,"epoch":"e","seq":1,"token":"x","expires_at":%d,"early":9223372036854775807}`, now(time.Hour))
		},
		"seq": func() string {
			return fmt.Sprintf(`{"v":1,"epoch":"e","seq":9223372036854775807,"token":"x","expires_at":%d}`, now(time.Hour))
		},
		"cooldown": func() string {
			return `{"v":1,"epoch":"e","seq":1,"cooldown":{"until":9223372036854775807,"code":-1,"step":9223372036854775807}}`
		},
		"cooldown 0": func() string { return `{"v":1,"epoch":"e","seq":1,"cooldown":{}}` },
		"cooldown -": func() string {
			return `{"v":1,"epoch":"e","seq":1,"cooldown":{"until":-9223372036854775808,"code":45009}}`
		},
		"lease": func() string {
			return fmt.Sprintf(`{"v":1,"epoch":"e","seq":1,"token":"x","expires_at":%d,"lease":"other","owed":3}`, now(time.Hour))
		},
		"rejected": func() string {
			return fmt.Sprintf(`{"v":1,"epoch":"e","seq":1,"token":"x","expires_at":%d,"rejected":true}`, now(time.Hour))
		},
	} {
		bubble(t, name, func(t *testing.T) {
			f, cache := &countingFetcher{}, wxtoken.NewMemoryCache()
			put(t, cache, []byte(record()))
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
			f, cache, l, now := &countingFetcher{}, wxtoken.NewMemoryCache(), &log{}, time.Now()
			f.answer = func(n int64) error {
				if n < 3 {
					return &wxtoken.APIError{Code: -1}
				}
				return nil
			}
			put(t, cache, fmt.Appendf(nil, `{"v":1,"epoch":"e",%s,"token":"x","issued_at":%d,"expires_at":%d}`,
				count, now.UnixMilli(), now.Add(20*time.Minute).UnixMilli()))
			srcs := []*wxtoken.Source{wxtoken.New(f, cache, l.option()), wxtoken.New(f, cache, l.option())}
			rejects := time.Now().Add(10 * time.Minute)
			for start := time.Now(); time.Since(start) < 3*time.Hour; time.Sleep(time.Second) {
				for _, src := range srcs {
					token(t, src)
				}
				if now := time.Now(); now.After(rejects) {
					rejects = now.Add(time.Hour)
					require.NoError(t, srcs[0].Invalidate(t.Context(), token(t, srcs[0])))
				}
			}
			assert.Zero(t, l.count(wxtoken.EventCacheError))
			assert.LessOrEqual(t, f.fetches.Load(), int64(10))
		})
	}
}

// The first record of all was not lost: deleting it forces a token at once.
func TestFirstRecordDeletedByHand(t *testing.T) {
	for _, after := range []time.Duration{5 * time.Minute, 7 * time.Minute, 9 * time.Minute} {
		bubble(t, after.String(), func(t *testing.T) {
			f, store := &countingFetcher{repeatable: true}, newSwappable()
			src := wxtoken.New(f, store)
			for range after / time.Second {
				token(t, src)
				time.Sleep(time.Second)
			}
			store.lose()
			for range 150 {
				token(t, src)
				time.Sleep(time.Second)
			}
			assert.EqualValues(t, 2, f.fetches.Load())
		})
	}
}
