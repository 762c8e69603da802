package wxtoken_test

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/bradfitz/gomemcache/memcache"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/wxtoken/wxtoken"
	"github.com/wxtoken/wxtoken/cachetest"
	"github.com/wxtoken/wxtoken/internal/servers"
	"github.com/wxtoken/wxtoken/wxtest"
)

func TestMemoryCacheKeepsTheContract(t *testing.T) {
	t.Parallel()
	cachetest.Run(t, func(*testing.T) wxtoken.Cache { return new(wxtoken.MemoryCache) })
}

func TestRedisCacheKeepsTheContract(t *testing.T) {
	t.Parallel()
	cache := wxtoken.NewRedisCache(redisClient(t, servers.Redis(t).Addr()))
	cachetest.Run(t, func(*testing.T) wxtoken.Cache { return cache })
}

func TestFileCacheKeepsTheContract(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cachetest.Run(t, func(*testing.T) wxtoken.Cache { return wxtoken.NewFileCache(dir) })
}

func TestMemcachedCacheKeepsTheContract(t *testing.T) {
	t.Parallel()
	cache := wxtoken.NewMemcachedCache(memcachedClient(t, servers.Memcached(t).Addr()))
	cachetest.Run(t, func(*testing.T) wxtoken.Cache { return cache })
}

// Several servers, one of them listed twice for twice the weight.
func TestMemcachedCacheOverSeveralServersKeepsTheContract(t *testing.T) {
	t.Parallel()
	one, two := servers.Memcached(t).Addr(), servers.Memcached(t).Addr()
	cache := wxtoken.NewMemcachedCache(memcachedClient(t, one, two, two))
	cachetest.Run(t, func(*testing.T) wxtoken.Cache { return cache })
}

// redisClient connects without retries, so that one call is one command, and is
// closed at the test's end.
func redisClient(t testing.TB, addr string) *redis.Client {
	client := redis.NewClient(&redis.Options{Addr: addr, MaxRetries: -1, ContextTimeoutEnabled: true})
	t.Cleanup(func() { require.NoError(t, client.Close()) })
	return client
}

func memcachedClient(t testing.TB, addrs ...string) *memcache.Client {
	client := memcache.New(addrs...)
	client.Timeout = 2 * time.Second // a busy machine is no failure
	t.Cleanup(func() { require.NoError(t, client.Close()) })
	return client
}

// Two processes with a memory each: with a repeatable fetcher the platform
// answers both with one token, and no call is rejected; with NewFetcher each
// fetch of one supersedes the token of the other.
func TestMemoryForEachProcess(t *testing.T) {
	type constructor func(appID, secret string, opts ...wxtoken.FetcherOption) *wxtoken.HTTPFetcher
	for name, test := range map[string]struct {
		fetcher constructor
		shared  bool
	}{
		"stable": {wxtoken.NewStableFetcher, true},
		"plain":  {wxtoken.NewFetcher, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const hours = 72
				platform := wxtest.NewPlatform(wxtest.WithApp("wx1", "secret"), wxtest.WithStrictGrace())
				var calls, rejected atomic.Int64
				for process := range 2 {
					src := wxtoken.New(test.fetcher("wx1", "secret", wxtoken.WithHTTPClient(platform.Client())), wxtoken.NewMemoryCache())
					go func() {
						time.Sleep(time.Duration(process) * 7 * time.Minute)
						for range hours * 60 * 2 {
							calls.Add(1)
							if !platform.Honoured(token(t, src)) {
								rejected.Add(1)
							}
							time.Sleep(30 * time.Second)
						}
					}()
				}
				time.Sleep((hours + 1) * time.Hour)
				t.Logf("%d hours, %d calls: %d rejected, %d fetches", hours, calls.Load(), rejected.Load(), platform.Stats().Fetches().Total())
				assert.Equal(t, test.shared, rejected.Load() == 0)
			})
		})
	}
}
