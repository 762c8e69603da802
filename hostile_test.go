package wxtoken_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/wxtoken/wxtoken"
	"github.com/wxtoken/wxtoken/wxtest"
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

// Counts at their limit are counted on by a protocol that must not write what it
// would not read.
func TestCountsAtTheirLimit(t *testing.T) {
	for _, count := range []string{
		`"seq":9007199254740991`, `"seq":9007199254740990,"owed":1`, `"seq":1,"early":1073741823`,
		`"seq":1,"cooldown":{"step":1073741823,"code":-1,"until":0}`,
	} {
		bubble(t, count, func(t *testing.T) {
			f, cache, l, now := &stub{}, wxtoken.NewMemoryCache(), &log{}, time.Now()
			f.answer = func(n int64) error {
				if n < 3 {
					return &wxtoken.APIError{Code: -1}
				}
				return nil
			}
			put(t, cache, fmt.Appendf(nil, `{"v":1,"epoch":"e",%s,"token":"x","issued_at":%d,"expires_at":%d}`,
				count, now.UnixMilli(), now.Add(20*time.Minute).UnixMilli()))
			srcs := []*wxtoken.Source{wxtoken.New(f, cache, l.option()), wxtoken.New(f, cache, l.option())}
			rejects := time.Now().Add(10 * time.Minute)
			for start := time.Now(); time.Since(start) < 3*time.Hour; time.Sleep(time.Second) {
				for _, src := range srcs {
					token(t, src)
				}
				if now := time.Now(); now.After(rejects) {
					rejects = now.Add(time.Hour)
					require.NoError(t, srcs[0].Invalidate(t.Context(), token(t, srcs[0])))
				}
			}
			assert.Zero(t, l.count(wxtoken.EventCacheError))
			assert.LessOrEqual(t, f.fetches.Load(), int64(10))
		})
	}
}

func TestRunWithALocalAgeOfAlmostNothing(t *testing.T) {
	for _, age := range []time.Duration{1, time.Microsecond, time.Millisecond} {
		bubble(t, "does not spin at "+age.String(), func(t *testing.T) {
			cache := &faultyCache{Cache: wxtoken.NewMemoryCache()}
			src := wxtoken.New(&stub{}, cache, wxtoken.WithLocalAge(age))
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			assert.ErrorIs(t, src.Run(ctx), context.DeadlineExceeded)
			assert.Less(t, cache.gets.Load(), int64(2500), "reads in 10 s")
		})
	}
}

// A caller learns that the secret is wrong after a look at it, not after a minute
// of looks, however slow they are beside WithLocalAge.
func TestASlowSecretFunc(t *testing.T) {
	for _, c := range []struct {
		takes time.Duration
		opt   wxtoken.Option
	}{
		{100 * time.Millisecond, wxtoken.WithLocalAge(time.Second)},
		{3 * time.Second, wxtoken.WithFetchTimeout(20 * time.Second)},
		{0, wxtoken.WithLocalAge(1)},
	} {
		bubble(t, c.takes.String(), func(t *testing.T) {
			var asked atomic.Int64
			p := wxtest.NewPlatform(wxtest.WithApp("wx1", "right"))
			f := wxtoken.NewFetcher("wx1", "", wxtoken.WithHTTPClient(p.Client()),
				wxtoken.WithSecretFunc(func(context.Context) (string, error) {
					asked.Add(1)
					time.Sleep(c.takes)
					return "wrong", nil
				}))
			src := wxtoken.New(f, nil, c.opt)
			_, err := src.Token(t.Context())
			require.Error(t, err)
			time.Sleep(10 * time.Second)
			before, start := asked.Load(), time.Now()
			_, err = src.Token(t.Context())
			require.ErrorContains(t, err, "40125")
			assert.LessOrEqual(t, time.Since(start), c.takes)
			assert.EqualValues(t, 1, asked.Load()-before)
		})
	}
}
