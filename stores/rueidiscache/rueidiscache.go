// Package rueidiscache keeps wxtoken's records in Redis or Valkey through the client
// rueidis, for applications that already use it. Records are the same as those of
// [wxtoken.NewRedisCache]: processes with either can share them.
package rueidiscache

import (
	"context"
	"strconv"
	"time"

	"github.com/redis/rueidis"

	"github.com/wxtoken/wxtoken"
	"github.com/wxtoken/wxtoken/internal/store"
)

// A Cache is a [wxtoken.Cache] in Redis or Valkey.
type Cache struct{ client rueidis.Client }

// New returns a [Cache] that uses client. The caller keeps ownership of client and
// closes it. New panics if client is nil. The client may be for one server, Sentinel
// or a cluster; it must not send reads to replicas (ReplicaOnly, SendToReplicas),
// which return old records. rueidis sends a swap once, so a swap that reports false
// did not happen.
func New(client rueidis.Client) *Cache {
	if client == nil {
		panic("wxtoken: rueidiscache.New: the client is nil")
	}
	return &Cache{client}
}

// Get implements [wxtoken.Cache]. It bypasses rueidis's client-side cache, which learns
// late of other processes' writes.
func (c *Cache) Get(ctx context.Context, key string) ([]byte, error) {
	value, err := c.client.Do(ctx, c.client.B().Get().Key(key).Build()).AsBytes()
	if rueidis.IsRedisNil(err) {
		return nil, wxtoken.ErrCacheMiss
	}
	return value, err
}

// CompareAndSwap implements [wxtoken.Cache]. Redis counts ttl in milliseconds,
// rounded up.
func (c *Cache) CompareAndSwap(ctx context.Context, key string, old, new []byte, ttl time.Duration) (bool, error) {
	args := []string{string(new), strconv.FormatInt(store.RoundUp(ttl, time.Millisecond), 10)}
	if old != nil {
		args = append(args, string(old))
	}
	return c.client.Do(ctx, c.client.B().Eval().Script(store.RedisSwap).Numkeys(1).Key(key).Arg(args...).Build()).AsBool()
}
