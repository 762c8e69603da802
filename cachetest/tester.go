package cachetest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/wxtoken/wxtoken"
)

// long is a ttl that no check waits for.
const long = time.Minute

// A tester is a test with the cache under test. Its methods end the test when
// the cache answers with something else than they expect.
type tester struct {
	testing.TB
	cache wxtoken.Cache
}

// newKey returns a key that was never used before.
func (t tester) newKey() string { return "cachetest:" + rand.Text() }

// swap expects a swap without error and returns its answer.
func (t tester) swap(key string, old, new []byte, ttl time.Duration) bool {
	t.Helper()
	stored, err := t.cache.CompareAndSwap(t.Context(), key, old, new, ttl)
	if err != nil {
		t.Fatalf("CompareAndSwap(%q, %s → %s) failed: %v", key, show(old), show(new), err)
	}
	return stored
}

func (t tester) wantStored(key string, old, new []byte) {
	t.Helper()
	if !t.swap(key, old, new, long) {
		t.Fatalf("CompareAndSwap(%q, %s → %s) reported false: old is there, so it must store", key, show(old), show(new))
	}
}

// wantRefused expects false, and that the swap changed nothing.
func (t tester) wantRefused(key string, old, new []byte) {
	t.Helper()
	before, there := t.get(key)
	if t.swap(key, old, new, long) {
		t.Fatalf("CompareAndSwap(%q, %s → %s) reported true: old is not there, so it must not store", key, show(old), show(new))
	}
	if after, still := t.get(key); there != still || string(before) != string(after) {
		t.Fatalf("CompareAndSwap(%q, %s → %s) reported false, but changed what is stored", key, show(old), show(new))
	}
}

// get expects a value or ErrCacheMiss, and reports which.
func (t tester) get(key string) (value []byte, there bool) {
	t.Helper()
	value, err := t.cache.Get(t.Context(), key)
	if err != nil && !errors.Is(err, wxtoken.ErrCacheMiss) {
		t.Fatalf("Get(%q) failed: %v", key, err)
	}
	return value, err == nil
}

func (t tester) wantValue(key string, want []byte) {
	t.Helper()
	got, there := t.get(key)
	if !there {
		t.Fatalf("Get(%q) is a miss, want %s", key, show(want))
	}
	if string(got) != string(want) {
		t.Fatalf("Get(%q) = %s, want %s", key, show(got), show(want))
	}
}

func (t tester) wantMiss(key string) {
	t.Helper()
	if got, there := t.get(key); there {
		t.Fatalf("Get(%q) = %s, want ErrCacheMiss", key, show(got))
	}
}

// wantError expects both methods to fail, by an error that is target if one is
// given, and never ErrCacheMiss: that says the store has answered.
func (t tester) wantError(ctx context.Context, key string, target error) {
	t.Helper()
	_, err := t.cache.Get(ctx, key)
	t.checkError("Get", key, err, target)
	stored, err := t.cache.CompareAndSwap(ctx, key, nil, []byte("v"), long)
	t.checkError("CompareAndSwap", key, err, target)
	if stored {
		t.Errorf("CompareAndSwap(%q) reported true with its error %v", key, err)
	}
}

func (t tester) checkError(method, key string, err, target error) {
	t.Helper()
	switch {
	case err == nil:
		t.Errorf("%s(%q) succeeded, want an error", method, key)
	case errors.Is(err, wxtoken.ErrCacheMiss):
		t.Errorf("%s(%q) says ErrCacheMiss, want another error: nobody asked the store", method, key)
	case target != nil && !errors.Is(err, target):
		t.Errorf("%s(%q) failed with %v, which is not %v by errors.Is", method, key, err, target)
	}
}

// show gives a value in a line, and tells no value from an empty one.
func show(b []byte) string {
	switch {
	case b == nil:
		return "nil"
	case len(b) > 40:
		return fmt.Sprintf("%q… (%d bytes)", b[:40], len(b))
	}
	return fmt.Sprintf("%q", b)
}
