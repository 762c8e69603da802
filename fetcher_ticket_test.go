package wxtoken

import (
	"context"
	"errors"
	"net/http"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/wxtoken/wxtoken/internal/fetchtest"
)

// A ticketFetcher with any other Source than a real one.
func ticketFetcher(src refresher, kind string, opts ...FetcherOption) *HTTPFetcher {
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

func TestFingerprint(t *testing.T) {
	f, same, other := NewFetcher("wx1", "a"), NewStableFetcher("wx2", "a"), NewFetcher("wx1", "b")
	assert.Regexp(t, "^[0-9a-f]{16}$", f.fingerprint("salt"))
	assert.Equal(t, f.fingerprint("salt"), same.fingerprint("salt"))
	assert.NotEqual(t, f.fingerprint("salt"), other.fingerprint("salt"))
	assert.NotEqual(t, f.fingerprint("salt"), f.fingerprint("pepper"))
	assert.Empty(t, NewFetcher("wx1", "").fingerprint("salt"))
	assert.Empty(t, ticketFetcher(&fakeTokens{}, "jsapi").fingerprint("salt"))
}

func TestWeComKeys(t *testing.T) {
	a, b := NewWeComFetcher("ww1", fetchtest.Secret), NewWeComFetcher("ww1", "secret of another app")
	assert.NotEqual(t, a.Key(), b.Key(), "two apps of a corporation share a key")
	assert.Equal(t, a.Key(), NewWeComFetcher("ww1", fetchtest.Secret).Key())
	assert.NotContains(t, a.Key(), "Marked")
}

func TestFetcherFunc(t *testing.T) {
	want := errors.New("no")
	f := FetcherFunc("mine", func(context.Context) (Token, error) { return Token{Value: "v"}, want })
	tok, err := f.Fetch(t.Context())
	assert.Equal(t, "v", tok.Value)
	assert.Equal(t, want, err)
	assert.Equal(t, "mine", f.Key())
	assert.PanicsWithValue(t, "wxtoken: FetcherFunc with a nil function", func() { FetcherFunc("mine", nil) })
}
