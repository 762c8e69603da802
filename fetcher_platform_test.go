package wxtoken

import (
	"net/url"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/wxtoken/wxtoken/internal/fetchtest"
	"github.com/wxtoken/wxtoken/wxtest"
)

// What a fetch makes of the platform's faults: a request of cgi-bin/token that
// may have been answered is not repeated, one of stable_token is.
func TestFetchThroughFaults(t *testing.T) {
	for name, test := range map[string]struct {
		fault         wxtest.Fault
		plain, stable string
		issued        bool // by cgi-bin/token, sooner or later
	}{
		"none":           {wxtest.Latency(time.Second), "issued", "issued", true},
		"busy twice":     {wxtest.Busy().Times(2), "issued", "issued", true},
		"busy":           {wxtest.Busy(), "refused", "refused", false},
		"lost reply":     {wxtest.LostReply().Times(1), "unknown", "issued", true},
		"server error":   {wxtest.ServerError(503).Times(2), "unknown", "issued", false},
		"after issue":    {wxtest.ServerError(502).Applied().Times(1), "unknown", "issued", true},
		"truncated":      {wxtest.Truncated().Times(1), "unknown", "issued", true},
		"captive portal": {wxtest.CaptivePortal(), "unknown", "unknown", false},
		"empty body":     {wxtest.EmptyBody().Times(2), "unknown", "issued", false},
		"late":           {wxtest.LateRequest(time.Minute), "unknown", "unknown", true},
		"hangs":          {wxtest.Latency(time.Minute), "unknown", "unknown", true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := wxtest.NewPlatform(wxtest.WithApp("wx1", fetchtest.Secret))
				client := WithHTTPClient(p.Client())
				for f, want := range map[Fetcher]string{
					NewFetcher("wx1", fetchtest.Secret, client):       test.plain,
					NewStableFetcher("wx1", fetchtest.Secret, client): test.stable,
				} {
					lift := p.Inject(test.fault)
					start := time.Now()
					tok, err := f.Fetch(t.Context())
					assert.Equal(t, want, outcome(err), "%s: %v", f.Key(), err)
					assert.LessOrEqual(t, time.Since(start), 10*time.Second)
					assert.Equal(t, err == nil, p.Honoured(tok.Value))
					fetchtest.NoLeak(t, err)
					lift()
				}
				time.Sleep(5 * time.Minute) // late requests land
				assert.Equal(t, test.issued, p.Latest("wx1") != "")
			})
		})
	}
}

// Over a Source each, on one cache, a ticket survives its access token.
func TestTicketAndWeComOnSources(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := wxtest.NewPlatform(wxtest.WithApp("wx1", fetchtest.Secret))
		p.AddCorp("ww1", fetchtest.Secret)
		cache, client := NewMemoryCache(), WithHTTPClient(p.Client())
		access := New(NewFetcher("wx1", fetchtest.Secret, client), cache)
		jsapi := New(NewTicketFetcher(access, "jsapi", client), cache)
		card := New(NewTicketFetcher(access, "wx_card", client), cache)
		wecom := New(NewWeComFetcher("ww1", fetchtest.Secret, client), cache)

		first, err := access.Token(t.Context())
		require.NoError(t, err)
		time.Sleep(time.Minute)
		p.Revoke(first.Value)
		for kind, src := range map[string]*Source{"jsapi": jsapi, "wx_card": card} {
			ticket, err := src.Token(t.Context())
			require.NoError(t, err)
			assert.Equal(t, p.LatestTicket("wx1", kind), ticket.Value)
		}
		second, err := access.Token(t.Context())
		require.NoError(t, err)
		assert.NotEqual(t, first.Value, second.Value)
		assert.Equal(t, p.Latest("wx1"), second.Value)

		corp, err := wecom.Token(t.Context())
		require.NoError(t, err)
		assert.Equal(t, p.LatestCorp("ww1", fetchtest.Secret), corp.Value)
		_, err = New(NewWeComFetcher("ww1", url.QueryEscape(fetchtest.Secret)+"x", client), cache).Token(t.Context())
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
