package wxtoken_test

import (
	"testing"
	"time"

	"github.com/bradfitz/gomemcache/memcache"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/wxtoken/wxtoken"
	"github.com/wxtoken/wxtoken/cachetest"
	"github.com/wxtoken/wxtoken/internal/servers"
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
