package storetest

import (
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/wxtoken/wxtoken"
	"github.com/wxtoken/wxtoken/internal/servers"
	"github.com/wxtoken/wxtoken/internal/store"
)

func FuzzRedisCache(f *testing.F)     { fuzzCache(f, "redis "+servers.Redis(f).Addr()) }
func FuzzMemcachedCache(f *testing.F) { fuzzCache(f, "memcached "+servers.Memcached(f).Addr()) }
func FuzzFileCache(f *testing.F)      { fuzzCache(f, "file "+f.TempDir()) }

// fuzzCache expects any value under any good key to come back as it was, and
// a key that could confuse a server to be refused before a Cache hears of it.
func fuzzCache(f *testing.F, config string) {
	cache, err := open(config)
	require.NoError(f, err)
	if c, ok := cache.(io.Closer); ok {
		f.Cleanup(func() { _ = c.Close() })
	}
	f.Add("wxtoken:token:wx0123456789abcdef", []byte(`{"v":1}`))
	f.Add("{slot}", []byte{})
	f.Add("中文", []byte("\x00\xff"))
	f.Add(strings.Repeat("k", 250), []byte("\r\nEND\r\n"))
	f.Add(strings.Repeat("k", 251), []byte("long"))
	f.Add("", []byte("no key"))
	f.Add("key 0 0 1\r\nx\r\nflush_all\r\n", []byte("injected"))
	f.Add("key\x7f", []byte("$-1\r\n"))
	f.Fuzz(func(t *testing.T, key string, value []byte) {
		if len(value) > store.MaxValue {
			t.Skip("no value is as large")
		}
		old, err := store.Get(t.Context(), cache, key)
		if key == "" || len(key) > 250 || strings.ContainsFunc(key, func(r rune) bool { return r <= ' ' || r == 0x7f }) {
			require.Error(t, err)
			require.NotErrorIs(t, err, wxtoken.ErrCacheMiss)
			_, err = store.CompareAndSwap(t.Context(), cache, key, nil, value, time.Minute)
			require.Error(t, err)
			return
		}
		require.True(t, err == nil || errors.Is(err, wxtoken.ErrCacheMiss), "%v", err)
		stored, err := cache.CompareAndSwap(t.Context(), key, old, value, time.Minute)
		require.NoError(t, err)
		require.True(t, stored)
		got, err := cache.Get(t.Context(), key)
		require.NoError(t, err)
		require.Equal(t, string(value), string(got))
		stored, err = cache.CompareAndSwap(t.Context(), key, append(value, 'x'), nil, time.Minute)
		require.NoError(t, err)
		assert.False(t, stored)
	})
}
