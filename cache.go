package wxtoken

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/wxtoken/wxtoken/internal/store"
)

// ErrCacheMiss is what a Cache's Get returns for a key that holds nothing. Only
// the error itself, or one that wraps it and no other, counts as a miss.
var ErrCacheMiss = store.ErrMiss

// A Cache stores the shared record of a credential. Every process of an
// application must be given the same store; what it holds may be lost at any
// time without harm. Keys and values are opaque to it.
//
// Implementations must be safe for concurrent use and should return soon after
// ctx ends. They keep no slice that they are given, and none that they return.
// A value has at most 32 KiB of any bytes. Package cachetest tests that an
// implementation keeps this contract.
//
// An implementation has nothing else to check: Source calls it with a ctx that
// has not ended, a positive ttl, and a key of 1 to 250 bytes, none of them a
// space or control byte (0x00 to 0x20, 0x7f), which are Memcached's rules. Nor
// has it to word its errors with care: Source shows of them only what cannot be
// part of a record.
type Cache interface {
	// Get returns the bytes stored under key, or ErrCacheMiss. Any other error
	// means that the store did not answer.
	Get(ctx context.Context, key string) ([]byte, error)

	// CompareAndSwap atomically stores new under key for at least ttl (and
	// little longer), if the bytes under key are old; nil old means that the
	// key must be absent, an empty old that empty bytes are there. It reports
	// whether it stored. After an error the outcome is unknown: it may have
	// stored, or may yet do so.
	CompareAndSwap(ctx context.Context, key string, old, new []byte, ttl time.Duration) (bool, error)
}

// cacheGet is c.Get for everything that is not a Cache itself: with the checks
// that no Cache makes, an end when ctx ends, and errors that show no record.
func cacheGet(ctx context.Context, c Cache, key string) ([]byte, error) {
	value, err := store.Get(ctx, c, key)
	return value, late(ctx, c, err)
}

// cacheSwap is c.CompareAndSwap in the same way.
func cacheSwap(ctx context.Context, c Cache, key string, old, new []byte, ttl time.Duration) (bool, error) {
	stored, err := store.CompareAndSwap(ctx, c, key, old, new, ttl)
	return stored, late(ctx, c, err)
}

// late adds to the error of a call that ended with its ctx what the Cache can
// tell of the reason, as only some clients do by themselves.
func late(ctx context.Context, c Cache, err error) error {
	teller, ok := c.(interface{ whyLate() string })
	if err == nil || ctx.Err() == nil || !ok || !errors.Is(err, ctx.Err()) {
		return err
	}
	if why := teller.whyLate(); why != "" {
		return fmt.Errorf("%w (%s)", err, why)
	}
	return err
}
