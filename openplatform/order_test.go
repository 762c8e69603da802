package openplatform_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/wxtoken/wxtoken/openplatform"
	"github.com/wxtoken/wxtoken/wxtest"
)

// outageAtMost is how long a push in the wrong order may leave an account without a
// token.
const outageAtMost = 3 * time.Minute

// The push that an authorization has ended arrives when the owner has authorized
// again and the application has exchanged the code. The push about that is lost.
func TestALateUnauthorizedPush(t *testing.T) {
	for _, late := range few([]time.Duration{0, 3 * time.Second, 45 * time.Second, 7 * time.Minute, 59 * time.Minute}) {
		for _, b := range []wxtest.ThirdParty{{}, {RotateRefreshTokens: true}} {
			for _, own := range []bool{false, true} {
				bubble(t, fmt.Sprintf("%s %+v own=%v", late, b, own), func(t *testing.T) {
					w := newWorld(t, wxtest.WithThirdParty(b))
					var opts []openplatform.Option
					if own {
						opts = append(opts, openplatform.WithRefreshTokens(&table{}))
					}
					p, other := w.ready(opts...), w.process(opts...)
					w.authorize("wx1")
					token(t, p.Authorizer("wx1"))
					time.Sleep(80 * time.Minute)
					ended := w.delivery(p, map[string]string{"InfoType": "unauthorized", "AuthorizerAppid": "wx1"})
					w.EndAuthorization(compID, "wx1")
					time.Sleep(late / 2)
					_, err := other.Authorize(t.Context(), w.IssueCode(compID, "wx1"))
					require.NoError(t, err)
					token(t, other.Authorizer("wx1"))
					time.Sleep(late - late/2)
					ended()
					assert.LessOrEqual(t, w.outage(28*time.Hour, p.Authorizer("wx1"), other.Authorizer("wx1")), outageAtMost)
					assert.LessOrEqual(t, w.sent(wxtest.AuthorizerPath).Total(), 2+15+2)

					// One that is true counts, even if it cannot be ordered.
					require.NoError(t, w.PushUnauthorized(compID, "wx1", hook))
					_, err = p.Authorizer("wx1").Token(t.Context())
					assert.ErrorIs(t, err, openplatform.ErrNotAuthorized)
					before := w.sent(wxtest.AuthorizerPath)[61003]
					assert.LessOrEqual(t, before, 1)
					for range 20 * 60 {
						time.Sleep(time.Minute)
						_, err := p.Authorizer("wx1").Token(t.Context())
						require.ErrorIs(t, err, openplatform.ErrNotAuthorized)
					}
					assert.Equal(t, 1, w.sent(wxtest.AuthorizerPath)[61003], "it is not asked again for a day")
				})
			}
		}
	}
}

// A push that certainly is the newest is believed for as long as a token lasts, even if
// the code was exchanged before it was pushed.
func TestTheNewestUnauthorizedPush(t *testing.T) {
	for _, lost := range []bool{false, true} {
		bubble(t, fmt.Sprint("lost=", lost), func(t *testing.T) {
			w := newWorld(t)
			cache := &forgetful{cache: w.cache}
			w.cache = cache
			p := w.ready()
			code := w.IssueCode(compID, "wx1")
			_, err := p.Authorize(t.Context(), code)
			require.NoError(t, err)
			require.NoError(t, w.Push(compID, hook, map[string]string{"InfoType": "authorized", "AuthorizerAppid": "wx1", "AuthorizationCode": code}))
			token(t, p.Authorizer("wx1"))
			require.NoError(t, w.PushUnauthorized(compID, "wx1", hook))
			for minute := range 5 * 60 {
				time.Sleep(time.Minute)
				_, err = p.Authorizer("wx1").Token(t.Context())
				require.ErrorIs(t, err, openplatform.ErrNotAuthorized)
				if minute == 10 {
					assert.Equal(t, wxtest.Tally{0: 1}, w.sent(wxtest.AuthorizerPath), "that push is the newest")
					if lost {
						cache.forget() // a lost record is no authorization
						require.NoError(t, w.PushTicket(compID, hook))
					}
				}
			}
			assert.LessOrEqual(t, w.sent(wxtest.AuthorizerPath).Total(), 2, "the platform was asked once after that")
		})
	}
}

// The cache loses when the owner authorized, or has the time before that again.
func TestAnUnauthorizedPushAndALostRecord(t *testing.T) {
	for _, kept := range []string{"nothing", "the end", "the first authorization"} {
		bubble(t, kept, func(t *testing.T) {
			w := newWorld(t)
			store := &forgetful{cache: w.cache}
			w.cache = store
			p, other := w.ready(), w.process()
			name := "wxtoken:authorization:" + compID + ":wx1"
			w.authorize("wx1")
			token(t, p.Authorizer("wx1"))
			raw, err := w.cache.Get(t.Context(), name)
			require.NoError(t, err)
			time.Sleep(time.Hour)
			fields := map[string]string{"InfoType": "unauthorized", "AuthorizerAppid": "wx1"}
			ended := w.delivery(p, fields)
			w.EndAuthorization(compID, "wx1")
			if kept == "the end" {
				w.delivery(other, fields)()
				raw, err = w.cache.Get(t.Context(), name)
				require.NoError(t, err)
			}
			time.Sleep(2 * time.Minute)
			w.authorize("wx1")
			assert.LessOrEqual(t, w.outage(5*time.Minute, other.Authorizer("wx1")), outageAtMost)
			token(t, p.Authorizer("wx1"))

			store.forget()
			if kept != "nothing" {
				stored, err := store.CompareAndSwap(t.Context(), name, nil, raw, time.Hour)
				require.True(t, stored && err == nil)
			}
			require.NoError(t, w.PushTicket(compID, hook))
			switch kept {
			case "nothing":
				ended() // late
			case "the first authorization":
				ended() // as if it were the newest: this process is closed, until it asks
				assert.LessOrEqual(t, w.outage(26*time.Hour, p.Authorizer("wx1")), 2*time.Hour)
			}
			assert.LessOrEqual(t, w.outage(3*time.Hour, p.Authorizer("wx1")), outageAtMost)
			assert.LessOrEqual(t, w.outage(26*time.Hour, other.Authorizer("wx1"), w.process().Authorizer("wx1")), outageAtMost)
		})
	}
}

// permutations calls f with every order of every subset of 0 … n-1.
func permutations(n int, f func(order []int)) {
	var extend func(order []int, used int)
	extend = func(order []int, used int) {
		f(order)
		for i := range n {
			if used&(1<<i) == 0 {
				extend(append(order[:len(order):len(order)], i), used|1<<i)
			}
		}
	}
	extend(nil, 0)
}

// An account's owner authorizes (a) and ends (e) the authorization, and each push
// about that arrives late, in any order, or is lost. While the application exchanges
// the codes itself, or the last push arrives, there is a token.
func TestPushesArriveInAnyOrder(t *testing.T) {
	for _, actions := range few([]string{"ea", "a", "aea", "eaa", "eae", "ee"}) {
		for _, exchanged := range []bool{false, true} {
			t.Run(fmt.Sprint(actions, " exchanged=", exchanged), func(t *testing.T) {
				permutations(len(actions), func(order []int) {
					bubble(t, fmt.Sprint(order), func(t *testing.T) { inOrder(t, actions, exchanged, order) })
				})
			})
		}
	}
}

func inOrder(t *testing.T, actions string, exchanged bool, order []int) {
	w := newWorld(t)
	p, other := w.ready(), w.process()
	w.authorize("wx1")
	token(t, p.Authorizer("wx1"))
	token(t, other.Authorizer("wx1"))
	var pushes []func()
	for i, action := range actions {
		time.Sleep(75 * time.Second)
		to := []*openplatform.Platform{p, other}[i%2]
		if action == 'e' {
			w.EndAuthorization(compID, "wx1")
			pushes = append(pushes, w.delivery(to, map[string]string{"InfoType": "unauthorized", "AuthorizerAppid": "wx1"}))
			continue
		}
		code := w.IssueCode(compID, "wx1")
		pushes = append(pushes, w.delivery(to, map[string]string{"InfoType": "updateauthorized", "AuthorizerAppid": "wx1", "AuthorizationCode": code}))
		if exchanged {
			_, err := p.Authorize(t.Context(), code)
			require.NoError(t, err)
		}
	}
	last := len(actions) - 1
	arrives := false
	for _, i := range order {
		pushes[i]()
		arrives = arrives || i == last
		if exchanged && actions[last] == 'a' {
			assert.LessOrEqual(t, w.outage(5*time.Minute, p.Authorizer("wx1"), other.Authorizer("wx1")), outageAtMost)
		}
	}
	if actions[last] == 'a' && (exchanged || arrives) {
		assert.LessOrEqual(t, w.outage(3*time.Hour, p.Authorizer("wx1"), other.Authorizer("wx1")), outageAtMost)
		return
	}
	if arrives {
		time.Sleep(time.Minute)
		_, err := []*openplatform.Platform{p, other}[last%2].Authorizer("wx1").Token(t.Context())
		assert.ErrorIs(t, err, openplatform.ErrNotAuthorized)
	}
	// Once the pushes are over, a new authorization counts.
	w.authorize("wx1")
	assert.LessOrEqual(t, w.outage(2*time.Hour, p.Authorizer("wx1"), other.Authorizer("wx1")), outageAtMost)
}

// A member whose clock is off does all that a member does, and takes nothing from the
// others.
func TestAMemberWhoseClockIsOff(t *testing.T) {
	for _, off := range few([]time.Duration{50 * time.Minute, 4 * time.Hour, 20000 * time.Hour, -20 * time.Minute, -30 * time.Hour, -20000 * time.Hour}) {
		for _, b := range []wxtest.ThirdParty{{LatestTicketOnly: true}, {LatestTicketOnly: true, RotateRefreshTokens: true}} {
			bubble(t, fmt.Sprintf("%s %+v", off, b), func(t *testing.T) {
				w := newWorld(t, wxtest.WithThirdParty(b))
				p, off := w.ready(), w.off(off)
				w.authorize("wx1")
				token(t, p.Authorizer("wx1"))
				for hour := range 24 {
					switch hour % 3 {
					case 0:
						require.NoError(t, off.SetTicket(t.Context(), w.IssueTicket(compID)))
					case 1:
						_, err := off.Authorize(t.Context(), w.IssueCode(compID, "wx1"))
						require.NoError(t, err)
					}
					token(t, off.Authorizer("wx1"))
					assert.LessOrEqual(t, w.outage(time.Hour, p.Authorizer("wx1")), outageAtMost)
				}
				assert.Empty(t, w.sent(wxtest.ComponentPath)[61006])
				assert.Empty(t, w.sent(wxtest.AuthorizerListPath))
				assert.Empty(t, w.sent(wxtest.AuthorizerPath)[61023])
			})
		}
	}
}

// The cache keeps an authorization for a year from the last write, so a time in it
// that another clock wrote must not prevent the next write for longer.
func TestAnAuthorizationSavedByAClockThatIsAhead(t *testing.T) {
	for _, years := range []time.Duration{0, 1, 30} {
		bubble(t, fmt.Sprint(int(years), " years"), func(t *testing.T) {
			w := newWorld(t)
			p := w.ready()
			off := w.off(years * 365 * 24 * time.Hour)
			_, err := off.Authorize(t.Context(), w.IssueCode(compID, "wx1"))
			require.NoError(t, err)
			for range 14 {
				token(t, p.Authorizer("wx1"))
				time.Sleep(29 * 24 * time.Hour)
				require.NoError(t, w.PushTicket(compID, hook))
			}
			assert.Empty(t, w.sent(wxtest.AuthorizerListPath), "the refresh token is not lost")
		})
	}
}
