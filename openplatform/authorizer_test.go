package openplatform_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/wxtoken/wxtoken"
	"github.com/wxtoken/wxtoken/openplatform"
	"github.com/wxtoken/wxtoken/wxtest"
)

func TestAnAuthorizersToken(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		w := newWorld(t)
		p := w.ready()
		w.authorize("wx1", "wx2")
		first := token(t, p.Authorizer("wx1"))
		assert.Equal(t, w.LatestAuthorizer(compID, "wx1"), first)
		assert.Equal(t, first, token(t, w.process().Authorizer("wx1")), "another process shares it")
		assert.NotEqual(t, first, token(t, p.Authorizer("wx2")))
		assert.Same(t, p.Authorizer("wx1"), p.Authorizer("wx1"))
		assert.Equal(t, wxtest.Tally{0: 2}, w.sent(wxtest.AuthorizerPath))
		assert.Equal(t, wxtest.Tally{0: 1}, w.sent(wxtest.ComponentPath))

		aged()
		w.Revoke(first)
		require.NoError(t, p.Authorizer("wx1").Invalidate(t.Context(), first))
		assert.True(t, w.Honoured(token(t, p.Authorizer("wx1"))))
	})
}

// Whatever the platform does with refresh tokens, three processes that share one
// cache lose none in a day.
func TestRefreshTokensLast(t *testing.T) {
	for _, own := range []bool{false, true} {
		for _, b := range []wxtest.ThirdParty{
			{}, {RotateRefreshTokens: true}, {EmptyRefreshTokens: true}, {RotateRefreshTokens: true, EmptyRefreshTokens: true},
		} {
			bubble(t, fmt.Sprintf("%+v own=%v", b, own), func(t *testing.T) {
				w := newWorld(t, wxtest.WithThirdParty(b))
				var opts []openplatform.Option
				if own {
					opts = append(opts, openplatform.WithRefreshTokens(&table{}))
				}
				ps := []*openplatform.Platform{w.ready(opts...), w.process(opts...), w.process(opts...)}
				w.authorize("wx1", "wx2")
				for minute := 0; minute < 24*60; minute += every {
					p := ps[minute%3]
					if minute%10 == 0 {
						require.NoError(t, w.PushTicket(compID, hook))
					}
					require.True(t, w.Honoured(token(t, p.Authorizer("wx1"))))
					require.True(t, w.Honoured(token(t, p.Authorizer("wx2"))))
					time.Sleep(every * time.Minute)
				}
				assert.LessOrEqual(t, w.sent(wxtest.AuthorizerPath)[0], 2*13)
				assert.LessOrEqual(t, w.sent(wxtest.ComponentPath)[0], 13)
				if b != (wxtest.ThirdParty{RotateRefreshTokens: true, EmptyRefreshTokens: true}) {
					assert.Empty(t, w.sent(wxtest.AuthorizerListPath))
				}
			})
		}
	}
}

func TestALostOrInvalidRefreshTokenIsRecovered(t *testing.T) {
	bubble(t, "lost by the cache", func(t *testing.T) {
		w := newWorld(t)
		lost := &forgetful{cache: w.cache}
		w.cache = lost
		p := w.ready()
		w.authorize("wx1")
		token(t, p.Authorizer("wx1"))
		time.Sleep(3 * time.Hour)
		lost.forget()
		assert.True(t, w.Honoured(token(t, p.Authorizer("wx1"))))
		assert.Equal(t, 1, w.sent(wxtest.AuthorizerListPath).Total())
		time.Sleep(3 * time.Hour)
		assert.True(t, w.Honoured(token(t, w.process().Authorizer("wx1"))), "it is saved again")
		assert.Equal(t, 1, w.sent(wxtest.AuthorizerListPath).Total())
	})
	bubble(t, "invalid", func(t *testing.T) {
		w := newWorld(t)
		p := w.ready()
		w.authorize("wx1")
		w.ReplaceRefreshToken(compID, "wx1")
		assert.True(t, w.Honoured(token(t, p.Authorizer("wx1"))))
		assert.Equal(t, wxtest.Tally{61023: 1, 0: 1}, w.sent(wxtest.AuthorizerPath))
	})
	bubble(t, "invalid, and replaced in the application's store meanwhile", func(t *testing.T) {
		w := newWorld(t)
		rows := &correctedTable{w: w}
		p := w.ready(openplatform.WithRefreshTokens(rows))
		w.authorize("wx1")
		w.ReplaceRefreshToken(compID, "wx1")
		assert.True(t, w.Honoured(token(t, p.Authorizer("wx1"))))
		assert.Empty(t, w.sent(wxtest.AuthorizerListPath))
	})
	bubble(t, "invalid, and so is what the platform lists", func(t *testing.T) {
		w := newWorld(t)
		p := w.ready()
		w.authorize("wx1")
		lift := w.Inject(wxtest.Denial(61023).On(wxtest.AuthorizerPath))
		for range 10 {
			_, err := p.Authorizer("wx1").Token(t.Context())
			require.ErrorIs(t, err, openplatform.ErrNotAuthorized)
			requireDenial(t, 61023, err)
			time.Sleep(20 * time.Second)
		}
		assert.Equal(t, wxtest.Tally{61023: 1}, w.sent(wxtest.AuthorizerPath))
		lift()
		time.Sleep(7 * time.Minute)
		assert.NotEmpty(t, token(t, p.Authorizer("wx1")), "the refresh token is still stored")
	})
	bubble(t, "thousands at once read one list", func(t *testing.T) {
		const many = 1000
		w := newWorld(t)
		w.ready()
		for i := range many {
			w.authorize(fmt.Sprintf("wx%d", i))
		}
		require.NoError(t, w.PushTicket(compID, hook))
		ticket := w.IssueTicket(compID)
		w.cache = wxtoken.NewMemoryCache() // FLUSHALL
		p := w.process()
		require.NoError(t, p.SetTicket(t.Context(), ticket))
		token(t, p.Authorizer("wx0"))
		assert.Equal(t, 1, w.sent(wxtest.AuthorizerListPath).Total(), "one page had it")
		errs := make(chan error)
		for i := range many {
			go func() {
				_, err := p.Authorizer(fmt.Sprintf("wx%d", i)).Token(t.Context())
				errs <- err
			}()
		}
		for range many {
			require.NoError(t, <-errs)
		}
		assert.Equal(t, wxtest.Tally{0: many / 200}, w.sent(wxtest.AuthorizerListPath))
		assert.Equal(t, wxtest.Tally{0: many}, w.sent(wxtest.AuthorizerPath))
	})
}

// A correctedTable returns the right refresh token only on the second Load.
type correctedTable struct {
	table
	w     *world
	loads int
}

func (r *correctedTable) Load(ctx context.Context, appID string) (string, error) {
	if r.loads++; r.loads > 1 {
		return r.w.RefreshToken(compID, appID), nil
	}
	return r.table.Load(ctx, appID)
}

func TestNotAuthorized(t *testing.T) {
	bubble(t, "never", func(t *testing.T) {
		w := newWorld(t)
		p := w.ready()
		for range 20 {
			_, err := p.Authorizer("wx1").Token(t.Context())
			require.ErrorIs(t, err, openplatform.ErrNotAuthorized)
			time.Sleep(20 * time.Second)
		}
		assert.Equal(t, 1, w.sent(wxtest.AuthorizerListPath).Total())
		w.authorize("wx1")
		assert.NotEmpty(t, token(t, p.Authorizer("wx1")), "at once")
	})
	bubble(t, "never, and then by another process", func(t *testing.T) {
		w := newWorld(t)
		w.ready()
		other := w.process()
		for range 20 {
			_, err := other.Authorizer("wx1").Token(t.Context())
			require.ErrorIs(t, err, openplatform.ErrNotAuthorized)
			time.Sleep(20 * time.Second)
		}
		w.authorize("wx1")
		_, _ = other.Authorizer("wx1").Token(t.Context())
		time.Sleep(3 * time.Second)
		assert.NotEmpty(t, token(t, other.Authorizer("wx1")))
	})
	bubble(t, "61003: not asked again until the owner authorizes", func(t *testing.T) {
		w := newWorld(t)
		p := w.ready()
		w.authorize("wx1")
		w.EndAuthorization(compID, "wx1")
		for range 100 {
			_, err := p.Authorizer("wx1").Token(t.Context())
			require.ErrorIs(t, err, openplatform.ErrNotAuthorized)
			requireDenial(t, 61003, err)
			time.Sleep(30 * time.Second)
		}
		assert.Equal(t, wxtest.Tally{61003: 1}, w.sent(wxtest.AuthorizerPath))
		w.authorize("wx1")
		assert.NotEmpty(t, token(t, p.Authorizer("wx1")), "at once")
	})
	bubble(t, "a wrong 61003 ends by itself", func(t *testing.T) {
		w := newWorld(t)
		p := w.ready()
		w.authorize("wx1")
		w.Inject(wxtest.Denial(61003).On(wxtest.AuthorizerPath).Times(1))
		_, err := p.Authorizer("wx1").Token(t.Context())
		require.Error(t, err)
		assert.NotEmpty(t, token(t, w.process().Authorizer("wx1")), "no other process is affected")
		time.Sleep(2 * time.Second)
		assert.NotEmpty(t, token(t, p.Authorizer("wx1")), "nor this one, once there is a token")
	})
	bubble(t, "a bad appID", func(t *testing.T) {
		w := newWorld(t)
		p := w.ready()
		for _, bad := range []string{"", "wx 1", "wx\n", "号"} {
			_, err := p.Authorizer(bad).Token(t.Context())
			assert.Error(t, err)
			_, err = p.Authorize(t.Context(), bad)
			assert.ErrorContains(t, err, "authorization code")
		}
		assert.Empty(t, w.sent(wxtest.ComponentPath))
	})
}

func TestUnauthorized(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		w := newWorld(t)
		p, other := w.ready(), w.process()
		w.authorize("wx1")
		old := token(t, p.Authorizer("wx1"))
		require.Equal(t, old, token(t, other.Authorizer("wx1")))
		time.Sleep(time.Minute)
		require.Equal(t, old, token(t, p.Authorizer("wx1")))

		require.NoError(t, w.PushUnauthorized(compID, "wx1", hook))
		time.Sleep(time.Minute)
		_, there := p.Authorizer("wx1").Peek()
		assert.False(t, there)
		for range 100 {
			_, err := p.Authorizer("wx1").Token(t.Context())
			require.ErrorIs(t, err, openplatform.ErrNotAuthorized)
			time.Sleep(7 * time.Second)
		}
		require.NoError(t, other.Authorizer("wx1").Invalidate(t.Context(), old))
		_, err := other.Authorizer("wx1").Token(t.Context())
		assert.ErrorIs(t, err, openplatform.ErrNotAuthorized)
		assert.Equal(t, wxtest.Tally{0: 1, 61003: 1}, w.sent(wxtest.AuthorizerPath), "only the other process asked, once")

		w.authorize("wx1")
		assert.True(t, w.Honoured(token(t, p.Authorizer("wx1"))), "at once")
		time.Sleep(3 * time.Second)
		_, _ = other.Authorizer("wx1").Token(t.Context()) // makes it look
		time.Sleep(time.Second)
		assert.True(t, w.Honoured(token(t, other.Authorizer("wx1"))))
	})
	bubble(t, "pushed to another process than the one that authorized again", func(t *testing.T) {
		w := newWorld(t)
		p, other := w.ready(), w.process()
		w.authorize("wx1")
		token(t, p.Authorizer("wx1"))
		require.NoError(t, w.PushUnauthorized(compID, "wx1", hook))
		time.Sleep(time.Minute)
		_, err := p.Authorizer("wx1").Token(t.Context())
		require.Error(t, err)
		w.to(other)
		w.authorize("wx1")
		time.Sleep(3 * time.Second)
		_, _ = p.Authorizer("wx1").Token(t.Context())
		time.Sleep(3 * time.Second)
		assert.True(t, w.Honoured(token(t, p.Authorizer("wx1"))))
	})
}

func TestReauthorizationReplacesTheToken(t *testing.T) {
	for _, keep := range []bool{false, true} {
		bubble(t, fmt.Sprint("keep=", keep), func(t *testing.T) {
			w := newWorld(t, wxtest.WithThirdParty(wxtest.ThirdParty{KeepOnReauthorize: keep}))
			p, other := w.ready(), w.process()
			w.authorize("wx1")
			old := token(t, p.Authorizer("wx1"))
			aged()
			w.authorize("wx1")
			assert.NotEqual(t, old, token(t, p.Authorizer("wx1")))
			time.Sleep(time.Minute)
			assert.Equal(t, token(t, p.Authorizer("wx1")), token(t, other.Authorizer("wx1")))
			assert.True(t, w.Honoured(token(t, other.Authorizer("wx1"))))

			old = token(t, p.Authorizer("wx1"))
			time.Sleep(2 * time.Minute)
			appID, err := other.Authorize(t.Context(), w.IssueCode(compID, "wx1"))
			require.NoError(t, err)
			assert.Equal(t, "wx1", appID)
			assert.NotEqual(t, old, token(t, other.Authorizer("wx1")))
		})
	}
}

func TestAFailedSaveIsTriedAgainBeforeAnythingElse(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		w := newWorld(t, wxtest.WithThirdParty(wxtest.ThirdParty{RotateRefreshTokens: true}))
		rows := &table{}
		p := w.ready(openplatform.WithRefreshTokens(rows))
		w.authorize("wx1")
		require.Equal(t, 1, rows.count())
		rows.set(errTable)
		refresh := w.RefreshToken(compID, "wx1")
		_, err := p.Authorizer("wx1").Token(t.Context())
		require.ErrorContains(t, err, errTable.Error())
		assert.NotContains(t, err.Error(), w.RefreshToken(compID, "wx1"))
		assert.NotEqual(t, refresh, w.RefreshToken(compID, "wx1"))
		assert.Equal(t, 2, rows.count())

		_, err = p.Authorizer("wx1").Token(t.Context())
		require.ErrorContains(t, err, errTable.Error())
		assert.Equal(t, 3, rows.count())
		assert.Equal(t, 1, w.sent(wxtest.AuthorizerPath).Total(), "nothing else was done")
		for range 100 {
			_, err = p.Authorizer("wx1").Token(t.Context())
			require.Error(t, err)
			time.Sleep(100 * time.Millisecond)
		}
		assert.LessOrEqual(t, rows.count(), 15, "about once a second")
		assert.Equal(t, 1, w.sent(wxtest.AuthorizerPath).Total())

		rows.set(nil)
		time.Sleep(time.Second)
		assert.True(t, w.Honoured(token(t, p.Authorizer("wx1"))))
		assert.Empty(t, w.sent(wxtest.AuthorizerListPath))
	})
	bubble(t, "at once the first time", func(t *testing.T) {
		w := newWorld(t, wxtest.WithThirdParty(wxtest.ThirdParty{RotateRefreshTokens: true}))
		rows := &table{}
		p := w.ready(openplatform.WithRefreshTokens(rows))
		w.authorize("wx1")
		rows.set(errTable)
		_, err := p.Authorizer("wx1").Token(t.Context())
		require.True(t, err != nil && !errors.Is(err, openplatform.ErrNotAuthorized))
		rows.set(nil)
		assert.True(t, w.Honoured(token(t, p.Authorizer("wx1"))))
	})
	bubble(t, "by Authorize", func(t *testing.T) {
		w := newWorld(t)
		rows := &table{fail: errTable}
		p := w.ready(openplatform.WithRefreshTokens(rows))
		code := w.IssueCode(compID, "wx1")
		_, err := p.Authorize(t.Context(), code)
		require.ErrorContains(t, err, errTable.Error())
		_, err = p.Authorize(t.Context(), code)
		require.ErrorContains(t, err, errTable.Error())
		rows.set(nil)
		appID, err := p.Authorize(t.Context(), code)
		require.NoError(t, err)
		assert.Equal(t, "wx1", appID)
		assert.Equal(t, wxtest.Tally{0: 1}, w.sent(wxtest.QueryAuthPath))
		assert.Equal(t, w.RefreshToken(compID, "wx1"), rows.rows["wx1"])
	})
	bubble(t, "after a new authorization, over what the store has", func(t *testing.T) {
		w := newWorld(t)
		rows := &table{rows: map[string]string{"wx1": "an-old-one"}, fail: errTable}
		p := w.ready(openplatform.WithRefreshTokens(rows))
		w.authorize("wx1")
		rows.set(nil)
		assert.True(t, w.Honoured(token(t, p.Authorizer("wx1"))))
		assert.Equal(t, wxtest.Tally{0: 1}, w.sent(wxtest.AuthorizerPath))
	})
}
