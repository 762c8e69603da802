package wxtoken_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/wxtoken/wxtoken"
)

func TestStoreLosesOrRewindsTheRecord(t *testing.T) {
	bubble(t, "flushed: one fetch, and callers do not wait", func(t *testing.T) {
		f := &stub{latency: 200 * time.Millisecond}
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
		store.cache = wxtoken.NewMemoryCache()
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
		f := &stub{answer: func(n int64) error {
			if n > 1 {
				return &wxtoken.APIError{Code: 45009}
			}
			return nil
		}}
		store := &swappable{cache: wxtoken.NewMemoryCache()}
		cache := &faultyCache{Cache: store, get: func(context.Context) error { time.Sleep(time.Millisecond); return nil }}
		src := wxtoken.New(f, cache)
		token(t, src)
		store.cache = wxtoken.NewMemoryCache()
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
		src := wxtoken.New(&stub{}, cache)
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
		f, l := &stub{}, &log{}
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

// swappable is a store that can be lost: by lose, if calls may be under way.
type swappable struct {
	cache wxtoken.Cache
	mu    sync.Mutex
}

func (s *swappable) lose() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cache = wxtoken.NewMemoryCache()
}

func (s *swappable) now() wxtoken.Cache {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cache
}

func (s *swappable) Get(ctx context.Context, key string) ([]byte, error) {
	return s.now().Get(ctx, key)
}

func (s *swappable) CompareAndSwap(ctx context.Context, key string, old, new []byte, ttl time.Duration) (bool, error) {
	return s.now().CompareAndSwap(ctx, key, old, new, ttl)
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
			assert.Equal(t, "token-1", token(t, wxtoken.New(&stub{}, cache, l.option())))
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
			for _, f := range []*stub{{}, {repeatable: true}} {
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
