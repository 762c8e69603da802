package cachetest

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

// grace is how long an entry may outlive its ttl: stores that count in seconds need
// some of it, and the rest is for a busy machine.
const grace = 10 * time.Second

// checkOneWinner swaps the same old value many times at once, round after round.
func checkOneWinner(t tester) {
	const rounds, rivals = 100, 8
	key := t.newKey()
	var old []byte
	for round := range rounds {
		var winners atomic.Int32
		var winner atomic.Value
		var ready, done sync.WaitGroup
		ready.Add(rivals)
		for rival := range rivals {
			done.Go(func() {
				new := fmt.Appendf(nil, "round %d, rival %d", round, rival)
				ready.Done()
				ready.Wait()
				stored, err := t.cache.CompareAndSwap(t.Context(), key, old, new, long)
				switch {
				case err != nil:
					t.Errorf("CompareAndSwap by one of %d rivals failed: %v", rivals, err)
				case stored:
					winners.Add(1)
					winner.Store(new)
				}
			})
		}
		done.Wait()
		if n := winners.Load(); n != 1 || t.Failed() {
			t.Fatalf("round %d: %d of %d rivals with the same old reported that they had stored, want 1", round, n, rivals)
		}
		old = winner.Load().([]byte)
		t.wantValue(key, old)
	}
}

// checkTTL stores some entries at once, and checks how long each stays.
func checkTTL(t tester) {
	short, shortest, shortened, prolonged := t.newKey(), t.newKey(), t.newKey(), t.newKey()
	first, second := []byte("first"), []byte("second")
	start := time.Now()
	t.swap(short, nil, first, time.Second)
	t.swap(shortest, nil, first, 300*time.Millisecond) // less than some stores count in
	t.swap(shortened, nil, first, long)
	t.swap(shortened, first, second, time.Second)
	t.swap(prolonged, nil, first, time.Second)
	inTime := t.swap(prolonged, first, second, long)
	if !inTime && time.Since(start) < time.Second {
		t.Fatalf("an entry with a ttl of 1s could not be replaced at once")
	}

	t.stays(shortest, start.Add(300*time.Millisecond))
	t.stays(short, start.Add(time.Second))
	t.expires(short)
	t.expires(shortest)
	t.expires(shortened)
	if inTime { // otherwise the machine was so slow that nothing could be prolonged
		t.wantValue(prolonged, second)
	}

	t.wantNoSwap(short, first, second) // expired means absent
	t.wantStored(short, nil, second)
	t.wantValue(short, second)
}

// stays expects key to be there until then.
func (t tester) stays(key string, then time.Time) {
	t.Helper()
	for {
		_, there := t.get(key)
		if !time.Now().Before(then) {
			return // the store may have handled the request too late
		}
		if !there {
			t.Fatalf("Get(%q) is a miss %v before the end of its ttl", key, time.Until(then))
		}
		time.Sleep(min(50*time.Millisecond, time.Until(then)))
	}
}

// expires expects key, which should have about a second to live, to expire.
func (t tester) expires(key string) {
	t.Helper()
	deadline := time.Now().Add(time.Second + grace)
	for {
		value, there := t.get(key)
		if !there {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("Get(%q) = %s %v after the end of its ttl", key, show(value), grace)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// checkEndingContext ends ctx at various points of a call. Whether the call has
// stored is then unknown, but what it reports must be true.
func checkEndingContext(t tester) {
	var took time.Duration // the duration of an undisturbed call
	for range 10 {
		start := time.Now()
		t.wantStored(t.newKey(), nil, []byte("v"))
		took = max(took, time.Since(start))
	}
	for range 200 {
		key, old, new := t.newKey(), []byte("old"), bytes.Repeat([]byte("new"), 1000)
		t.wantStored(key, nil, old)
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(rand.N(took+1), cancel)
		stored, err := t.cache.CompareAndSwap(ctx, key, old, new, long)
		cancel()
		got, there := t.get(key)
		switch {
		case !there || string(got) != string(old) && string(got) != string(new):
			t.Fatalf("after a CompareAndSwap whose ctx ended, Get = %s, want old or new", show(got))
		case stored && string(got) != string(new):
			t.Fatalf("a CompareAndSwap whose ctx ended reported true, but did not store")
		case err == nil && !stored:
			t.Fatalf("a CompareAndSwap whose ctx ended reported false, but old was there; want an error or true")
		}
	}
}
