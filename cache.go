package wxtoken

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/wxtoken/wxtoken/internal/store"
)

// ErrCacheMiss is what [Cache.Get] returns for a key that is not there. Only this error
// itself, or one that wraps it and nothing else, counts as a miss.
var ErrCacheMiss = store.ErrMiss

// A Cache stores the shared record of a credential. Every process of an application
// must use the same store; it may lose its contents at any time without harm. Keys
// and values are opaque to it.
//
// Implementations must be safe for concurrent use and should return soon after ctx
// ends. They must not retain the slices they are given, nor share the ones they
// return. A call that does not return soon after ctx ends is given up, and keeps its
// goroutine until it returns. A value has at most 32 KiB of arbitrary bytes. Package
// cachetest tests that an implementation keeps this contract.
//
// An implementation need not check its arguments: [Source] calls it with a ctx that has
// not ended, a positive ttl, and a key of 1 to 250 bytes without spaces and control
// characters (0x00 to 0x20, 0x7f), which are Memcached's rules. Its errors may
// contain anything: Source shows only the parts of them that cannot come from a
// record.
type Cache interface {
	// Get returns the bytes stored under key, or ErrCacheMiss. Any other error
	// means that the store did not answer.
	Get(ctx context.Context, key string) ([]byte, error)

	// CompareAndSwap atomically stores new under key for at least ttl, and not much
	// longer, if the bytes under key equal old. A nil old means that the key must be
	// absent; an empty old, that its value must be empty. It reports whether it
	// stored new. After an error the outcome is unknown: new may have been stored, or
	// may still be.
	CompareAndSwap(ctx context.Context, key string, old, new []byte, ttl time.Duration) (bool, error)
}

// cacheGet calls c.Get for everything that is not a Cache itself: it adds the checks
// that no Cache makes, returns when ctx ends, and shows no record in its errors.
func cacheGet(ctx context.Context, c Cache, key string) ([]byte, error) {
	value, err := store.Get(ctx, c, key)
	return value, late(ctx, c, err)
}

// cacheSwap calls c.CompareAndSwap in the same way.
func cacheSwap(ctx context.Context, c Cache, key string, old, new []byte, ttl time.Duration) (bool, error) {
	stored, err := store.CompareAndSwap(ctx, c, key, old, new, ttl)
	return stored, late(ctx, c, err)
}

// late adds the Cache's explanation to the error of a call that ended with its ctx,
// since few clients give one.
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
