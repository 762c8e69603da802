package cachetest

import (
	"crypto/rand"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/wxtoken/wxtoken"
)

// long is a ttl that no check waits for.
const long = time.Minute

// A tester is a test together with the cache under test. Its methods fail the test if
// the cache does not return what they expect.
type tester struct {
	testing.TB
	cache    wxtoken.Cache
	contract string // the sentence that is tested
}

// Errorf and Fatalf first quote the broken sentence.
func (t tester) Errorf(format string, args ...any) {
	t.Helper()
	t.TB.Errorf("the contract of wxtoken.Cache says %q:\n%s", t.contract, fmt.Sprintf(format, args...))
}

func (t tester) Fatalf(format string, args ...any) {
	t.Helper()
	t.TB.Fatalf("the contract of wxtoken.Cache says %q:\n%s", t.contract, fmt.Sprintf(format, args...))
}

// newKey returns a key that was never used before.
func (t tester) newKey() string { return "cachetest:" + rand.Text() }

// swap expects a swap without error and returns what it reports.
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

// wantNoSwap expects false, and that the swap changed nothing.
func (t tester) wantNoSwap(key string, old, new []byte) {
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

// show formats a value on one line, and distinguishes nil from empty.
func show(b []byte) string {
	switch {
	case b == nil:
		return "nil"
	case len(b) > 40:
		return fmt.Sprintf("%q… (%d bytes)", b[:40], len(b))
	}
	return fmt.Sprintf("%q", b)
}
