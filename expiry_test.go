package wxtoken_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/wxtoken/wxtoken"
	"github.com/wxtoken/wxtoken/wxtest"
)

// A Fetcher that hands out one value and renews its expiry each time, as those
// over a platform of another kind do.
func TestRenewedValue(t *testing.T) {
	for _, life := range []time.Duration{40 * time.Minute, 3 * time.Minute, 26 * time.Hour} {
		bubble(t, life.String(), func(t *testing.T) {
			var fetches atomic.Int64
			f := wxtoken.FetcherFunc("stub", func(context.Context) (wxtoken.Token, error) {
				fetches.Add(1)
				return wxtoken.Token{Value: "always-the-same", ExpiresAt: time.Now().Add(life)}, nil
			})
			cache := wxtoken.NewMemoryCache()
			a, b := wxtoken.New(f, cache), wxtoken.New(f, cache)
			for start := time.Now(); time.Since(start) < 24*time.Hour; time.Sleep(20 * time.Second) {
				token(t, a)
				token(t, b)
			}
			ahead := min(5*time.Minute, life/4)
			assert.LessOrEqual(t, fetches.Load(), int64(24*time.Hour/(life-ahead))+2)
			t.Logf("%d fetches a day", fetches.Load())
		})
	}
}

// The process that fetched first had its clock off. The platform repeats the token
// until its true expiry, and then says another one.
func TestFirstExpiryByAWrongClock(t *testing.T) {
	for _, off := range []time.Duration{-90 * time.Minute, -30 * time.Minute, 0, 20 * time.Minute} {
		bubble(t, "by "+off.String(), func(t *testing.T) {
			cache, now := wxtoken.NewMemoryCache(), time.Now()
			end := now.Add(2 * time.Hour)
			put(t, cache, fmt.Appendf(nil, `{"v":1,"epoch":"e","seq":1,"token":"same","issued_at":%d,"expires_at":%d}`,
				now.Add(off).UnixMilli(), end.Add(off).UnixMilli()))
			f := &repeater{stub{latency: 50 * time.Millisecond, repeatable: true}, end}
			srcs := []*wxtoken.Source{wxtoken.New(f, cache), wxtoken.New(f, cache)}
			lack := 0
			for time.Since(now) < 24*time.Hour {
				for _, src := range srcs {
					tok, err := src.Token(t.Context())
					if err != nil || tok.Value == "same" && time.Now().After(end) && src.Invalidate(t.Context(), "same") == nil {
						lack++
					}
				}
				time.Sleep(10 * time.Second)
			}
			assert.LessOrEqual(t, lack, 2, "an API rejects it, if its expiry came late")
			assert.LessOrEqual(t, f.fetches.Load(), int64(20))
			t.Logf("%d fetches a day", f.fetches.Load())
		})
	}
}

// The platform repeats a token with the time that is left, up to its end.
type remaining struct {
	stub
	life time.Duration
	end  time.Time
}

func (r *remaining) Fetch(ctx context.Context) (wxtoken.Token, error) {
	n := r.fetches.Add(1)
	if time.Until(r.end) < time.Second {
		r.end = time.Now().Add(r.life)
		r.key = fmt.Sprint(n)
	}
	return wxtoken.Token{Value: "token-" + r.key, ExpiresAt: r.end}, nil
}

func (r *remaining) Key() string { return "stub" }

// A repeatable token that lives little longer than refresh-ahead is asked for when
// it expires: before that, the platform would repeat it with less and less time.
func TestRepeatableTokenWithAShortLife(t *testing.T) {
	for _, life := range []time.Duration{2 * time.Minute, 290 * time.Second, 6 * time.Minute} {
		bubble(t, life.String(), func(t *testing.T) {
			f := &remaining{stub: stub{repeatable: true}, life: life}
			src := wxtoken.New(f, nil)
			for start := time.Now(); time.Since(start) < 12*time.Hour; time.Sleep(time.Second) {
				token(t, src)
			}
			lives := int64(12*time.Hour/life) + 1
			assert.LessOrEqual(t, f.fetches.Load(), 2*lives)
			t.Logf("%d fetches, %d lives", f.fetches.Load(), lives)
		})
	}
}

// WeCom repeats a token until it expires.
func TestWeComForADay(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		p := wxtest.NewPlatform()
		p.AddCorp("ww1", "secret")
		cache := wxtoken.NewMemoryCache()
		var srcs []*wxtoken.Source
		for range 3 {
			srcs = append(srcs, wxtoken.New(wxtoken.NewWeComFetcher("ww1", "secret", wxtoken.WithHTTPClient(p.Client())), cache))
		}
		for start := time.Now(); time.Since(start) < 24*time.Hour; time.Sleep(15 * time.Second) {
			for _, src := range srcs {
				require.True(t, p.Honoured(token(t, src)))
			}
		}
		assert.InDelta(t, 13, p.Stats().Fetches().Total(), 1)
	})
}

// A copy of an hour ago is not handed out because the cache is slow to answer: it
// may have been superseded long since. One of a moment ago is.
func TestOldCopyAndASlowCache(t *testing.T) {
	for age, stale := range map[time.Duration]bool{70 * time.Minute: false, 4 * time.Minute: false, 3 * time.Minute: true} {
		bubble(t, age.String(), func(t *testing.T) {
			f, store := &stub{}, wxtoken.NewMemoryCache()
			latency := time.Millisecond
			cache := &faultyCache{Cache: store, get: func(context.Context) error { time.Sleep(latency); return nil }}
			src, other := wxtoken.New(f, cache), wxtoken.New(f, store)
			token(t, src)
			time.Sleep(11 * time.Second)
			require.NoError(t, other.Invalidate(t.Context(), "token-1"))
			require.Equal(t, "token-2", token(t, other))
			time.Sleep(age - 11*time.Second)
			latency = 1700 * time.Millisecond
			before := time.Now()
			if stale {
				assert.Equal(t, "token-1", token(t, src), "superseded tokens live for five minutes")
				assert.Equal(t, time.Second, time.Since(before))
				return
			}
			assert.Equal(t, "token-2", token(t, src))
			assert.Equal(t, latency, time.Since(before))
		})
	}
	bubble(t, "if the cache fails, an old copy is all there is", func(t *testing.T) {
		cache, down := breakable(wxtoken.NewMemoryCache())
		src := wxtoken.New(&stub{}, cache)
		token(t, src)
		time.Sleep(110 * time.Minute)
		down.Store(true)
		assert.Equal(t, "token-1", token(t, src))
		cache.get = func(ctx context.Context) error { <-ctx.Done(); return errors.New("timeout") }
		time.Sleep(5 * time.Minute)
		before := time.Now()
		assert.Equal(t, "token-1", token(t, src))
		assert.LessOrEqual(t, time.Since(before), 2*time.Second)
	})
}
