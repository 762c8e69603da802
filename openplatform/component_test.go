package openplatform_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/wxtoken/wxtoken"
	"github.com/wxtoken/wxtoken/openplatform"
	"github.com/wxtoken/wxtoken/wxtest"
)

func TestAPushedTicketGetsAComponentToken(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		w := newWorld(t)
		p := w.ready()
		tok := token(t, p.Source())
		assert.Equal(t, w.LatestComponent(compID), tok)
		assert.Equal(t, tok, token(t, w.process().Source()), "another process shares it")
		assert.Equal(t, wxtest.Tally{0: 1}, w.sent(wxtest.ComponentPath))
		assert.Empty(t, w.sent(wxtest.StartPushPath))
		assert.Same(t, p.Source(), p.Source())
	})
}

func TestNoTicket(t *testing.T) {
	bubble(t, "says so, and fetches at once when one comes", func(t *testing.T) {
		w := newWorld(t)
		p := w.process()
		w.to(p)
		for range 20 { // the core's own cooldown grows
			_, err := p.Source().Token(t.Context())
			require.ErrorContains(t, err, "no component_verify_ticket: no push has come yet")
			time.Sleep(20 * time.Second)
		}
		_, err := p.Source().Token(t.Context())
		require.Error(t, err)
		assert.Empty(t, w.sent(wxtest.ComponentPath))

		require.NoError(t, w.PushTicket(compID, hook))
		assert.Equal(t, token(t, p.Source()), w.LatestComponent(compID))
	})
	bubble(t, "another process notices within seconds", func(t *testing.T) {
		w := newWorld(t)
		p, other := w.process(), w.process()
		for range 10 {
			_, err := other.Source().Token(t.Context())
			require.Error(t, err)
			time.Sleep(20 * time.Second)
		}
		require.NoError(t, p.SetTicket(t.Context(), w.IssueTicket(compID)))
		start := time.Now()
		for {
			if _, err := other.Source().Token(t.Context()); err == nil {
				break
			}
			time.Sleep(100 * time.Millisecond)
		}
		assert.Less(t, time.Since(start), 5*time.Second)
	})
	bubble(t, "the authorizers too", func(t *testing.T) {
		w := newWorld(t)
		p := w.ready()
		w.authorize("wx1")
		time.Sleep(13 * time.Hour) // nothing was pushed
		for range 10 {
			_, err := p.Authorizer("wx1").Token(t.Context())
			require.ErrorContains(t, err, "no component_verify_ticket: the last push came at 2000-01-01T00:00:00Z")
			time.Sleep(20 * time.Second)
		}
		require.NoError(t, w.PushTicket(compID, hook))
		assert.Equal(t, token(t, p.Authorizer("wx1")), w.LatestAuthorizer(compID, "wx1"))
	})
}

func TestPushesAreAskedForOnceInTenMinutes(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		w := newWorld(t)
		for minute := range 60 {
			for range 3 { // each a process that has just started
				_, err := w.process().Source().Token(t.Context())
				require.Error(t, err)
			}
			if minute == 5 {
				assert.Equal(t, 1, w.sent(wxtest.StartPushPath).Total())
			}
			time.Sleep(time.Minute)
		}
		assert.Equal(t, wxtest.Tally{0: 6}, w.sent(wxtest.StartPushPath))
	})
	bubble(t, "even if the platform is busy", func(t *testing.T) {
		w := newWorld(t)
		w.Inject(wxtest.Busy())
		p := w.process()
		for range 20 {
			_, err := p.Source().Token(t.Context())
			require.ErrorContains(t, err, "no component_verify_ticket")
			time.Sleep(20 * time.Second)
		}
		assert.Equal(t, wxtest.Tally{-1: 1}, w.sent(wxtest.StartPushPath))
	})
}

func TestADeniedTicket(t *testing.T) {
	for name, kill := range map[string]func(w *world) int{
		"61006": func(w *world) int { w.IssueTicket(compID); return 61006 },
		"61005": func(w *world) int { w.Inject(wxtest.Denial(61005).On(wxtest.ComponentPath).Times(1)); return 61005 },
	} {
		bubble(t, name, func(t *testing.T) {
			w := newWorld(t, wxtest.WithThirdParty(wxtest.ThirdParty{LatestTicketOnly: true}))
			p := w.ready()
			code := kill(w)
			_, err := p.Source().Token(t.Context())
			requireDenial(t, code, err)
			assert.ErrorContains(t, err, "the last push came at 2000-01-01T00:00:00Z")
			assert.Equal(t, 1, w.sent(wxtest.StartPushPath).Total())
			for range 20 { // the denied ticket is not sent again and again
				_, err := p.Source().Token(t.Context())
				require.Error(t, err)
				time.Sleep(20 * time.Second)
			}
			assert.Equal(t, 1, w.sent(wxtest.ComponentPath).Total())

			require.NoError(t, w.PushTicket(compID, hook))
			assert.Equal(t, token(t, p.Source()), w.LatestComponent(compID))
		})
	}
	bubble(t, "that is pushed again counts as new", func(t *testing.T) {
		w := newWorld(t, wxtest.WithThirdParty(wxtest.ThirdParty{RepeatTickets: true}))
		p := w.ready()
		w.Inject(wxtest.Denial(61006).On(wxtest.ComponentPath).Times(1))
		_, err := p.Source().Token(t.Context())
		require.Error(t, err)
		time.Sleep(time.Minute)
		require.NoError(t, w.PushTicket(compID, hook))
		assert.NotEmpty(t, token(t, p.Source()))
	})
	bubble(t, "of one process is not denied to the others", func(t *testing.T) {
		w := newWorld(t)
		p := w.ready()
		w.Inject(wxtest.Denial(61006).On(wxtest.ComponentPath).Times(1))
		_, err := p.Source().Token(t.Context())
		require.Error(t, err)
		assert.NotEmpty(t, token(t, w.process().Source()))
	})
}

func TestATicketIsKeptForTwelveHours(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		w := newWorld(t)
		w.ready()
		time.Sleep(11*time.Hour + 59*time.Minute)
		p := w.process()
		assert.NotEmpty(t, token(t, p.Source()))
		time.Sleep(3 * time.Hour)
		_, err := p.Source().Token(t.Context())
		require.ErrorContains(t, err, "no component_verify_ticket: the last push came at")
		assert.Equal(t, 1, w.sent(wxtest.ComponentPath).Total())
	})
	bubble(t, "also if the cache loses it", func(t *testing.T) {
		w := newWorld(t)
		lost := &forgetful{cache: w.cache}
		w.cache = lost
		p := w.ready()
		lost.forget()
		assert.NotEmpty(t, token(t, p.Source()))
		aged()
		w.Revoke(w.LatestComponent(compID))
		require.NoError(t, p.Source().Invalidate(t.Context(), w.LatestComponent(compID)))
		assert.NotEmpty(t, token(t, w.process().Source()), "it is in the cache again")
	})
}

// A forgetful cache can lose everything, also while it is in use.
type forgetful struct {
	mu    sync.Mutex
	cache wxtoken.Cache
}

func (f *forgetful) forget() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.cache = wxtoken.NewMemoryCache()
}

func (f *forgetful) current() wxtoken.Cache {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.cache
}

func (f *forgetful) Get(ctx context.Context, key string) ([]byte, error) {
	return f.current().Get(ctx, key)
}

func (f *forgetful) CompareAndSwap(ctx context.Context, key string, old, new []byte, ttl time.Duration) (bool, error) {
	return f.current().CompareAndSwap(ctx, key, old, new, ttl)
}

func TestTheComponentsSecret(t *testing.T) {
	bubble(t, "wrong: shared only with processes that have the same", func(t *testing.T) {
		w := newWorld(t)
		w.ready()
		w.SetSecret(compID, "another")
		p := w.process()
		for range 3 {
			_, err := p.Source().Token(t.Context())
			requireDenial(t, 40125, err)
			assert.NotContains(t, err.Error(), secret)
		}
		assert.Equal(t, 1, w.sent(wxtest.ComponentPath).Total())
	})
}

func TestTheSecretComesFromAFunction(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		w := newWorld(t)
		var current atomic.Value
		current.Store("an-old-secret-0123456789abcdef01")
		p := openplatform.New(compID, "", w.cache, openplatform.WithFetcherOptions(wxtoken.WithHTTPClient(w.Client()),
			wxtoken.WithSecretFunc(func(context.Context) (string, error) {
				return current.Load().(string), nil
			})))
		require.NoError(t, p.SetTicket(t.Context(), w.IssueTicket(compID)))
		for range 4 {
			_, err := p.Source().Token(t.Context())
			requireDenial(t, 40125, err)
			time.Sleep(10 * time.Second)
		}
		assert.Equal(t, 1, w.sent(wxtest.ComponentPath).Total())
		current.Store(secret)
		time.Sleep(3 * time.Second)
		assert.NotEmpty(t, token(t, p.Source()), "a changed secret ends the cooldown about the old one")

		for bad, want := range map[string]string{"unavailable": "vault is sealed", "": "empty", "a b": "space"} {
			w.cache = wxtoken.NewMemoryCache()
			p := openplatform.New(compID, "", w.cache, openplatform.WithFetcherOptions(wxtoken.WithHTTPClient(w.Client()),
				wxtoken.WithSecretFunc(func(context.Context) (string, error) {
					if bad == "unavailable" {
						return "", errors.New("vault is sealed")
					}
					return bad, nil
				})))
			require.NoError(t, p.SetTicket(t.Context(), w.IssueTicket(compID)))
			_, err := p.Source().Token(t.Context())
			assert.ErrorContains(t, err, want)
		}
		assert.Equal(t, 2, w.sent(wxtest.ComponentPath).Total())
		assert.Empty(t, w.sent(wxtest.StartPushPath))
	})
}

func TestSetTicketRejects(t *testing.T) {
	w := newWorld(t)
	p := w.process()
	for _, bad := range []string{"", " ", "a b", "a\n", "票"} {
		err := p.SetTicket(t.Context(), bad)
		assert.ErrorContains(t, err, "wxtoken: the component_verify_ticket", bad)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := p.SetTicket(ctx, "good")
	assert.ErrorIs(t, err, context.Canceled)
	assert.True(t, errors.Is(err, wxtoken.ErrCacheUnavailable))
}
