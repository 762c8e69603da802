package wxtoken_test

import (
	"context"
	"math"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/wxtoken/wxtoken"
	"github.com/wxtoken/wxtoken/internal/servers"
)

func TestNewRedisCacheRefusesWhatCannotWork(t *testing.T) {
	assert.PanicsWithValue(t, "wxtoken: NewRedisCache: the client is nil", func() { wxtoken.NewRedisCache(nil) })

	var notYetMade *redis.Client // a global that main was to set
	assert.PanicsWithValue(t, "wxtoken: NewRedisCache: the client is nil", func() { wxtoken.NewRedisCache(notYetMade) })

	ring := redis.NewRing(&redis.RingOptions{Addrs: map[string]string{"shard": "127.0.0.1:1"}})
	defer ring.Close()
	defer func() {
		assert.Contains(t, recover(), "two clients of a *redis.Ring can pick different shards for one key")
	}()
	wxtoken.NewRedisCache(ring)
}

// What is stored is a plain string with a time to live, for readers in other
// languages, and a ttl below Redis's millisecond is not one of nothing.
func TestRedisCacheStoresAPlainString(t *testing.T) {
	client := redisClient(t, servers.Redis(t).Addr())
	cache := wxtoken.NewRedisCache(client)
	mustSwap(t, cache, "key", nil, []byte("value"), 2*time.Hour)
	assert.Equal(t, "value", client.Get(t.Context(), "key").Val())
	assert.InDelta(t, 2*time.Hour, client.PTTL(t.Context(), "key").Val(), float64(time.Minute))

	mustSwap(t, cache, "brief", nil, []byte("value"), time.Nanosecond)
	mustSwap(t, cache, "old", nil, []byte("value"), math.MaxInt64)
}

func TestRedisCacheLeavesAForeignTypeAlone(t *testing.T) {
	client := redisClient(t, servers.Redis(t).Addr())
	cache := wxtoken.NewRedisCache(client)
	require.NoError(t, client.LPush(t.Context(), "key", "a", "b").Err())

	_, err := cache.Get(t.Context(), "key")
	assert.ErrorContains(t, err, `wxtoken: redis, key "key": WRONGTYPE`)
	for _, old := range [][]byte{nil, []byte("a")} {
		stored, err := cache.CompareAndSwap(t.Context(), "key", old, []byte("new"), time.Minute)
		assert.False(t, stored)
		assert.ErrorContains(t, err, "WRONGTYPE")
		assert.NotErrorIs(t, err, wxtoken.ErrCacheMiss)
	}
	assert.Equal(t, []string{"b", "a"}, client.LRange(t.Context(), "key", 0, -1).Val())
}

func TestRedisCacheSurvivesTheLossOfItsScript(t *testing.T) {
	server := servers.Redis(t)
	client := redis.NewClient(&redis.Options{Addr: server.Addr()})
	defer client.Close()
	cache := wxtoken.NewRedisCache(client)
	mustSwap(t, cache, "key", nil, []byte("one"), time.Minute)
	require.NoError(t, client.ScriptFlush(t.Context()).Err())
	mustSwap(t, cache, "key", []byte("one"), []byte("two"), time.Minute)

	server.Restart() // empty: its data is gone with its scripts
	mustSwap(t, cache, "key", nil, []byte("three"), time.Minute)
}

// The one hole in go-redis's answers, as RedisCache documents it.
func TestRedisCacheWhenTheReplyIsLost(t *testing.T) {
	server := servers.Redis(t)
	proxy := servers.Proxy(t, server.Addr())
	for name, retries := range map[string]int{"no-retries": -1, "retries": 3} {
		t.Run(name, func(t *testing.T) {
			client := redis.NewClient(&redis.Options{Addr: proxy.Addr(), MaxRetries: retries})
			defer client.Close()
			cache := wxtoken.NewRedisCache(client)
			mustSwap(t, cache, name, nil, []byte("one"), time.Minute)

			proxy.DropReplies(1)
			stored, err := cache.CompareAndSwap(t.Context(), name, []byte("one"), []byte("two"), time.Minute)
			assert.False(t, stored)
			assert.Equal(t, retries < 0, err != nil, "%v", err)
			mustHold(t, cache, name, "two")
		})
	}
}

func TestRedisCacheWithoutAServer(t *testing.T) {
	server := servers.Redis(t)
	proxy := servers.Proxy(t, server.Addr())
	cache := wxtoken.NewRedisCache(redisClient(t, proxy.Addr()))
	mustSwap(t, cache, "key", nil, []byte("value"), time.Minute)

	proxy.BlackHole()
	failsSoon(t, cache)
	proxy.Heal()

	server.Kill()
	failsSoon(t, cache)
}

// A slot that is being moved has its keys on two masters: what is absent on one
// is asked of the other.
func TestRedisCacheWhileASlotMoves(t *testing.T) {
	t.Parallel()
	group := servers.Cluster(t)
	client := redis.NewClusterClient(&redis.ClusterOptions{Addrs: group.Addrs()})
	defer client.Close()
	cache := wxtoken.NewRedisCache(client)
	mustSwap(t, cache, "{slot}1", nil, []byte("one"), time.Minute)
	group.MoveSlot("{slot}1", func() {
		mustSwap(t, cache, "{slot}1", []byte("one"), []byte("two"), time.Minute)
		mustSwap(t, cache, "{slot}2", nil, []byte("new"), time.Minute)
		mustSwap(t, cache, "{slot}2", []byte("new"), []byte("newer"), time.Minute)
	})
	mustHold(t, cache, "{slot}1", "two")
	mustHold(t, cache, "{slot}2", "newer")
	mustSwap(t, cache, "{slot}1", []byte("two"), []byte("three"), time.Minute)
}

func mustSwap(t *testing.T, cache wxtoken.Cache, key string, old, new []byte, ttl time.Duration) {
	t.Helper()
	stored, err := cache.CompareAndSwap(t.Context(), key, old, new, ttl)
	require.NoError(t, err)
	require.True(t, stored)
}

func mustHold(t *testing.T, cache wxtoken.Cache, key, want string) {
	t.Helper()
	got, err := cache.Get(t.Context(), key)
	require.NoError(t, err)
	require.Equal(t, want, string(got))
}

// failsSoon expects a store that cannot answer to be an error, at the end of
// ctx at the latest, and never a miss.
func failsSoon(t *testing.T, cache wxtoken.Cache) {
	t.Helper()
	start := time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := cache.Get(ctx, "key")
	require.Error(t, err)
	assert.NotErrorIs(t, err, wxtoken.ErrCacheMiss)
	ctx, cancel = context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err = cache.CompareAndSwap(ctx, "key", []byte("value"), []byte("new"), time.Minute)
	assert.Error(t, err)
	assert.Less(t, time.Since(start), time.Second)
}
