package wxtoken_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/wxtoken/wxtoken"
	"github.com/wxtoken/wxtoken/internal/fetchtest"
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
		src, kill := killable(&countingFetcher{latency: time.Hour}, cache)
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
		assert.InDelta(t, 12*time.Second, time.Since(start), float64(50*time.Millisecond))
		assert.Equal(t, 1, l.count(wxtoken.EventTakeover))
		use(t, 100*time.Minute, time.Minute, src)
		assert.EqualValues(t, 2, f.fetches.Load(), "one more fetch settles which token is the latest")
		assert.NotContains(t, recordOf(t, cache), "owed")
	})
	bubble(t, "the lease of a repeatable fetcher is short, and leaves nothing to settle", func(t *testing.T) {
		cache, f := wxtoken.NewMemoryCache(), &countingFetcher{repeatable: true}
		src, kill := killable(&countingFetcher{latency: time.Minute, repeatable: true}, cache)
		go src.Token(context.Background())
		synctest.Wait()
		assert.EqualValues(t, 1000, recordOf(t, cache)["lease_for"])
		kill()
		start := time.Now()
		token(t, wxtoken.New(f, cache))
		assert.InDelta(t, time.Second, time.Since(start), float64(30*time.Millisecond))
		assert.NotContains(t, recordOf(t, cache), "owed")
	})
	bubble(t, "while the token is usable, it is given more time", func(t *testing.T) {
		f, l, cache := &countingFetcher{}, &log{}, wxtoken.NewMemoryCache()
		src := wxtoken.New(f, cache, l.option())
		token(t, src)
		time.Sleep(115 * time.Minute)
		change(t, cache, func(r map[string]any) { r["lease"], r["lease_for"] = "of a process that died", 12_000 })
		start := time.Now()
		for l.count(wxtoken.EventTakeover) == 0 {
			require.Zero(t, use(t, time.Second, 100*time.Millisecond, src))
		}
		assert.InDelta(t, 62*time.Second, time.Since(start), float64(4*time.Second), "15 s, as version 0.1 wrote the lease, and 47 s")
	})
	bubble(t, "a record with another nonce each time is watched again", func(t *testing.T) {
		f, cache := &countingFetcher{}, wxtoken.NewMemoryCache()
		dies(cache)
		src := wxtoken.New(f, cache)
		go token(t, src)
		for i := range 3 {
			time.Sleep(11 * time.Second)
			change(t, cache, func(r map[string]any) { r["lease"] = fmt.Sprint("other", i) })
			require.Zero(t, f.fetches.Load())
		}
		token(t, src)
	})
	bubble(t, "however many are killed while they fetch", func(t *testing.T) {
		f, cache := &countingFetcher{latency: time.Second}, wxtoken.NewMemoryCache()
		for range 5 {
			src, kill := killable(f, cache)
			ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
			_, err := src.Token(ctx)
			assert.Error(t, err)
			cancel()
			kill()
			time.Sleep(500 * time.Millisecond)
		}
		start := time.Now()
		token(t, wxtoken.New(f, cache))
		assert.LessOrEqual(t, time.Since(start), 15*time.Second, "the store drops the record, lease and all, after 14 s")
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
		`{"v":1,"epoch":"e","seq":-1}`, `{"v":1,"epoch":"e","seq":9223372036854775807}`, `{"v":1,"epoch":"e","seq":1,"early":9223372036854775807}`,
		`{"v":1,"epoch":"e","seq":1,"token":"x","expires_at":9223372036854775807,"issued_at":-9223372036854775808}`, `{"v":1,"epoch":"e","owed":99}`, `{"v":1,"epoch":"e","cooldown":{"step":2147483647}}`,
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

// The store has the record of a moment ago, while other processes go on. More of them,
// two masters and rejections that were lost: internal/sim.
func TestStoreGoesBack(t *testing.T) {
	// goesBack returns a Source that holds token-2, over a store that is back at token-1.
	goesBack := func(t *testing.T) (*wxtoken.Source, wxtoken.Cache, *log) {
		l, cache := &log{}, wxtoken.NewMemoryCache()
		src := wxtoken.New(&countingFetcher{}, cache, l.option())
		token(t, src)
		before := stored(t, cache)
		time.Sleep(time.Minute)
		require.NoError(t, src.Invalidate(t.Context(), "token-1"))
		require.Equal(t, "token-2", token(t, src))
		put(t, cache, before)
		time.Sleep(time.Minute)
		return src, cache, l
	}
	bubble(t, "the newer token is written back and verified", func(t *testing.T) {
		src, cache, l := goesBack(t)
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
		src, _, _ := goesBack(t)
		require.NoError(t, src.Invalidate(t.Context(), "token-2"))
		assert.Equal(t, "token-3", token(t, src))
	})
	for _, back := range []bool{true, false} {
		bubble(t, fmt.Sprintf("during a fetch, to a token %v: what was fetched is published all the same, and verified", back), func(t *testing.T) {
			f, store, before, n := &countingFetcher{latency: 2 * time.Second}, newSwappable(), "", int64(1)
			src := wxtoken.New(f, store)
			if back {
				token(t, src)
				before, n = stored(t, store), 2
			}
			for f.fetches.Load() < n {
				go src.Token(t.Context())
				time.Sleep(time.Second)
			}
			store.lose() // and the lease with it
			if back {
				put(t, store, before)
			}
			time.Sleep(1500 * time.Millisecond)
			want := fmt.Sprint("token-", n)
			assert.Equal(t, want, token(t, src))
			require.NoError(t, src.Wait(t.Context()))
			assert.Equal(t, want, recordOf(t, store)["token"])
			assert.EqualValues(t, 1, recordOf(t, store)["owed"])
			assert.Equal(t, n, f.fetches.Load(), "nobody fetches twice at once")
			use(t, 2*time.Minute, time.Second, src)
			assert.Equal(t, n+1, f.fetches.Load())
			assert.NotContains(t, recordOf(t, store), "owed")
		})
	}
}

// The lease says how long it lasts: anyone who has a shorter timeout waits for it.
func TestLeaseOfAProcessWithALongerTimeout(t *testing.T) {
	inBubble(t, func(t *testing.T) {
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
}

// diesFetching returns the Source of a process whose Fetcher is made from one that
// hangs, and a func that calls it until it fetches, and then ends it.
func diesFetching(t *testing.T, cache wxtoken.Cache, fetcher func(*countingFetcher) wxtoken.Fetcher) (src *wxtoken.Source, die func()) {
	f := &countingFetcher{latency: time.Hour}
	src, kill := killable(fetcher(f), slow(cache, 400*time.Millisecond))
	return src, func() {
		for f.fetches.Load() == 0 {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			_, _ = src.Token(ctx)
			cancel()
			time.Sleep(time.Second)
		}
		kill()
	}
}

// Each takeover without a token in between waits longer, even where the store
// loses the record together with the lease. A store that keeps no token: internal/sim.
func TestLeasesGrow(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		cache, want := wxtoken.NewMemoryCache(), 12_000.0
		put(t, cache, recordWith("x", time.Now(), time.Now().Add(6*time.Minute), ""))
		var die [10]func()
		for i := range die {
			var src *wxtoken.Source
			src, die[i] = diesFetching(t, cache, func(f *countingFetcher) wxtoken.Fetcher { return f })
			token(t, src)
		}
		time.Sleep(6 * time.Minute) // the leases of those that were started minutes ago say nothing of the store
		for i := range die {
			die[i]()
			assert.InDelta(t, want, recordOf(t, cache)["lease_for"], 10)
			want = min(want*1.5, 300_000)
		}
		assert.Equal(t, 300_000.0, want)
	})
}

// Where each process dies in its first fetch, the next of its member waits longer, and
// its lease is no longer. Without a fixed secret the name of the member is vague, and
// no lease has it.
func TestMemberThatDiesInEachFetch(t *testing.T) {
	for name, test := range map[string]struct {
		opt   func() wxtoken.FetcherOption
		waits bool
	}{
		"fixed secret": {func() wxtoken.FetcherOption { return wxtoken.WithBaseURL("https://wx.example") }, true},
		"WithSecretFunc": {func() wxtoken.FetcherOption {
			return wxtoken.WithSecretFunc(func(context.Context) (string, error) { return fetchtest.Secret, nil })
		}, false},
	} {
		bubble(t, name, func(t *testing.T) {
			cache, last := wxtoken.NewMemoryCache(), time.Now()
			put(t, cache, `{"v":1,"epoch":"e","seq":0}`)
			var waits []time.Duration
			for range 10 {
				_, die := diesFetching(t, cache, func(f *countingFetcher) wxtoken.Fetcher {
					hangs := baseFunc(func(req *http.Request) (*http.Response, error) {
						_, err := f.Fetch(req.Context())
						return nil, err
					})
					return stubKeyed{wxtoken.NewFetcher("wx1", fetchtest.Secret, wxtoken.WithHTTPClient(&http.Client{Transport: hangs}), test.opt())}
				})
				die()
				assert.EqualValues(t, 12_000, recordOf(t, cache)["lease_for"])
				waits = append(waits, time.Since(last).Round(time.Second))
				last = time.Now()
			}
			assert.Equal(t, test.waits, slices.IsSorted(waits) && waits[9] > 2*time.Minute, waits)
			assert.Equal(t, !test.waits, slices.Max(waits) < 20*time.Second, waits)
		})
	}
}

// stubKeyed is a fetcher whose record is the stub's.
type stubKeyed struct{ *wxtoken.HTTPFetcher }

func (stubKeyed) Key() string { return "stub" }

// A lease names the member of a process that has just started only if the name is
// exact, which takes a fixed secret, and a fetch supersedes the token before.
func TestMemberInALease(t *testing.T) {
	hangs := wxtoken.WithHTTPClient(&http.Client{Transport: baseFunc(func(req *http.Request) (*http.Response, error) {
		<-req.Context().Done()
		return nil, req.Context().Err()
	})})
	for name, test := range map[string]struct {
		fetcher func() wxtoken.Fetcher
		named   bool
	}{
		"fixed secret": {func() wxtoken.Fetcher { return stubKeyed{wxtoken.NewFetcher("wx1", fetchtest.Secret, hangs)} }, true},
		"WithSecretFunc": {func() wxtoken.Fetcher {
			ask := func(context.Context) (string, error) { return fetchtest.Secret, nil }
			return stubKeyed{wxtoken.NewFetcher("wx1", "", hangs, wxtoken.WithSecretFunc(ask))}
		}, false},
		"own":        {func() wxtoken.Fetcher { return &countingFetcher{latency: 1 << 40} }, false},
		"repeatable": {func() wxtoken.Fetcher { return stubKeyed{wxtoken.NewStableFetcher("wx1", fetchtest.Secret, hangs)} }, false},
	} {
		bubble(t, name, func(t *testing.T) {
			cache := wxtoken.NewMemoryCache()
			go wxtoken.New(test.fetcher(), cache).Token(t.Context())
			synctest.Wait()
			names := strings.Split(recordOf(t, cache)["lease"].(string), ".")
			assert.Equal(t, test.named, len(names) == 3, names)
		})
	}
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

// A young process whose callers have all given up takes no lease, as it may exit in
// the middle of the fetch: only while a caller of Token, Wait or Run blocks.
func TestYoungProcessThatNobodyWaitsFor(t *testing.T) {
	patient := func(ctx context.Context, src *wxtoken.Source) { _, _ = src.Token(ctx) }
	for name, test := range map[string]struct {
		then    func(ctx context.Context, src *wxtoken.Source)
		fetches int64
	}{
		"nobody":         {func(context.Context, *wxtoken.Source) {}, 0},
		"a caller again": {patient, 1},
		"Wait":           {func(ctx context.Context, src *wxtoken.Source) { _ = src.Wait(ctx) }, 1},
		"Run":            {func(ctx context.Context, src *wxtoken.Source) { _ = src.Run(ctx) }, 1},
		"not long enough": {func(ctx context.Context, src *wxtoken.Source) {
			ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
			defer cancel()
			patient(ctx, src)
		}, 0},
	} {
		bubble(t, name, func(t *testing.T) {
			f, cache := &countingFetcher{}, wxtoken.NewMemoryCache()
			put(t, cache, `{"v":1,"epoch":"e","seq":0,"lease":"of a process that died","lease_for":12000}`)
			src := wxtoken.New(f, cache)
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			_, err := src.Token(ctx)
			require.ErrorIs(t, err, context.DeadlineExceeded)
			ctx, cancel = context.WithTimeout(t.Context(), 13*time.Second)
			defer cancel()
			test.then(ctx, src)
			time.Sleep(15 * time.Second)
			assert.Equal(t, test.fetches, f.fetches.Load())
			assert.Equal(t, "token-1", token(t, src), "the next caller gets one all the same")
		})
	}
}

// Callers who are less patient than one read of the cache get a token all the same, if
// they come back.
func TestYoungProcessWithImpatientCallers(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := &countingFetcher{}
		src := wxtoken.New(f, slow(wxtoken.NewMemoryCache(), 150*time.Millisecond))
		require.Eventually(t, func() bool {
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			defer cancel()
			_, err := src.Token(ctx)
			return err == nil
		}, 4*time.Second, time.Second)
		assert.EqualValues(t, 1, f.fetches.Load())
	})
}

// A young process leaves a usable token to others, and replaces an expired one.
func TestYoungProcess(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f, cache := &countingFetcher{}, wxtoken.NewMemoryCache()
		token(t, wxtoken.New(f, cache))
		time.Sleep(119*time.Minute + 40*time.Second)
		use(t, 14*time.Second, time.Second, wxtoken.New(f, cache))
		assert.EqualValues(t, 1, f.fetches.Load())
		time.Sleep(7 * time.Second) // it has expired
		assert.Equal(t, "token-2", token(t, wxtoken.New(f, cache)))
	})
}

// neverSwaps says of every write, after 100 µs, that something else was there.
type neverSwaps struct{ wxtoken.Cache }

func (neverSwaps) CompareAndSwap(context.Context, string, []byte, []byte, time.Duration) (bool, error) {
	time.Sleep(100 * time.Microsecond)
	return false, nil
}

func TestStoreThatNeverSwaps(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f, store, l := &countingFetcher{}, newSwappable(), &log{}
		with := wxtoken.New(f, store)
		token(t, with)
		store.use(neverSwaps{store.current()})
		use(t, 2*time.Hour-time.Second, time.Second, with) // the copy stays in use

		cache := &faultyCache{Cache: neverSwaps{wxtoken.NewMemoryCache()}}
		_, err := wxtoken.New(f, cache, l.option()).Token(t.Context())
		assert.Error(t, err)
		assert.Equal(t, 1, l.count(wxtoken.EventCacheError), "the operator learns of it")
		assert.Less(t, cache.gets.Load(), int64(200), "reads in a minute")
		assert.EqualValues(t, 1, f.fetches.Load())
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
		timeout         time.Duration // of a fetch
		others          int
		patience, every time.Duration // of their calls
		most            int           // of them that fail, for each
	}{
		{10 * time.Second, 1, time.Second, time.Second, 40},
		{4 * time.Second, 4, 300 * time.Millisecond, 4 * time.Second, 12},
	} {
		bubble(t, fmt.Sprintf("%d others, a call every %s", test.others, test.every), func(t *testing.T) {
			f, cache := &hanging{countingFetcher: countingFetcher{latency: 200 * time.Millisecond}}, wxtoken.NewMemoryCache()
			srcs := processes(1+test.others, f, cache, wxtoken.WithFetchTimeout(test.timeout))
			use(t, time.Minute, time.Minute, srcs...)
			f.hangs.Store(true)
			require.NoError(t, srcs[0].Invalidate(t.Context(), "token-1"))
			together(test.others, func(i int) {
				time.Sleep(time.Duration(i) * 130 * time.Millisecond)
				every := test.every + time.Duration(i)*test.every/9
				assert.LessOrEqual(t, failing(t, srcs[1+i], test.patience, every, 30*time.Minute), test.most)
			})
			assert.LessOrEqual(t, f.fetches.Load(), int64(30))
			// Once the platform answers, nobody gets the reported token instead of waiting for the new one.
			f.hangs.Store(false)
			time.Sleep(11 * time.Minute)
			together(len(srcs), func(i int) { assert.NotEqual(t, "token-1", token(t, srcs[i])) })
		})
	}
}

// fetchesIn has src asked every two seconds for d, and counts the fetches of f.
func fetchesIn(t *testing.T, src *wxtoken.Source, f *countingFetcher, d time.Duration) int64 {
	t.Helper()
	before := f.fetches.Load()
	for start := time.Now(); time.Since(start) < d; time.Sleep(2 * time.Second) {
		_, _ = src.Token(t.Context())
	}
	return f.fetches.Load() - before
}

func TestCooldowns(t *testing.T) {
	const everyone, oneself = time.Second, 0 // the failure may be the fault of one process: the others wait a second
	tests := []struct {
		name   string
		err    error
		others time.Duration // how long another process waits
		first  time.Duration // a second fetch comes after this
		hour   [2]int64      // fetches in the first hour, least and most
	}{
		{"wrong secret, by a Fetcher that does not tell which", &wxtoken.APIError{Code: 40125}, oneself, time.Minute, [2]int64{9, 10}},
		{"wrong secret, as documented", &wxtoken.APIError{Code: 40001}, oneself, time.Minute, [2]int64{9, 10}},
		{"bad AppID", &wxtoken.APIError{Code: 40013}, everyone, 10 * time.Minute, [2]int64{6, 6}},
		{"frozen", &wxtoken.APIError{Code: 40243}, everyone, 10 * time.Minute, [2]int64{6, 6}},
		{"not whitelisted", &wxtoken.APIError{Code: 40164}, oneself, time.Minute, [2]int64{13, 15}},
		{"denied for an hour", &wxtoken.APIError{Code: 89507}, oneself, 10 * time.Minute, [2]int64{6, 6}},
		{"daily quota", &wxtoken.APIError{Code: 45009}, everyone, 15 * time.Minute, [2]int64{3, 3}},
		{"minute quota", &wxtoken.APIError{Code: 45011}, everyone, time.Minute, [2]int64{58, 61}},
		{"an errcode nobody knows", &wxtoken.APIError{Code: 99999}, everyone, 5 * time.Second, [2]int64{10, 14}},
		{"no answer", errors.New("EOF"), everyone, 1250 * time.Millisecond, [2]int64{12, 16}},
		{"errcode 0, which denies nothing", &wxtoken.APIError{}, everyone, 1250 * time.Millisecond, [2]int64{12, 16}},
	}
	for _, test := range tests {
		bubbles(t, test.name, func(t *testing.T) {
			f := &countingFetcher{answer: failBetween(1, ever, test.err)}
			cache := wxtoken.NewMemoryCache()
			src, other := wxtoken.New(f, cache), wxtoken.New(f, cache)

			_, err := src.Token(t.Context())
			assert.ErrorIs(t, err, test.err)
			var cool *wxtoken.CooldownError
			require.ErrorAs(t, err, &cool)
			assert.InDelta(t, test.first, time.Until(cool.Until), float64(10*time.Millisecond))

			failed := time.Now()
			fetched := func(after time.Duration) int64 { // by the other process, which has no time for a second try
				time.Sleep(time.Until(failed.Add(after)))
				before := f.fetches.Load()
				ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
				defer cancel()
				_, err := other.Token(ctx)
				assert.Error(t, err)
				return f.fetches.Load() - before
			}
			if test.others > 0 {
				assert.Zero(t, fetched(test.others-100*time.Millisecond), "another process waits as well")
			}
			assert.EqualValues(t, 1, fetched(test.others+100*time.Millisecond), "and no longer")

			n := fetchesIn(t, src, f, time.Hour) + 1
			assert.GreaterOrEqual(t, n, test.hour[0])
			assert.LessOrEqual(t, n, test.hour[1])
		})
	}
}

func TestBusyPlatformIsWaitedOut(t *testing.T) {
	busy := &wxtoken.APIError{Code: -1, Message: "system error"}
	for name, test := range map[string]struct {
		answer      func(int64) error
		patience    time.Duration // of the caller
		least, most time.Duration // that Token takes
		want        string
	}{
		// A quarter longer than the second that the others wait, and then two.
		"by a caller with time":       {failBetween(1, 2, busy), time.Hour, 3250 * time.Millisecond, 3260 * time.Millisecond, "token-3"},
		"not by a caller without":     {failBetween(1, ever, busy), 500 * time.Millisecond, 0, 0, ""},
		"not for long":                {failBetween(1, ever, busy), time.Hour, 0, 5 * time.Second, ""},
		"not for long, in either way": {func(n int64) error { return &wxtoken.APIError{Code: []int{-1, -1000}[n%2]} }, time.Hour, 0, 5 * time.Second, ""},
	} {
		bubble(t, name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), test.patience)
			defer cancel()
			start := time.Now()
			tok, err := wxtoken.New(&countingFetcher{answer: test.answer}, nil).Token(ctx)
			assert.Equal(t, test.want, tok.Value)
			var denial *wxtoken.APIError
			assert.Equal(t, test.want == "", errors.As(err, &denial) && denial.Temporary(), "%v", err)
			assert.GreaterOrEqual(t, time.Since(start), test.least)
			assert.LessOrEqual(t, time.Since(start), test.most)
		})
	}
	bubble(t, "a fault of seconds is over in seconds", func(t *testing.T) {
		start := time.Now()
		src := wxtoken.New(&countingFetcher{answer: func(int64) error {
			if time.Since(start) < 4*time.Second {
				return errors.New("HTTP status 503")
			}
			return nil
		}}, nil)
		for _, err := src.Token(t.Context()); err != nil; _, err = src.Token(t.Context()) {
			time.Sleep(100 * time.Millisecond)
		}
		assert.Less(t, time.Since(start), 9*time.Second)
	})
	bubble(t, "and is no error while there is a token", func(t *testing.T) {
		f := &countingFetcher{answer: failBetween(2, ever, busy)}
		src := wxtoken.New(f, nil)
		use(t, 2*time.Hour-time.Second, time.Second, src)
		assert.Greater(t, f.fetches.Load(), int64(5))
	})
}

// Whatever a Fetcher puts into an APIError, records, Events and errors stay small and
// printable. See also TestAnErrorOfAFetcherFuncWithoutMeasure in internal/sim.
func TestDenialsOfAnyShape(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		cache, l := wxtoken.NewMemoryCache(), &log{}
		denial := &wxtoken.APIError{Code: 45009, Message: "\x1b[31mquota\n\u202e" + strings.Repeat("密", 1<<20)}
		f := &countingFetcher{answer: failBetween(1, ever, fmt.Errorf("mine: %w", denial))}
		for _, src := range processes(2, f, cache, l.option()) {
			_, err := src.Token(t.Context())
			require.ErrorContains(t, err, " [31mquota 密")
			assert.Less(t, len(err.Error()), 2200)
			assert.NotContains(t, err.Error(), "\x1b")
			assert.NotContains(t, err.Error(), "\u202e")
		}
		assert.Less(t, len(stored(t, cache)), 2400)
		assert.NotContains(t, recordOf(t, cache), "owed", "the platform issued nothing")
		for _, e := range l.all() {
			assert.Less(t, len(e.Err.Error()), 2200)
		}
		assert.EqualValues(t, 1, f.fetches.Load())
	})
}

// killable makes a process: once it is killed, it stores nothing, and what it fetches
// reaches nobody.
func killable(f wxtoken.Fetcher, cache wxtoken.Cache, opts ...wxtoken.Option) (src *wxtoken.Source, kill func()) {
	c, dead := breakable(cache)
	return wxtoken.New(f, c, opts...), func() { dead.Store(true) }
}
