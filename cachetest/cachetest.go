// Package cachetest tests that a wxtoken.Cache keeps its contract. Whoever
// writes a Cache for another store calls Run from a test:
//
//	func TestCache(t *testing.T) {
//		cachetest.Run(t, func(t *testing.T) wxtoken.Cache {
//			return NewEtcdCache(startEtcd(t))
//		})
//	}
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
			c.run(tester{TB: t, cache: newCache(t)})
		})
	}
}

// checks are the suite. Each is right for any Cache that keeps the contract,
// and finds some way of breaking it.
var checks = []struct {
	name string
	run  func(tester)
}{
	{"miss", checkMiss},
	{"swap", checkSwap},
	{"empty value", checkEmptyValue},
	{"any bytes", checkAnyBytes},
	{"64 KiB", checkLargeValue},
	{"isolation", checkIsolation},
	{"keys apart", checkKeysApart},
	{"longest key", checkLongestKey},
	{"bad keys", checkBadKeys},
	{"one winner", checkOneWinner},
	{"ttl", checkTTL},
	{"bad ttl", checkBadTTL},
	{"ctx ended before", checkEndedContext},
	{"ctx ends during", checkEndingContext},
}
