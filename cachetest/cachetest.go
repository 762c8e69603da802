// Package cachetest tests that a wxtoken.Cache keeps its contract. A test of a
// Cache for another store calls Run:
//
//	func TestCache(t *testing.T) {
//		cachetest.Run(t, func(t *testing.T) wxtoken.Cache {
//			return NewDynamoCache(startDynamo(t))
//		})
//	}
//
// A failure quotes the line of the contract that is broken, from the comment of
// wxtoken.Cache. What Source checks before each call is not tested: a Cache need
// not check key, ttl, the size of a value, or a ctx that has ended.
//
// What Run cannot test, because it has one process and a healthy store: that
// two clients see the same store, that a call ends with its ctx when the store
// hangs, and that a store that does not answer is an error and not a miss.
package cachetest

import (
	"testing"

	"github.com/wxtoken/wxtoken"
)

// Run runs the suite as subtests of t, in parallel; it takes some three
// seconds, which are spent waiting for entries to expire.
//
// Run calls newCache once for each subtest. All of the caches may share one
// store, and the store need not be empty, because every key is random. Clean
// up with t.Cleanup. Entries are left behind; each expires within a minute.
func Run(t *testing.T, newCache func(t *testing.T) wxtoken.Cache) {
	for _, c := range checks {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.run(tester{TB: t, cache: newCache(t), contract: c.contract})
		})
	}
}

// checks are the suite. Each is right for any Cache that keeps the contract,
// and finds some way of breaking the line of it that is quoted.
var checks = []struct {
	name     string
	contract string
	run      func(tester)
}{
	{"miss", "Get returns the bytes stored under key, or ErrCacheMiss.", checkMiss},
	{"swap", "CompareAndSwap atomically stores new under key for at least ttl (and little longer), if the bytes under key are old", checkSwap},
	{"empty value", "nil old means that the key must be absent, an empty old that empty bytes are there", checkEmptyValue},
	{"any bytes", "A value has at most 32 KiB of any bytes.", checkAnyBytes},
	{"sizes", "A value has at most 32 KiB of any bytes.", checkSizes},
	{"isolation", "They keep no slice that they are given, and none that they return.", checkIsolation},
	{"keys apart", "a key of 1 to 250 bytes, none of them a space or control byte", checkKeysApart},
	{"longest key", "a key of 1 to 250 bytes, none of them a space or control byte", checkLongestKey},
	{"one winner", "Implementations must be safe for concurrent use", checkOneWinner},
	{"ttl", "stores new under key for at least ttl (and little longer)", checkTTL},
	{"ctx ends during", "It reports whether it stored. After an error the outcome is unknown", checkEndingContext},
}
