package wxtoken

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math"
	"net"
	"time"

	"github.com/bradfitz/gomemcache/memcache"

	"github.com/wxtoken/wxtoken/internal/guard"
	"github.com/wxtoken/wxtoken/internal/store"
)

// A MemcachedCache keeps each record as an item with flags 0 in Memcached. Make one
// with [NewMemcachedCache]; the zero MemcachedCache is not usable. Give every process
// the same servers in the same order: the key picks the server.
//
// gomemcache takes no ctx. A call returns when ctx ends, but the command that it sent
// runs on until the client's Timeout (default 500 ms) and may still take effect.
type MemcachedCache struct{ client *memcache.Client }

// NewMemcachedCache returns a [Cache] that uses client. The caller keeps ownership of
// client and closes it. It panics if client is nil.
func NewMemcachedCache(client *memcache.Client) *MemcachedCache {
	if client == nil {
		panic("wxtoken: NewMemcachedCache: the client is nil")
	}
	return &MemcachedCache{client}
}

// Get implements [Cache].
func (m *MemcachedCache) Get(ctx context.Context, key string) ([]byte, error) {
	item, err := m.get(ctx, key)
	switch {
	case store.Plain(err, memcache.ErrCacheMiss):
		return nil, ErrCacheMiss
	case err != nil:
		return nil, store.Error("memcached", key, err)
	}
	return item.Value, nil
}

// CompareAndSwap implements [Cache]. Memcached counts whole seconds: an entry lives up
// to two seconds longer than ttl.
func (m *MemcachedCache) CompareAndSwap(ctx context.Context, key string, old, new []byte, ttl time.Duration) (bool, error) {
	// A copy, because a write that ctx cut short may still be reading it.
	item := &memcache.Item{Key: key, Value: bytes.Clone(new), Expiration: expiration(ttl)}
	for {
		err := m.swap(ctx, item, old)
		switch {
		case errors.Is(err, memcache.ErrCASConflict):
			continue // another process wrote, but perhaps the same bytes: compare again
		case errors.Is(err, memcache.ErrNotStored), errors.Is(err, memcache.ErrCacheMiss):
			return false, nil
		}
		return err == nil, store.Error("memcached", key, err)
	}
}

// swap compares the bytes itself, then writes on the condition that nobody else has
// written since. A write is never sent twice: the second could not tell the first
// from another process's write. The read before it detects a dead connection.
func (m *MemcachedCache) swap(ctx context.Context, item *memcache.Item, old []byte) error {
	found, err := m.get(ctx, item.Key)
	switch {
	case old == nil && errors.Is(err, memcache.ErrCacheMiss):
		return m.write(ctx, m.client.Add, item)
	case err != nil:
		return err
	case old == nil || !bytes.Equal(found.Value, old):
		return memcache.ErrNotStored
	case found.CasID == 0: // no write would ever match it
		return store.Own("the server has no cas ids: start it without -C, and use no proxy that hides them")
	}
	item.CasID = found.CasID
	return m.write(ctx, m.client.CompareAndSwap, item)
}

func (m *MemcachedCache) write(ctx context.Context, op func(*memcache.Item) error, item *memcache.Item) error {
	_, err := guard.Call(ctx, "a write to Memcached", func(context.Context) (struct{}, error) { return struct{}{}, op(item) })
	return err
}

// get retries once if the connection was dead, as every idle one is after the server
// restarts.
func (m *MemcachedCache) get(ctx context.Context, key string) (*memcache.Item, error) {
	get := func(context.Context) (*memcache.Item, error) { return m.client.Get(key) }
	item, err := guard.Call(ctx, "a read from Memcached", get)
	var op *net.OpError
	if errors.Is(err, io.EOF) || errors.As(err, &op) && op.Op != "dial" && !op.Timeout() {
		_ = m.client.Close() // only what is idle; the client stays usable
		return guard.Call(ctx, "a read from Memcached", get)
	}
	return item, err
}

// expiration returns ttl in seconds. Memcached takes 0 for never and more than 30
// days for a Unix time, and expires an item up to a second early: hence the extra
// second.
func expiration(ttl time.Duration) int32 {
	seconds := store.RoundUp(ttl, time.Second) + 1
	if seconds > 30*24*60*60 {
		seconds += time.Now().Unix()
	}
	return int32(min(seconds, math.MaxInt32))
}
