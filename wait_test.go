package wxtoken_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/wxtoken/wxtoken"
)

func TestWait(t *testing.T) {
	bubble(t, "a program that ends soon publishes what it fetched", func(t *testing.T) {
		f, cache := &stub{latency: 3 * time.Second}, wxtoken.NewMemoryCache()
		src := wxtoken.New(f, slow(cache, 3*time.Millisecond))
		for start := time.Now(); f.fetches.Load() < 2; time.Sleep(time.Second) {
			require.Less(t, time.Since(start), 2*time.Hour)
			require.Equal(t, "token-1", token(t, src))
		}
		require.Equal(t, "token-1", token(t, src), "it is replaced in the background")
		require.Contains(t, recordOf(t, cache), "lease")
		require.NoError(t, src.Wait(t.Context()))
		assert.Equal(t, "token-2", recordOf(t, cache)["token"])
		assert.NotContains(t, recordOf(t, cache), "lease")
	})
	for _, latency := range []time.Duration{0, 1500 * time.Millisecond, 4 * time.Second} {
		bubble(t, fmt.Sprint("also without Wait, a caller has no token before the others, after ", latency), func(t *testing.T) {
			cache := wxtoken.NewMemoryCache()
			src := wxtoken.New(&stub{latency: latency}, slow(cache, 3*time.Millisecond))
			require.Equal(t, "token-1", token(t, src))
			assert.Equal(t, "token-1", recordOf(t, cache)["token"])
		})
	}
	bubble(t, "an idle Source returns at once, whatever ctx says, and starts nothing", func(t *testing.T) {
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		f, cache := &stub{}, &faultyCache{Cache: wxtoken.NewMemoryCache()}
		src := wxtoken.New(f, cache)
		assert.NoError(t, src.Wait(ended))
		assert.Zero(t, cache.gets.Load()+f.fetches.Load())
		token(t, src)
		require.NoError(t, src.Wait(t.Context()))
		time.Sleep(3 * time.Hour)
		gets := cache.gets.Load()
		assert.NoError(t, src.Wait(ended))
		assert.Equal(t, gets, cache.gets.Load())
		assert.EqualValues(t, 1, f.fetches.Load())
	})
	bubble(t, "it ends with ctx, and what is under way goes on", func(t *testing.T) {
		f, cache := &stub{latency: 3 * time.Second}, wxtoken.NewMemoryCache()
		src := wxtoken.New(f, cache)
		go src.Token(context.Background())
		synctest.Wait()
		cause := errors.New("the machine shuts down")
		ctx, cancel := context.WithTimeoutCause(t.Context(), 2*time.Second, cause)
		defer cancel()
		start := time.Now()
		assert.ErrorIs(t, src.Wait(ctx), cause)
		assert.Equal(t, 2*time.Second, time.Since(start))
		assert.NoError(t, src.Wait(t.Context()))
		assert.Equal(t, 3*time.Second, time.Since(start))
		assert.Equal(t, "token-1", recordOf(t, cache)["token"])
	})
	bubble(t, "the Events are delivered, also while another flight is under way", func(t *testing.T) {
		var delivered atomic.Int64
		f := &stub{latency: 50 * time.Millisecond}
		src := wxtoken.New(f, nil, wxtoken.WithObserver(func(wxtoken.Event) {
			time.Sleep(5 * time.Second)
			delivered.Add(1)
		}))
		token(t, src)
		require.NoError(t, src.Wait(t.Context()))
		assert.EqualValues(t, 1, delivered.Load())
		require.NoError(t, src.Invalidate(t.Context(), "token-1"))
		token(t, src)
		start := time.Now()
		require.NoError(t, src.Wait(t.Context()))
		assert.EqualValues(t, 3, delivered.Load(), "of the rejection and of the fetch")
		assert.Less(t, time.Since(start), 6*time.Second)
	})
	bubble(t, "a rejection whose caller has left reaches the record", func(t *testing.T) {
		cache := wxtoken.NewMemoryCache()
		src := wxtoken.New(&stub{}, slow(cache, 70*time.Millisecond))
		token(t, src)
		age(t)
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		require.ErrorIs(t, src.Invalidate(ctx, "token-1"), context.DeadlineExceeded)
		require.NoError(t, src.Wait(t.Context()))
		assert.Equal(t, true, recordOf(t, cache)["rejected"])
	})
}

// Peek must say what a call of Token at the same moment does, whatever happened
// before, and must leave no trace.
func TestPeekAgreesWithToken(t *testing.T) {
	for seed := range uint64(20) {
		bubble(t, fmt.Sprint("seed ", seed), func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, 0))
			f := &stub{latency: 40 * time.Millisecond, lifetime: 20 * time.Minute, repeatable: seed%2 == 1}
			var down, busy atomic.Bool
			var latency atomic.Int64
			latency.Store(int64(5 * time.Millisecond))
			f.answer = func(int64) error {
				if busy.Load() {
					return &wxtoken.APIError{Code: 45009}
				}
				return nil
			}
			cache := &faultyCache{Cache: wxtoken.NewMemoryCache()}
			call := func(ctx context.Context) error {
				select {
				case <-time.After(time.Duration(latency.Load())):
				case <-ctx.Done():
					return ctx.Err()
				}
				if down.Load() {
					return errDown
				}
				return nil
			}
			cache.get, cache.swap = call, call
			src := wxtoken.New(f, cache)
			last, agreed := "", map[bool]int{}
			for range 1500 {
				switch random.IntN(12) {
				case 0:
					down.Store(!down.Load())
				case 1:
					busy.Store(!busy.Load())
				case 2:
					latency.Store(int64([]time.Duration{time.Millisecond, 1100 * time.Millisecond, 3 * time.Second}[random.IntN(3)]))
				case 3:
					go src.Invalidate(context.Background(), last)
				case 4:
					go src.Token(context.Background())
				}
				time.Sleep([]time.Duration{0, 7 * time.Millisecond, 1500 * time.Millisecond, 33 * time.Second, 4 * time.Minute}[random.IntN(5)])
				synctest.Wait()
				calls := cache.gets.Load() + cache.swaps.Load() + f.fetches.Load()
				peeked, ok := src.Peek()
				synctest.Wait()
				require.Equal(t, calls, cache.gets.Load()+cache.swaps.Load()+f.fetches.Load(), "Peek started something")

				before := time.Now()
				tok, err := src.Token(t.Context())
				atOnce := err == nil && time.Since(before) == 0
				require.Equal(t, atOnce, ok, "Token took %s, %v", time.Since(before), err)
				if ok {
					require.Equal(t, tok, peeked)
				}
				last = tok.Value
				agreed[ok]++
			}
			assert.Greater(t, agreed[true], 100)
			assert.Greater(t, agreed[false], 100)
		})
	}
}
