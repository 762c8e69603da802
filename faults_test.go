package wxtoken_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/wxtoken/wxtoken"
)

// bubble runs a test in virtual time.
func bubble(t *testing.T, name string, test func(t *testing.T)) {
	t.Run(name, func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			defer time.Sleep(2 * time.Hour) // all that is under way ends by itself
			test(t)
		})
	})
}

// recordOf reads the record of stub Sources as a reader in another language would.
func recordOf(t *testing.T, c wxtoken.Cache) map[string]any {
	t.Helper()
	raw, err := c.Get(t.Context(), "wxtoken:stub")
	require.NoError(t, err)
	var r map[string]any
	require.NoError(t, json.Unmarshal(raw, &r))
	return r
}

// put stores a value under the key of stub Sources, whatever was there.
func put(t *testing.T, c wxtoken.Cache, value []byte) {
	t.Helper()
	old, err := c.Get(t.Context(), "wxtoken:stub")
	if errors.Is(err, wxtoken.ErrCacheMiss) {
		old = nil
	}
	ok, err := c.CompareAndSwap(t.Context(), "wxtoken:stub", old, value, time.Hour)
	require.NoError(t, err)
	require.True(t, ok)
}

func TestCacheDown(t *testing.T) {
	bubble(t, "a cold start sends nothing to the platform", func(t *testing.T) {
		f := &stub{}
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
		f := &stub{repeatable: true}
		cache, repair := broken(wxtoken.NewMemoryCache())
		src := wxtoken.New(f, cache)
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
			src := wxtoken.New(&stub{repeatable: true}, cache)
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
		f := &stub{repeatable: true, answer: func(int64) error { return &wxtoken.APIError{Code: 40125} }}
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
		f := &stub{}
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
		f := &stub{}
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
		f, l := &stub{}, &log{}
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
		f := &stub{}
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
				f := &stub{}
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
		f := &stub{block: make(chan struct{})}
		itsCache, dead := breakable(cache)
		src := wxtoken.New(f, itsCache)
		go src.Token(context.Background())
		synctest.Wait()
		dead.Store(true)
		time.AfterFunc(time.Hour, func() { close(f.block) })
	}
	bubble(t, "its lease is taken over, and the doubt is resolved", func(t *testing.T) {
		f, l, cache := &stub{}, &log{}, wxtoken.NewMemoryCache()
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
		f, l, cache := &stub{}, &log{}, wxtoken.NewMemoryCache()
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
		f, cache := &stub{}, wxtoken.NewMemoryCache()
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
		f, l := &stub{}, &log{}
		paused := &faultyCache{Cache: cache}
		paused.swap = func(context.Context) error {
			if paused.swaps.Load() == 2 { // between the fetch and its publishing
				time.Sleep(400 * time.Second)
			}
			return nil
		}
		// Its own cache calls take so long that it notices nothing. No lease lasts over 5 min.
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
		assert.InDelta(t, 5*time.Minute, time.Since(start), float64(10*time.Second))
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
		f := &stub{}
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
