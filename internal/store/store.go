// Package store calls a Cache on behalf of its callers. It checks what no Cache need
// check, returns when ctx ends, and shows only those parts of a store's errors that
// cannot come from a record.
package store

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/wxtoken/wxtoken/internal/guard"
)

// ErrMiss is wxtoken.ErrCacheMiss.
var ErrMiss = errors.New("wxtoken: cache miss")

// A Cache is a wxtoken.Cache.
type Cache interface {
	Get(ctx context.Context, key string) ([]byte, error)
	CompareAndSwap(ctx context.Context, key string, old, new []byte, ttl time.Duration) (bool, error)
}

// MaxKey and MaxValue are the largest sizes that a Cache is given, in bytes.
const (
	MaxKey   = 250
	MaxValue = 32 << 10
)

// Get reads key from c. A miss is ErrMiss itself; no other error is a miss by
// errors.Is, and none shows what the store said.
func Get(ctx context.Context, c Cache, key string) ([]byte, error) {
	if err := CheckKey(key); err != nil {
		return nil, err
	}
	return guard.Call(ctx, "Cache.Get", func(ctx context.Context) ([]byte, error) {
		value, err := c.Get(ctx, key)
		if Plain(err, ErrMiss) {
			return nil, ErrMiss
		}
		return value, Hide(err)
	})
}

// CompareAndSwap swaps in c. Its errors are like those of Get.
func CompareAndSwap(ctx context.Context, c Cache, key string, old, new []byte, ttl time.Duration) (bool, error) {
	switch err := CheckKey(key); {
	case err != nil:
		return false, err
	case ttl <= 0:
		return false, fmt.Errorf("wxtoken: cache ttl of %v for key %q: must be positive", ttl, key)
	case len(new) > MaxValue:
		return false, fmt.Errorf("wxtoken: cache value of %d bytes for key %q: must be at most %d", len(new), key, MaxValue)
	}
	return guard.Call(ctx, "Cache.CompareAndSwap", func(ctx context.Context) (bool, error) {
		stored, err := c.CompareAndSwap(ctx, key, old, new, ttl)
		return stored, Hide(err)
	})
}

// CheckKey rejects keys that some store could not keep.
func CheckKey(key string) error {
	if key == "" || len(key) > MaxKey {
		return fmt.Errorf("wxtoken: cache key of %d bytes: must be 1 to %d; shorten WithKeyPrefix or the Fetcher's Key", len(key), MaxKey)
	}
	if i := strings.IndexFunc(key, func(c rune) bool { return c <= ' ' || c == 0x7f }); i >= 0 {
		return fmt.Errorf("wxtoken: cache key %q has a space or control byte at offset %d; change WithKeyPrefix or the Fetcher's Key", key, i)
	}
	return nil
}

// Plain reports whether err is target or wraps only it. errors.Is also finds one
// error among several, such as the miss of one sentinel of three.
func Plain(err, target error) bool {
	for ; err != nil; err = errors.Unwrap(err) {
		if err == target {
			return true
		}
	}
	return false
}

// RoundUp returns d in whole units, at least 1: an entry may outlive its ttl a
// little, but must not expire before it.
func RoundUp(d, unit time.Duration) int64 {
	return max(int64((d-1)/unit)+1, 1)
}
