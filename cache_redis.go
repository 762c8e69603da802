package wxtoken

import (
	"context"
	"errors"
	"reflect"
	"time"

	"github.com/redis/go-redis/v9"
)

// A RedisClient is what RedisCache needs of go-redis: a *redis.Client (for
// Sentinel, one from NewFailoverClient) and a *redis.ClusterClient fit.
type RedisClient interface {
	redis.Scripter
	Get(ctx context.Context, key string) *redis.StringCmd
}

// A RedisCache keeps each record as a plain string in Redis. Set the client's
// ContextTimeoutEnabled: go-redis else waits for a slow server as long as its
// ReadTimeout says, whatever ctx says. Do not let it read from replicas.
//
// go-redis sends a command again when the reply is lost, and a swap that stored
// then finds its own bytes and reports false. So, unless the client's retries
// are off, read the key again after false, as Source does.
type RedisCache struct {
	client RedisClient
	swap   *redis.Script
}

// NewRedisCache returns a Cache over client, which stays the caller's to close.
// It panics on nil, and on a *redis.Ring, which could not keep processes apart.
func NewRedisCache(client RedisClient) *RedisCache {
	if _, ok := client.(*redis.Ring); ok {
		panic("wxtoken: NewRedisCache: two clients of a *redis.Ring can pick different shards for one key; use one server, Sentinel or Cluster")
	}
	if v := reflect.ValueOf(client); client == nil || v.Kind() == reflect.Pointer && v.IsNil() {
		panic("wxtoken: NewRedisCache: the client is nil")
	}
	// GET gives false for a missing key; ARGV[3] is nil when it must be missing.
	return &RedisCache{client, redis.NewScript(`
if redis.call('GET', KEYS[1]) ~= (ARGV[3] or false) then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1`)}
}

// Get implements Cache. A key that holds no string, but a list say, is an error.
func (r *RedisCache) Get(ctx context.Context, key string) ([]byte, error) {
	if err := checkGet(ctx, key); err != nil {
		return nil, err
	}
	value, err := r.client.Get(ctx, key).Result()
	if errors.Is(err, redis.Nil) {
		return nil, ErrCacheMiss
	}
	return []byte(value), storeError("redis", key, err)
}

// CompareAndSwap implements Cache. Redis counts ttl in milliseconds, rounded up.
func (r *RedisCache) CompareAndSwap(ctx context.Context, key string, old, new []byte, ttl time.Duration) (bool, error) {
	if err := checkSwap(ctx, key, ttl); err != nil {
		return false, err
	}
	args := []any{new, roundUp(ttl, time.Millisecond)}
	if old != nil {
		args = append(args, old)
	}
	stored, err := r.swap.Run(ctx, r.client, []string{key}, args...).Bool()
	return stored, storeError("redis", key, err)
}
