package openplatform

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"time"

	"github.com/wxtoken/wxtoken"
	"github.com/wxtoken/wxtoken/internal/bridge"
	"github.com/wxtoken/wxtoken/internal/endpoint"
	"github.com/wxtoken/wxtoken/internal/protocol"
	shared "github.com/wxtoken/wxtoken/internal/store"
)

const (
	cacheCall = 2 * time.Second // one call of the cache
	swapTries = 10              // of an update that others get in the way of
)

// A store keeps small values in the cache, next to the records of the Sources,
// under the same prefix and sealed with the same keys. It changes them by
// compare-and-swap only, and never removes one.
type store struct {
	cache  wxtoken.Cache
	shared bridge.Cache
}

// A stored is a value and the bytes that stand for it; nil bytes: there are none.
type stored[T any] struct {
	value T
	raw   []byte
}

func (s *store) sealer(key string) protocol.Sealer {
	return protocol.Sealer{Keys: s.shared.Keys, CacheKey: key, Plain: s.shared.Plain}
}

// key returns the whole key in the cache, or why it cannot be one.
func (s *store) key(name string) (string, error) {
	key := s.shared.Prefix + name
	if len(key) > 250 || !endpoint.Printable(key) {
		return "", errors.New("wxtoken: the key prefix and the appID make no key for the cache: at most 250 bytes of printable ASCII")
	}
	return key, nil
}

// get reads a value. What is not one counts as absent, and is overwritten.
func get[T any](ctx context.Context, s *store, name string) (v stored[T], err error) {
	key, err := s.key(name)
	if err != nil {
		return v, err
	}
	ctx, cancel := context.WithTimeout(ctx, cacheCall)
	defer cancel()
	raw, err := shared.Get(ctx, s.cache, key)
	if errors.Is(err, wxtoken.ErrCacheMiss) {
		return v, nil
	}
	if err != nil {
		return v, fmt.Errorf("%w: %w", wxtoken.ErrCacheUnavailable, err)
	}
	v.raw = append([]byte{}, raw...)
	err = s.sealer(key).Unwrap(raw, &v.value)
	if err != nil {
		v.value = *new(T) // it may be half read
	}
	if errors.Is(err, protocol.ErrCorrupt) {
		err = nil
	}
	return v, err
}

// put stores value in place of old, and reports whether it did. After an error
// it may have, or may yet do so.
func put[T any](ctx context.Context, s *store, name string, old stored[T], value T, ttl time.Duration) (bool, error) {
	key, err := s.key(name)
	if err != nil {
		return false, err
	}
	raw, err := s.sealer(key).Wrap(value)
	if err != nil {
		return false, err
	}
	ctx, cancel := context.WithTimeout(ctx, cacheCall)
	defer cancel()
	done, err := shared.CompareAndSwap(ctx, s.cache, key, old.raw, raw, ttl)
	if err != nil {
		err = fmt.Errorf("%w: %w", wxtoken.ErrCacheUnavailable, err)
	}
	return done, err
}

// update changes a value, unless change reports that it is right as it is. It
// returns the value that is then stored.
func update[T any](ctx context.Context, s *store, name string, ttl time.Duration, change func(*T) bool) (T, error) {
	for range swapTries {
		v, err := get[T](ctx, s, name)
		if err != nil {
			return v.value, err
		}
		next := v.value
		if !change(&next) {
			return v.value, nil
		}
		done, err := put(ctx, s, name, v, next, ttl)
		if err != nil || done {
			return next, err
		}
	}
	var none T
	return none, fmt.Errorf("%w: it did not swap %d times running", wxtoken.ErrCacheUnavailable, swapTries)
}

// digest tells values apart without showing them.
func digest(parts ...string) string {
	h := sha256.New()
	for _, part := range parts {
		fmt.Fprintf(h, "%d:%s", len(part), part)
	}
	return fmt.Sprintf("%x", h.Sum(nil)[:16])
}
