package wxtoken

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// ErrCacheMiss is what a Cache's Get returns for a key that holds nothing.
var ErrCacheMiss = errors.New("wxtoken: cache miss")

// A Cache stores the shared record of a credential. Every process of an
// application must be given the same store; what it holds may be lost at any
// time without harm. Keys and values are opaque to it.
//
// Implementations must be safe for concurrent use and should return soon after
// ctx ends. Package cachetest tests that one keeps this contract.
type Cache interface {
	// Get returns the bytes stored under key, or ErrCacheMiss. Any other error
	// says that the store did not answer.
	Get(ctx context.Context, key string) ([]byte, error)

	// CompareAndSwap atomically stores new under key for at least ttl (and
	// little longer), if the bytes under key are old; nil old means that the
	// key must be absent. It reports whether it stored. After an error the
	// outcome is unknown: it may have stored, or may yet do so.
	CompareAndSwap(ctx context.Context, key string, old, new []byte, ttl time.Duration) (bool, error)
}

// maxKeyLength is Memcached's limit in bytes, kept on every backend so that an
// application can move from one to another.
const maxKeyLength = 250

// checkKey refuses what some backend could not store: an empty key, one over
// 250 bytes, or one with spaces or control bytes.
func checkKey(key string) error {
	if key == "" || len(key) > maxKeyLength {
		return fmt.Errorf("wxtoken: cache key of %d bytes: must be 1 to %d; shorten WithKeyPrefix or the Fetcher's Key", len(key), maxKeyLength)
	}
	for i := range len(key) {
		if key[i] <= ' ' || key[i] == 0x7f {
			return fmt.Errorf("wxtoken: cache key %q has a space or control byte at offset %d; change WithKeyPrefix or the Fetcher's Key", key, i)
		}
	}
	return nil
}
