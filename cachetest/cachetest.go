// Package cachetest tests that a [wxtoken.Cache] keeps its contract. A test of a
// Cache for another store calls [Run]:
//
//	func TestCache(t *testing.T) {
//		cachetest.Run(t, func(t *testing.T) wxtoken.Cache {
//			return NewDynamoCache(startDynamo(t))
//		})
//	}
//
// A failure quotes the sentence of the contract that is broken, from the comment of
// wxtoken.Cache. What Source checks before each call is not tested: a Cache need not
// check the key, the ttl, the size of a value, or a ctx that has ended.
//
// Run uses one process and a healthy store, so it cannot test that two clients see
// the same store, that a call returns when its ctx ends although the store hangs, or
// that a store that does not answer is an error and not a miss.
package cachetest

import (
	"testing"

	"github.com/wxtoken/wxtoken"
)

// Run runs the suite as subtests of t, in parallel. It takes about three seconds,
// most of which it waits for entries to expire.
//
// Run calls newCache once for each subtest. All of the caches may share one store,
// and the store need not be empty, because every key is random. Use t.Cleanup to
// clean up. Entries are left behind; each expires within a minute.
func Run(t *testing.T, newCache func(t *testing.T) wxtoken.Cache) {
	for _, c := range checks {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.run(tester{TB: t, cache: newCache(t), contract: c.contract})
		})
	}
}

// checks is the suite. Each check passes for any Cache that keeps the contract, and
// detects some way of breaking the sentence that it quotes.
var checks = []struct {
	name     string
	contract string
	run      func(tester)
}{
	{"miss", "Get returns the bytes stored under key, or ErrCacheMiss.", checkMiss},
	{"swap", "CompareAndSwap atomically stores new under key for at least ttl, and not much longer, if the bytes under key equal old.", checkSwap},
	{"empty value", "A nil old means that the key must be absent; an empty old, that its value must be empty.", checkEmptyValue},
	{"any bytes", "A value has at most 32 KiB of arbitrary bytes.", checkAnyBytes},
	{"sizes", "A value has at most 32 KiB of arbitrary bytes.", checkSizes},
	{"isolation", "They must not retain the slices they are given, nor share the ones they return.", checkIsolation},
	{"keys apart", "a key of 1 to 250 bytes without spaces and control characters", checkKeysApart},
	{"longest key", "a key of 1 to 250 bytes without spaces and control characters", checkLongestKey},
	{"one winner", "Implementations must be safe for concurrent use", checkOneWinner},
	{"ttl", "stores new under key for at least ttl, and not much longer", checkTTL},
	{"ctx ends during", "It reports whether it stored new. After an error the outcome is unknown", checkEndingContext},
}
