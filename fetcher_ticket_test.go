package wxtoken

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/wxtoken/wxtoken/internal/fetchtest"
	"github.com/wxtoken/wxtoken/wxtest"
)

// A ticketFetcher with any other Source than a real one.
func ticketFetcher(src invalidator, kind string, opts ...FetcherOption) *HTTPFetcher {
	f := NewTicketFetcher(New(NewFetcher("wx1", fetchtest.Secret), nil), kind, opts...)
	f.tokens = src
	return f
}

// fakeTokens hands out values in order, one more after each Invalidate.
type fakeTokens struct {
	values   []string
	rejected []string
	err      error // of Token, once the values are spent
	broken   error // of Invalidate
}

func (s *fakeTokens) Token(context.Context) (Token, error) {
	if len(s.rejected) >= len(s.values) {
		return Token{}, s.err
	}
	return Token{Value: s.values[len(s.rejected)]}, nil
}

func (s *fakeTokens) Invalidate(_ context.Context, rejected string) error {
	s.rejected = append(s.rejected, rejected)
	return s.broken
}

func TestTicketReplacesRefusedToken(t *testing.T) {
	const refusal = `{"errcode":40001,"errmsg":"not latest: MarkedToken_0123456789-abcdefghijklmnopqrstuvwxyz"}`
	down := errors.New("cache down")
	for name, test := range map[string]struct {
		src      *fakeTokens
		good     string // the access token that is honoured
		refusal  string
		rejected []string
		asked    int
		want     string
	}{
		"good at once":       {&fakeTokens{values: []string{"a"}}, "a", refusal, nil, 1, "issued"},
		"refused once":       {&fakeTokens{values: []string{fetchtest.Token, "b"}}, "b", refusal, []string{fetchtest.Token}, 2, "issued"},
		"refused twice":      {&fakeTokens{values: []string{fetchtest.Token, "b", "c"}}, "c", refusal, []string{fetchtest.Token}, 2, "not sent"},
		"refused otherwise":  {&fakeTokens{values: []string{fetchtest.Token, "b"}}, "b", `{"errcode":45009}`, nil, 1, "refused"},
		"no token":           {&fakeTokens{err: down}, "", refusal, nil, 0, "not sent"},
		"no other token":     {&fakeTokens{values: []string{fetchtest.Token}, err: down}, "", refusal, []string{fetchtest.Token}, 1, "not sent"},
		"invalidation fails": {&fakeTokens{values: []string{fetchtest.Token, "b"}, broken: down}, "b", refusal, []string{fetchtest.Token}, 2, "issued"},
	} {
		t.Run(name, func(t *testing.T) {
			var asked []string
			base, _ := fetchtest.Serve(t, func(w http.ResponseWriter, r *http.Request) {
				asked = append(asked, r.FormValue("access_token"))
				if r.FormValue("access_token") != test.good {
					fetchtest.Answer(200, test.refusal)(w, r)
					return
				}
				fetchtest.Answer(200, `{"errcode":0,"errmsg":"ok","ticket":"ticket-1","expires_in":7200}`)(w, r)
			})
			tok, err := ticketFetcher(test.src, "wx_card", WithBaseURL(base)).Fetch(t.Context())
			assert.Equal(t, test.want, outcome(err), err)
			assert.Len(t, asked, test.asked)
			assert.Equal(t, test.rejected, test.src.rejected)
			fetchtest.NoLeak(t, err)
			if err == nil {
				assert.Equal(t, "ticket-1", tok.Value)
			}
			if test.src.err != nil {
				assert.ErrorIs(t, err, down)
			}
		})
	}
}

func TestTicketNeedsSource(t *testing.T) {
	assert.PanicsWithValue(t, "wxtoken: NewTicketFetcher: nil Source; pass the one that keeps the app's access token",
		func() { NewTicketFetcher(nil, "jsapi") })
}

// Over a Source each, on one cache, a ticket survives its access token.
func TestTicketsOnSources(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := wxtest.NewPlatform(wxtest.WithApp("wx1", fetchtest.Secret))
		cache, client := NewMemoryCache(), WithHTTPClient(p.Client())
		access := New(NewFetcher("wx1", fetchtest.Secret, client), cache)

		first, err := access.Token(t.Context())
		require.NoError(t, err)
		time.Sleep(time.Minute)
		p.Revoke(first.Value)
		for _, kind := range []string{"jsapi", "wx_card", "2"} {
			ticket, err := New(NewTicketFetcher(access, kind, client), cache).Token(t.Context())
			require.NoError(t, err)
			assert.Equal(t, p.LatestTicket("wx1", kind), ticket.Value)
			assert.True(t, p.TicketHonoured(ticket.Value))
		}
		second, err := access.Token(t.Context())
		require.NoError(t, err)
		assert.NotEqual(t, first.Value, second.Value)
		assert.Equal(t, p.Latest("wx1"), second.Value)
	})
}

func TestWeComTicketsOnSources(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := wxtest.NewPlatform()
		cache, client := NewMemoryCache(), WithHTTPClient(p.Client())
		tickets := map[string]string{}
		for _, secret := range []string{fetchtest.Secret, "of-another-agent"} {
			p.AddCorp("ww1", secret)
			access := New(NewWeComFetcher("ww1", secret, client), cache)
			first, err := access.Token(t.Context())
			require.NoError(t, err)
			assert.Equal(t, p.LatestCorp("ww1", secret), first.Value)
			time.Sleep(time.Minute)
			p.Revoke(first.Value)
			for _, kind := range []string{"jsapi", "agent_config"} {
				ticket, err := New(NewTicketFetcher(access, kind, client), cache).Token(t.Context())
				require.NoError(t, err)
				assert.Equal(t, p.LatestCorpTicket("ww1", secret, kind), ticket.Value)
				assert.True(t, p.TicketHonoured(ticket.Value))
				tickets[secret+kind] = ticket.Value
			}
		}
		assert.Equal(t, tickets[fetchtest.Secret+"jsapi"], tickets["of-another-agentjsapi"], "is the corporation's")
		assert.NotEqual(t, tickets[fetchtest.Secret+"agent_config"], tickets["of-another-agentagent_config"], "is the agent's")

		_, err := New(NewWeComFetcher("ww1", fetchtest.Secret+"x", client), cache).Token(t.Context())
		assert.Equal(t, "refused", outcome(err), err)
		fetchtest.NoLeak(t, err)
	})
}

// The platform repeats a ticket with its whole life before it, each time it is
// asked. None may be held past the end that was told first.
func TestTicketIsNotHeldTooLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := wxtest.NewPlatform(wxtest.WithApp("wx1", fetchtest.Secret))
		client := WithHTTPClient(p.Client())
		src := New(NewTicketFetcher(New(NewFetcher("wx1", fetchtest.Secret, client), nil), "jsapi", client), nil)
		born := map[string]time.Time{}
		for range 24 * 60 {
			ticket, err := src.Token(t.Context())
			require.NoError(t, err)
			if _, known := born[ticket.Value]; !known {
				born[ticket.Value] = time.Now()
			}
			require.LessOrEqual(t, time.Since(born[ticket.Value]), 2*time.Hour)
			time.Sleep(time.Minute)
		}
		assert.Len(t, born, 12)
	})
}

// The platform says of each ticket that its whole life is left. Anyone who gets one
// that is not new, or one in the moment before it expires, must not hold it long.
func TestTicketsOfUnknownAge(t *testing.T) {
	for name, test := range map[string]struct {
		opts   []wxtest.Option
		setup  func(p *wxtest.Platform, fetch func())
		step   time.Duration
		others int           // requests of another system, every 7 minutes
		stale  time.Duration // in two days, at most
	}{
		"new":              {step: 20 * time.Second},
		"an hour old":      {setup: func(_ *wxtest.Platform, fetch func()) { fetch(); time.Sleep(time.Hour) }, step: 20 * time.Second, stale: 6 * time.Minute},
		"another system's": {step: 20 * time.Second, others: 1, stale: 24 * 6 * time.Minute},
		"lives longer":     {opts: []wxtest.Option{wxtest.WithTickets(4*time.Hour, 0)}, step: 20 * time.Second, stale: 12 * time.Minute},
		"renewed early":    {opts: []wxtest.Option{wxtest.WithTickets(2*time.Hour, 5*time.Minute)}, step: 20 * time.Second},
		"repeated in the moment before it expires": {setup: func(p *wxtest.Platform, _ func()) {
			p.Inject(wxtest.Latency(2 * time.Second).On(wxtest.TicketPath).Times(1))
		}, step: time.Second, stale: 2 * time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := wxtest.NewPlatform(append(test.opts, wxtest.WithApp("wx1", fetchtest.Secret))...)
				client, cache := WithHTTPClient(p.Client()), NewMemoryCache()
				access := New(NewStableFetcher("wx1", fetchtest.Secret, client), cache)
				other := NewTicketFetcher(access, "jsapi", client)
				fetch := func() { _, _ = other.Fetch(t.Context()) }
				if test.setup != nil {
					test.setup(p, fetch)
				}
				sources := [3]*Source{}
				for i := range sources {
					sources[i] = New(NewTicketFetcher(access, "jsapi", client), cache)
				}
				before, start, asked := p.Stats().Results[wxtest.TicketPath].Total(), time.Now(), time.Now()
				stale, others := time.Duration(0), 0
				for i := 0; time.Since(start) < 48*time.Hour; i++ {
					if test.others > 0 && time.Since(asked) >= 7*time.Minute {
						fetch()
						asked, others = time.Now(), others+1
					}
					ticket, err := sources[i%3].Token(t.Context())
					require.NoError(t, err)
					if !p.TicketHonoured(ticket.Value) {
						stale += test.step
					}
					time.Sleep(test.step)
				}
				assert.LessOrEqual(t, stale, test.stale, "signed with an expired ticket")
				fetches := p.Stats().Results[wxtest.TicketPath].Total() - before - others
				assert.LessOrEqual(t, fetches, 48*60, "more than 60 an hour, of WeCom's 100")
				if name != "lives longer" {
					assert.LessOrEqual(t, fetches, 48*12+24)
				}
			})
		})
	}
}
