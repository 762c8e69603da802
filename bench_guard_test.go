//go:build !race

package wxtoken_test

import (
	"context"
	"math"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/wxtoken/wxtoken"
)

// The race detector makes times meaningless, so `make test` runs this file once
// more without it.

// A token at hand costs no allocation, and less than it costs to read the clock.
// On an idle machine it is a tenth of that; a lock, a read of the clock or an
// allocation on the way would make it more than the whole. Both sides are
// measured here, in turn, and the best of many short rounds counts, so that
// neither another machine nor a busy one matters.
func TestGuardHotPath(t *testing.T) {
	ctx := context.Background()
	src := wxtoken.New(&stub{}, nil)
	token := func() {
		if tok, err := src.Token(ctx); err != nil || tok.Value == "" {
			panic("no token")
		}
	}
	token()
	assert.Zero(t, testing.AllocsPerRun(1000, token), "allocations of Token with a token at hand")

	if runtime.GOOS == "windows" {
		t.Skip("the clock is a load from memory here, and no measure for anything")
	}

	var held atomic.Pointer[wxtoken.Token]
	held.Store(&wxtoken.Token{Value: "token", ExpiresAt: time.Now().Add(time.Hour)})
	clock := func() {
		if !held.Load().Valid() {
			panic("not valid")
		}
	}
	for _, goroutines := range []int{1, runtime.GOMAXPROCS(0)} {
		ours, floor := math.Inf(1), math.Inf(1)
		for round := 0; round < 20 || ours > 0.7*floor && round < 400; round++ {
			ours = min(ours, timePerCall(goroutines, token))
			floor = min(floor, timePerCall(goroutines, clock))
		}
		t.Logf("%d goroutines: %.1f ns, a load and a look at the clock %.1f ns, ratio %.2f", goroutines, ours, floor, ours/floor)
		require.LessOrEqual(t, ours, 0.7*floor, "Token on %d goroutines, beside a load and a look at the clock: see bench/", goroutines)
	}
}

// timePerCall has each goroutine call fn 5,000 times, and gives ns per call.
func timePerCall(goroutines int, fn func()) float64 {
	const calls = 5000
	var all sync.WaitGroup
	start := time.Now()
	for range goroutines {
		all.Go(func() {
			for range calls {
				fn()
			}
		})
	}
	all.Wait()
	return float64(time.Since(start)) / float64(calls*goroutines)
}
