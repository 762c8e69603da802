package wxtoken

import (
	"context"
	"fmt"
	"reflect"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxtoken/wxtoken/internal/store"
)

// A RedisClient is the part of go-redis that [RedisCache] uses. A *redis.Client (for
// Sentinel, one from NewFailoverClient) and a *redis.ClusterClient implement it.
type RedisClient interface {
	redis.Scripter
	Get(ctx context.Context, key string) *redis.StringCmd
}

// A RedisCache keeps each record as a plain string in Redis. Make one with
// [NewRedisCache]; the zero RedisCache is not usable.
//
// Set ContextTimeoutEnabled on the client: without it, go-redis waits for a slow
// server until ReadTimeout, whatever ctx says. The client must not read from replicas.
//
// go-redis resends a command whose reply was lost. A swap that has stored then finds
// its own bytes and reports false. So, unless the client's retries are off, read the
// key again after false, as [Source] does.
type RedisCache struct{ client RedisClient }

// NewRedisCache returns a [Cache] that uses client. The caller keeps ownership of
// client and closes it. It panics if client is nil, or is a *redis.Ring, a
// redis.Pipeliner or a *redis.Tx, which cannot coordinate processes.
func NewRedisCache(client RedisClient) *RedisCache {
	switch client.(type) {
	case *redis.Ring:
		panic("wxtoken: NewRedisCache: two clients of a *redis.Ring can pick different shards for one key; use one server, Sentinel or Cluster")
	case redis.Pipeliner:
		panic("wxtoken: NewRedisCache: a redis.Pipeliner sends nothing until Exec, so no call would have an answer; use the client that it was made from")
	case *redis.Tx:
		panic("wxtoken: NewRedisCache: a *redis.Tx ends with the function that it was given to; use the client that it was made from")
	}
	if v := reflect.ValueOf(client); client == nil || v.Kind() == reflect.Pointer && v.IsNil() {
		panic("wxtoken: NewRedisCache: the client is nil")
	}
	return &RedisCache{client}
}

// Get implements [Cache]. A key that holds another type, such as a list, is an
// error.
func (r *RedisCache) Get(ctx context.Context, key string) ([]byte, error) {
	value, err := r.client.Get(ctx, key).Bytes()
	if store.Plain(err, redis.Nil) {
		return nil, ErrCacheMiss
	}
	return value, store.Error("redis", key, err)
}

// CompareAndSwap implements [Cache]. Redis counts ttl in milliseconds, rounded up.
func (r *RedisCache) CompareAndSwap(ctx context.Context, key string, old, new []byte, ttl time.Duration) (bool, error) {
	args := []any{new, store.RoundUp(ttl, time.Millisecond)}
	if old != nil {
		args = append(args, old)
	}
	stored, err := r.client.Eval(ctx, store.RedisSwap, []string{key}, args...).Bool()
	return stored, store.Error("redis", key, err)
}

// whyLate describes the current state of the client's connection pool.
func (r *RedisCache) whyLate() string {
	client, ok := r.client.(interface {
		PoolStats() *redis.PoolStats
		Options() *redis.Options
	})
	if !ok {
		return ""
	}
	pool, opts := client.PoolStats(), client.Options()
	switch {
	case pool.IdleConns > 0:
		return ""
	case opts.Addr == "FailoverClient" && pool.TotalConns == 0: // the name that go-redis gives it
		return "redis: no connection yet: perhaps a sentinel hangs; keep DialTimeout and ReadTimeout well under the 2 s that a call has"
	case int(pool.TotalConns) >= opts.PoolSize:
		return fmt.Sprintf("redis: all %d connections of the client's pool are in use: raise PoolSize, or find what keeps them", opts.PoolSize)
	case opts.TLSConfig != nil:
		return fmt.Sprintf("redis: no connection to %s is ready: is it reachable, and does the port expect TLS?", opts.Addr)
	}
	return fmt.Sprintf("redis: no connection to %s is ready: is it reachable, and does it answer without TLS?", opts.Addr)
}
