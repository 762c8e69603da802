package sdktest

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/wxtoken/wxtoken"
	"github.com/wxtoken/wxtoken/wxtest"
)

const appID, secret = "wx0123456789abcdef", "the-secret"

// A world is one platform, one Source, and the HTTP client that an application
// would put under its SDKs.
type world struct {
	*wxtest.Platform
	src    *wxtoken.Source
	client *http.Client
}

// inWorld runs test in virtual time, with a platform that honours few old tokens.
// Requests through http.DefaultClient reach it too, but get no token.
func inWorld(t *testing.T, test func(t *testing.T, w world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		p := wxtest.NewPlatform(wxtest.WithApp(appID, secret), wxtest.WithStrictGrace())
		network := network{p.Transport()}
		src := wxtoken.New(wxtoken.NewFetcher(appID, secret, wxtoken.WithHTTPClient(&http.Client{Transport: network})), nil)
		setDefaultTransport(t, network)
		test(t, world{p, src, &http.Client{
			Transport: &wxtoken.Transport{Source: src, Base: network},
			Timeout:   30 * time.Second,
		}})
	})
}

// A network sends whole request bodies, as net/http does, whether or not the platform
// reads them.
type network struct{ http.RoundTripper }

func (n network) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.Body != nil {
		body, err := io.ReadAll(req.Body)
		_ = req.Body.Close()
		if err == nil && int64(len(body)) != req.ContentLength {
			err = errors.New("body is not as long as ContentLength says")
		}
		if err != nil {
			return nil, err
		}
		req = req.Clone(req.Context())
		req.Body = io.NopCloser(bytes.NewReader(body))
	}
	return n.RoundTripper.RoundTrip(req)
}

func setDefaultTransport(t *testing.T, rt http.RoundTripper) {
	t.Helper()
	before := http.DefaultClient.Transport
	t.Cleanup(func() { http.DefaultClient.Transport = before })
	http.DefaultClient.Transport = rt
}

// revoke revokes the token: the next call with it gets 40001.
func (w world) revoke(t *testing.T) {
	t.Helper()
	assert.True(t, w.Honoured(w.Latest(appID)), "the previous token is still revoked")
	w.Revoke(w.Latest(appID))
}

// age lets enough time pass for a rejection to be believed: a Source doubts that a
// new token is bad, the more so if the tokens before it were rejected.
func age() { time.Sleep(10 * time.Minute) }

// saw checks how many tokens were fetched and how many business calls rejected.
func (w world) saw(t *testing.T, fetches, rejected int) {
	t.Helper()
	stats := w.Stats()
	assert.Equal(t, fetches, stats.Fetches().Total(), "fetches")
	calls := stats.Calls()
	assert.Equal(t, rejected, calls.Total()-calls[0], "rejected business calls")
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }
