package wxtoken_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/wxtoken/wxtoken"
	"github.com/wxtoken/wxtoken/wxtest"
)

// calls has src asked every second for d, and counts the fetches of f.
func calls(t *testing.T, src *wxtoken.Source, f *stub, d time.Duration) int64 {
	t.Helper()
	before := f.fetches.Load()
	for start := time.Now(); time.Since(start) < d; time.Sleep(time.Second) {
		_, _ = src.Token(t.Context())
	}
	return f.fetches.Load() - before
}

func TestCooldowns(t *testing.T) {
	const everyone, oneself = true, false
	tests := []struct {
		name   string
		err    error
		shared bool
		first  time.Duration // a second fetch comes after this
		hour   [2]int64      // fetches in the first hour, least and most
	}{
		{"wrong secret, by a Fetcher that does not tell which", &wxtoken.APIError{Code: 40125}, oneself, time.Minute, [2]int64{9, 10}},
		{"wrong secret, as documented", &wxtoken.APIError{Code: 40001}, oneself, time.Minute, [2]int64{9, 10}},
		{"bad AppID", &wxtoken.APIError{Code: 40013}, everyone, 10 * time.Minute, [2]int64{6, 6}},
		{"frozen", &wxtoken.APIError{Code: 40243}, everyone, 10 * time.Minute, [2]int64{6, 6}},
		{"not whitelisted", &wxtoken.APIError{Code: 40164}, oneself, time.Minute, [2]int64{13, 15}},
		{"refused for an hour", &wxtoken.APIError{Code: 89507}, oneself, 10 * time.Minute, [2]int64{6, 6}},
		{"daily quota", &wxtoken.APIError{Code: 45009}, everyone, 15 * time.Minute, [2]int64{3, 3}},
		{"minute quota", &wxtoken.APIError{Code: 45011}, everyone, time.Minute, [2]int64{59, 61}},
		{"an errcode nobody knows", &wxtoken.APIError{Code: 99999}, everyone, 5 * time.Second, [2]int64{10, 14}},
		{"no answer", errors.New("EOF"), everyone, 1250 * time.Millisecond, [2]int64{12, 16}},
	}
	for _, test := range tests {
		bubble(t, test.name, func(t *testing.T) {
			f := &stub{answer: func(int64) error { return test.err }}
			cache := wxtoken.NewMemoryCache()
			src, other := wxtoken.New(f, cache), wxtoken.New(f, cache)

			_, err := src.Token(t.Context())
			assert.ErrorIs(t, err, test.err)
			var cool *wxtoken.CooldownError
			require.ErrorAs(t, err, &cool)
			assert.InDelta(t, test.first, time.Until(cool.Until), float64(10*time.Millisecond))

			time.Sleep(100 * time.Millisecond)
			before := f.fetches.Load()
			_, err = other.Token(t.Context())
			assert.Error(t, err)
			assert.Equal(t, test.shared, f.fetches.Load() == before, "does another process wait as well?")

			start := f.fetches.Load()
			calls(t, src, f, time.Hour)
			n := f.fetches.Load() - start + 1
			assert.GreaterOrEqual(t, n, test.hour[0])
			assert.LessOrEqual(t, n, test.hour[1])
		})
	}
}

func TestBusyPlatformIsWaitedOut(t *testing.T) {
	busy := &wxtoken.APIError{Code: -1, Message: "system error"}
	bubble(t, "by a caller with time", func(t *testing.T) {
		f := &stub{answer: func(n int64) error {
			if n <= 2 {
				return busy
			}
			return nil
		}}
		start := time.Now()
		assert.Equal(t, "token-3", token(t, wxtoken.New(f, nil)))
		assert.InDelta(t, 3*time.Second, time.Since(start), float64(50*time.Millisecond))
	})
	bubble(t, "not by a caller without", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		defer cancel()
		start := time.Now()
		_, err := wxtoken.New(&stub{answer: func(int64) error { return busy }}, nil).Token(ctx)
		assert.ErrorIs(t, err, busy)
		assert.Zero(t, time.Since(start))
	})
	bubble(t, "not for long", func(t *testing.T) {
		start := time.Now()
		_, err := wxtoken.New(&stub{answer: func(int64) error { return busy }}, nil).Token(t.Context())
		assert.ErrorIs(t, err, busy)
		assert.Less(t, time.Since(start), 5*time.Second)
	})
	bubble(t, "and is no error while there is a token", func(t *testing.T) {
		f := &stub{answer: func(n int64) error {
			if n > 1 {
				return busy
			}
			return nil
		}}
		src := wxtoken.New(f, nil)
		token(t, src)
		for range 2*60*60 - 2 {
			time.Sleep(time.Second)
			require.Equal(t, "token-1", token(t, src))
		}
		assert.Greater(t, f.fetches.Load(), int64(5))
	})
}

func TestWrongSecret(t *testing.T) {
	bubble(t, "100 calls make at most 2 requests", func(t *testing.T) {
		p := wxtest.NewPlatform(wxtest.WithApp("wx1", "right"))
		src := wxtoken.New(wxtoken.NewFetcher("wx1", "wrong", wxtoken.WithHTTPClient(p.Client())), nil)
		together(50, func(int) {
			_, err := src.Token(t.Context())
			var refusal *wxtoken.APIError
			assert.ErrorAs(t, err, &refusal)
			assert.Equal(t, 40125, refusal.Code)
		})
		for range 50 {
			_, err := src.Token(t.Context())
			var cool *wxtoken.CooldownError
			var refusal *wxtoken.APIError
			require.ErrorAs(t, err, &cool)
			require.ErrorAs(t, err, &refusal)
			require.Equal(t, 40125, refusal.Code)
			require.Contains(t, refusal.Message, "invalid appsecret rid: ")
			time.Sleep(time.Second / 2)
		}
		assert.LessOrEqual(t, p.Stats().Fetches().Total(), 2)
	})
	bubble(t, "a mended secret is not held back", func(t *testing.T) {
		p := wxtest.NewPlatform(wxtest.WithApp("wx1", "right"))
		cache := wxtoken.NewMemoryCache()
		source := func(secret string) *wxtoken.Source {
			return wxtoken.New(wxtoken.NewFetcher("wx1", secret, wxtoken.WithHTTPClient(p.Client())), cache)
		}
		for range 3 {
			_, err := source("wrong").Token(t.Context())
			assert.Error(t, err)
		}
		assert.Equal(t, 1, p.Stats().Fetches().Total(), "three processes with the same wrong secret")
		assert.Equal(t, p.Latest("wx1"), "")
		token(t, source("right"))
		assert.Equal(t, 2, p.Stats().Fetches().Total())
		token(t, source("wrong")) // the shared token serves it
	})
}

func TestSecretsMissing(t *testing.T) {
	for missing, f := range map[string]wxtoken.Fetcher{
		"appID":  wxtoken.NewFetcher("", "secret"),
		"secret": wxtoken.NewStableFetcher("wx1", ""),
	} {
		bubble(t, missing, func(t *testing.T) {
			cache := &faultyCache{Cache: wxtoken.NewMemoryCache()}
			src := wxtoken.New(f, cache)
			start := time.Now()
			for range 100 {
				_, err := src.Token(t.Context())
				require.ErrorContains(t, err, missing)
			}
			assert.Zero(t, time.Since(start), "nobody waits for what will not mend itself")
			assert.LessOrEqual(t, cache.gets.Load()+cache.swaps.Load(), int64(6))
		})
	}
}

// The clock of the process that was refused does not decide for the others.
func TestCooldownOfAProcessWithAnotherClock(t *testing.T) {
	bubble(t, "ahead", func(t *testing.T) {
		f, cache := &stub{}, wxtoken.NewMemoryCache()
		put(t, cache, []byte(fmt.Sprintf(`{"v":1,"epoch":"e","seq":0,"cooldown":{"until":%d,"code":45011}}`, time.Now().Add(time.Hour).UnixMilli())))
		src := wxtoken.New(f, cache)
		assert.EqualValues(t, 0, calls(t, src, f, 57*time.Second))
		assert.EqualValues(t, 1, calls(t, src, f, 5*time.Second))
	})
}
