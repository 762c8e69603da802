package wxtoken_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/wxtoken/wxtoken"
)

// A fragile error panics when it is looked at and is nil.
type fragile struct{ text string }

func (f *fragile) Error() string { return f.text }

func TestErrorsThatPanic(t *testing.T) {
	for name, err := range map[string]error{
		"a nil *APIError":               (*wxtoken.APIError)(nil),
		"a nil *APIError, wrapped":      fmt.Errorf("fetching: %w", (*wxtoken.APIError)(nil)),
		"a nil pointer of another type": (*fragile)(nil),
	} {
		bubble(t, name, func(t *testing.T) {
			f := wxtoken.FetcherFunc("stub", func(context.Context) (wxtoken.Token, error) {
				return wxtoken.Token{Value: "x", ExpiresAt: time.Now().Add(time.Hour)}, err
			})
			src := wxtoken.New(f, nil, wxtoken.WithLogger(slog.New(slog.NewTextHandler(io.Discard, nil))))
			for range 3 {
				_, err := src.Token(t.Context())
				var cool *wxtoken.CooldownError
				require.ErrorAs(t, err, &cool)
				assert.ErrorContains(t, err, "Fetcher")
				time.Sleep(time.Minute)
			}
		})
	}
}

// The last swap failed, so nothing can be decided on the rejection; the reads go on.
func TestRejectionInAStoreThatOnlyReads(t *testing.T) {
	for _, fails := range []func() (bool, error){
		func() (bool, error) { return false, errors.New("READONLY") },
		func() (bool, error) { time.Sleep(time.Minute); return false, nil },
	} {
		bubble(t, "", func(t *testing.T) {
			cache := &faultyCache{Cache: wxtoken.NewMemoryCache()}
			store := &swapless{Cache: cache}
			src := wxtoken.New(&stub{}, store)
			token(t, src)
			age(t)
			store.swap = fails
			require.Error(t, src.Invalidate(t.Context(), "token-1"))
			before, start := cache.gets.Load(), time.Now()
			for ; time.Since(start) < 10*time.Second; time.Sleep(10 * time.Millisecond) {
				if _, err := src.Token(t.Context()); err != nil {
					require.ErrorIs(t, err, wxtoken.ErrCacheUnavailable)
					require.Less(t, time.Since(start), 3*time.Second, "withheld")
				}
			}
			assert.Less(t, cache.gets.Load()-before, int64(30), "reads in 10 s")
		})
	}
}

// A swapless cache has another CompareAndSwap if swap is not nil.
type swapless struct {
	wxtoken.Cache
	swap func() (bool, error)
}

func (s *swapless) CompareAndSwap(ctx context.Context, key string, old, new []byte, ttl time.Duration) (bool, error) {
	if s.swap != nil {
		return s.swap()
	}
	return s.Cache.CompareAndSwap(ctx, key, old, new, ttl)
}
