package openplatform_test

import (
	"context"
	"net/http"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/wxtoken/wxtoken"
	"github.com/wxtoken/wxtoken/openplatform"
	"github.com/wxtoken/wxtoken/wxtest"
)

func TestAuthorize(t *testing.T) {
	bubble(t, "a code can be used once", func(t *testing.T) {
		w := newWorld(t)
		p := w.ready()
		code := w.IssueCode(compID, "wx1")
		appID, err := p.Authorize(t.Context(), code)
		require.NoError(t, err)
		assert.Equal(t, "wx1", appID)
		assert.True(t, w.Honoured(token(t, p.Authorizer("wx1"))))

		for _, process := range []string{"this", "another"} {
			_, err = p.Authorize(t.Context(), code)
			assert.ErrorContains(t, err, "used already, for wx1", process)
			assert.NotContains(t, err.Error(), code)
			p = w.process()
		}
		assert.Equal(t, wxtest.Tally{0: 1}, w.sent(wxtest.QueryAuthPath))
	})
	bubble(t, "a code that was pushed is not asked for again", func(t *testing.T) {
		w := newWorld(t)
		p := w.ready()
		code, err := w.PushAuthorized(compID, "wx1", hook)
		require.NoError(t, err)
		appID, err := w.process().Authorize(t.Context(), code)
		require.NoError(t, err)
		assert.Equal(t, "wx1", appID)
		_, err = p.Authorize(t.Context(), code)
		assert.ErrorContains(t, err, "used already")
		assert.Equal(t, wxtest.Tally{0: 1}, w.sent(wxtest.QueryAuthPath))
	})
	bubble(t, "nor one that is pushed later", func(t *testing.T) {
		w := newWorld(t)
		p := w.ready()
		code := w.IssueCode(compID, "wx1")
		_, err := w.process().Authorize(t.Context(), code)
		require.NoError(t, err)
		before := token(t, p.Authorizer("wx1"))
		aged()
		require.NoError(t, w.Push(compID, hook, map[string]string{"InfoType": "authorized", "AuthorizerAppid": "wx1", "AuthorizationCode": code}))
		assert.Equal(t, before, token(t, p.Authorizer("wx1")))
		time.Sleep(3 * time.Hour) // the outcome of the code is forgotten
		assert.True(t, w.Honoured(token(t, p.Authorizer("wx1"))))
		assert.Equal(t, wxtest.Tally{0: 1}, w.sent(wxtest.QueryAuthPath))
	})
	bubble(t, "many at once, in two processes", func(t *testing.T) {
		w := newWorld(t)
		p, other := w.ready(), w.process()
		w.Inject(wxtest.Latency(time.Second))
		code := w.IssueCode(compID, "wx1")
		var mu sync.Mutex
		good := 0
		var all sync.WaitGroup
		for i := range 10 {
			all.Go(func() {
				from := p
				if i%2 == 1 {
					from = other
				}
				if appID, err := from.Authorize(t.Context(), code); err == nil {
					mu.Lock()
					defer mu.Unlock()
					good++
					assert.Equal(t, "wx1", appID)
				}
			})
		}
		all.Wait()
		assert.Equal(t, 1, good)
		assert.Equal(t, wxtest.Tally{0: 1}, w.sent(wxtest.QueryAuthPath))
	})
	bubble(t, "what the platform denies", func(t *testing.T) {
		w := newWorld(t)
		p := w.ready()
		_, err := p.Authorize(t.Context(), "made-up-code")
		assert.ErrorContains(t, err, "invalid, or was used already")
		code := w.IssueCode(compID, "wx1")
		time.Sleep(11 * time.Minute)
		_, err = p.Authorize(t.Context(), code)
		requireDenial(t, 61010, err)
		assert.ErrorContains(t, err, "has expired")
	})
	bubble(t, "a caller whose ctx ends does not waste the code", func(t *testing.T) {
		w := newWorld(t)
		p := w.ready()
		token(t, p.Source())
		w.Inject(wxtest.Latency(time.Second).On(wxtest.QueryAuthPath))
		code := w.IssueCode(compID, "wx1")
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		_, err := p.Authorize(ctx, code)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		time.Sleep(3 * time.Second)
		assert.True(t, w.Honoured(token(t, p.Authorizer("wx1"))))
	})
	bubble(t, "no component token: the code is kept and used later", func(t *testing.T) {
		w := newWorld(t)
		p := w.process()
		w.to(p)
		w.authorize("wx1") // without a ticket
		_, err := p.Authorizer("wx1").Token(t.Context())
		require.ErrorContains(t, err, "no component_verify_ticket")
		require.NoError(t, w.PushTicket(compID, hook))
		assert.True(t, w.Honoured(token(t, w.process().Authorizer("wx1"))))
		assert.Equal(t, wxtest.Tally{0: 1}, w.sent(wxtest.QueryAuthPath))
	})
}

// The reply to api_query_auth is lost: the code is used up, and only the platform
// knows the refresh token.
func TestALostReplyToACode(t *testing.T) {
	bubble(t, "pushed", func(t *testing.T) {
		w := newWorld(t)
		p := w.ready()
		w.Inject(wxtest.LostReply().On(wxtest.QueryAuthPath).Times(1))
		w.authorize("wx1")
		assert.True(t, w.Honoured(token(t, p.Authorizer("wx1"))))
		assert.Equal(t, 1, w.sent(wxtest.AuthorizerListPath).Total())
		assert.Equal(t, wxtest.Tally{0: 1, 61009: 1}, w.sent(wxtest.QueryAuthPath))
	})
	bubble(t, "brought by the owner", func(t *testing.T) {
		w := newWorld(t)
		p := w.ready()
		w.Inject(wxtest.LostReply().On(wxtest.QueryAuthPath).Times(1))
		code := w.IssueCode(compID, "wx1")
		_, err := p.Authorize(t.Context(), code)
		require.ErrorContains(t, err, "no answer")
		_, err = p.Authorize(t.Context(), code)
		require.ErrorContains(t, err, "used already")
		assert.True(t, w.Honoured(token(t, p.Authorizer("wx1"))), "the authorization is still valid")
	})
}

// A process dies after it claimed a code: the others wait until the claim expires.
func TestACodeOutlivesTheProcessThatClaimedIt(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		w := newWorld(t)
		p := w.ready()
		token(t, p.Source())
		dying := w.process(openplatform.WithFetcherOptions(wxtoken.WithHTTPClient(&http.Client{Transport: exitingTransport{}})))
		w.to(dying)
		w.authorize("wx1")
		start := time.Now()
		for {
			tok, err := p.Authorizer("wx1").Token(t.Context())
			if err == nil {
				assert.True(t, w.Honoured(tok.Value))
				break
			}
			time.Sleep(100 * time.Millisecond)
		}
		assert.Less(t, time.Since(start), 40*time.Second)
		assert.Equal(t, wxtest.Tally{0: 1}, w.sent(wxtest.QueryAuthPath))
	})
}

// An exitingTransport ends the goroutine that sends a request, so that nothing runs after it.
type exitingTransport struct{}

func (exitingTransport) RoundTrip(*http.Request) (*http.Response, error) {
	runtime.Goexit()
	return nil, nil
}
