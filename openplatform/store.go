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
	swapTries = 10              // of an update while other processes write
)

// A store keeps small values in the cache, next to the records of the Sources, with
// the same prefix and the same encryption. It changes them only by compare-and-swap,
// and never removes one.
type store struct {
	cache  wxtoken.Cache
	shared bridge.Cache
}

// A stored is a value and the bytes that encode it; nil bytes: there is none.
type stored[T any] struct {
	value T
	raw   []byte
}

func (s *store) sealer(key string) protocol.Sealer {
	return protocol.Sealer{Keys: s.shared.Keys, CacheKey: key, Plain: s.shared.Plain}
}

// key returns the full key in the cache, or an error if it is invalid.
func (s *store) key(name string) (string, error) {
	key := s.shared.Prefix + name
	if len(key) > 250 || !endpoint.Printable(key) {
		return "", errors.New("wxtoken: the key prefix and the appID make an invalid cache key: it may have at most 250 bytes of printable ASCII")
	}
	return key, nil
}

// get reads a value. Invalid bytes count as absent, and are overwritten.
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

// put stores value in place of old, and reports whether it did. After an error it may
// have, or may still.
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

// update changes a value, unless change returns false because it is already right. It
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
	return none, fmt.Errorf("%w: it did not swap %d times in a row", wxtoken.ErrCacheUnavailable, swapTries)
}

// digest distinguishes values without showing them.
func digest(parts ...string) string {
	h := sha256.New()
	for _, part := range parts {
		fmt.Fprintf(h, "%d:%s", len(part), part)
	}
	return fmt.Sprintf("%x", h.Sum(nil)[:16])
}
