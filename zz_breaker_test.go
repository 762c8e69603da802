package wxtoken_test

import (
	"context"
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/wxtoken/wxtoken"
)

// A caller who comes while the first token is being published waits for that as
// well: a program that ends with an unpublished token leaves the others without.
func TestCallersDuringThePublication(t *testing.T) {
	for _, latency := range []time.Duration{50 * time.Millisecond, 400 * time.Millisecond, 1900 * time.Millisecond, 3 * time.Second} {
		for _, swap := range []time.Duration{3 * time.Millisecond, 300 * time.Millisecond} {
			bubble(t, fmt.Sprint(latency, " for the fetch, ", swap, " for a swap"), func(t *testing.T) {
				cache := wxtoken.NewMemoryCache()
				src := wxtoken.New(&stub{latency: latency}, slow(cache, swap))
				published := func() any { return recordOf(t, cache)["token"] }
				together(600, func(i int) {
					time.Sleep(time.Duration(i) * 10 * time.Millisecond)
					if i == 0 {
						token(t, src)
						return
					}
					if tok, ok := src.Peek(); ok {
						assert.Equal(t, tok.Value, published(), "Peek")
					}
					tok, err := src.Token(t.Context())
					assert.NoError(t, err)
					assert.Equal(t, tok.Value, published())
				})
			})
		}
	}
}

// An observer that ends its goroutine, as a test's FailNow does, ends no work.
func TestWaitAfterAnObserverEndedItsGoroutine(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		src := wxtoken.New(&stub{}, nil, wxtoken.WithObserver(func(wxtoken.Event) { runtime.Goexit() }))
		token(t, src)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		assert.NoError(t, src.Wait(ctx))
	})
}

// A server that starts shortly before the token expires takes no lease yet, and
// must not sleep beyond the expiry: it would be without a token until called.
func TestRunStartsBeforeTheExpiry(t *testing.T) {
	for _, left := range []time.Duration{3 * time.Second, 10 * time.Second, 20 * time.Second, 28 * time.Second} {
		bubble(t, left.String(), func(t *testing.T) {
			f, cache := &stub{latency: 500 * time.Millisecond}, wxtoken.NewMemoryCache()
			token(t, wxtoken.New(f, cache))
			time.Sleep(2*time.Hour - left)
			src := wxtoken.New(f, cache)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			go src.Run(ctx)
			without := 0
			for range 2400 {
				time.Sleep(50 * time.Millisecond)
				if _, ok := src.Peek(); !ok {
					without++
				}
			}
			require.EqualValues(t, 2, f.fetches.Load())
			assert.LessOrEqual(t, time.Duration(without)*50*time.Millisecond, time.Second, "without a token")
		})
	}
}

// The first record of all was not lost: deleting it forces a token at once.
func TestFirstRecordDeletedByHand(t *testing.T) {
	for _, after := range []time.Duration{5 * time.Minute, 7 * time.Minute, 9 * time.Minute} {
		bubble(t, after.String(), func(t *testing.T) {
			f, store := &stub{repeatable: true}, newSwappable()
			src := wxtoken.New(f, store)
			for range after / time.Second {
				token(t, src)
				time.Sleep(time.Second)
			}
			store.lose()
			for range 150 {
				token(t, src)
				time.Sleep(time.Second)
			}
			assert.EqualValues(t, 2, f.fetches.Load())
		})
	}
}
