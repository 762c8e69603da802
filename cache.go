package wxtoken

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

// ErrCacheMiss is what a Cache's Get returns for a key that holds nothing.
var ErrCacheMiss = errors.New("wxtoken: cache miss")

// A Cache stores the shared record of a credential. Every process of an
// application must be given the same store; what it holds may be lost at any
// time without harm. Keys and values are opaque to it.
//
// Implementations must be safe for concurrent use and should return soon after
// ctx ends. They keep no slice that they are given, and none that they return.
// A key has 1 to 250 bytes, none of them a space or control byte (0x00 to 0x20,
// 0x7f), which are Memcached's rules; any other is refused with an error, so
// that an application can move from one store to another. Package cachetest
// tests that an implementation keeps this contract.
type Cache interface {
	// Get returns the bytes stored under key, or ErrCacheMiss. Any other error
	// says that the store did not answer.
	Get(ctx context.Context, key string) ([]byte, error)

	// CompareAndSwap atomically stores new under key for at least ttl (and
	// little longer), if the bytes under key are old; nil old means that the
	// key must be absent, an empty old that empty bytes are there. It reports
	// whether it stored. After an error the outcome is unknown: it may have
	// stored, or may yet do so. A ttl of 0 or less is an error.
	CompareAndSwap(ctx context.Context, key string, old, new []byte, ttl time.Duration) (bool, error)
}

// checkKey refuses what some backend could not store.
func checkKey(key string) error {
	if key == "" || len(key) > 250 {
		return fmt.Errorf("wxtoken: cache key of %d bytes: must be 1 to 250; shorten WithKeyPrefix or the Fetcher's Key", len(key))
	}
	if i := strings.IndexFunc(key, func(c rune) bool { return c <= ' ' || c == 0x7f }); i >= 0 {
		return fmt.Errorf("wxtoken: cache key %q has a space or control byte at offset %d; change WithKeyPrefix or the Fetcher's Key", key, i)
	}
	return nil
}

// checkGet is what every backend does before it asks its store: a bad key gets
// the same error everywhere, and nothing is sent once ctx has ended.
func checkGet(ctx context.Context, key string) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("wxtoken: cache not asked: %w", err)
	}
	return checkKey(key)
}

// checkSwap is checkGet for a write. It also refuses a ttl that some store
// would take for "never expires".
func checkSwap(ctx context.Context, key string, ttl time.Duration) error {
	if ttl <= 0 {
		return fmt.Errorf("wxtoken: cache ttl of %v for key %q: must be positive", ttl, key)
	}
	return checkGet(ctx, key)
}

// roundUp gives d in whole units. An entry may outlive its ttl a little, but
// must not die before it.
func roundUp(d, unit time.Duration) int64 {
	return int64((d-1)/unit) + 1 // d is positive: see checkSwap
}

// storeError says which store and key an error of a store's client is about.
func storeError(store, key string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("wxtoken: %s, key %q: %w", store, key, err)
}
