package wxtest_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/wxtoken/wxtoken/wxtest"
)

func newServer(t *testing.T, opts ...wxtest.Option) *wxtest.Server {
	srv := wxtest.NewServer(append(opts, wxtest.WithApp("wx1", "s3cret"))...)
	t.Cleanup(srv.Close)
	return srv
}

func TestServerEveryWayIn(t *testing.T) {
	srv := newServer(t)
	srv.Handle("/h", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, r.Host+" "+r.FormValue("x"))
	}))
	for url, client := range map[string]*http.Client{
		srv.URL + tokenURL("wx1", "s3cret"):                       http.DefaultClient,
		srv.URL + tokenURL("wx1", "s3cret") + "&":                 srv.Client(),
		"http://sh.api.weixin.qq.com" + tokenURL("wx1", "s3cret"): srv.Client(),
		fetchWx1:       srv.Client(),
		fetchWx1 + "&": srv.Platform.Client(),
	} {
		a, err := get(client, url)
		require.NoError(t, err)
		assert.Equal(t, srv.Latest("wx1"), a.AccessToken)
	}
	assert.Equal(t, wxtest.Tally{0: 5}, srv.Stats().Fetches())

	resp, err := srv.Client().PostForm(api+"/h?access_token="+srv.Latest("wx1"), url.Values{"x": {"y"}})
	require.NoError(t, err)
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	assert.Equal(t, "api.weixin.qq.com y", string(body))
	assert.Equal(t, "api.weixin.qq.com", resp.Request.URL.Host)
}

func TestServerLostReply(t *testing.T) {
	srv := newServer(t)
	client := srv.Client()
	srv.Inject(wxtest.LostReply().Times(1))
	_, err := get(client, fetchWx1)
	require.ErrorIs(t, err, io.EOF)
	assert.NotEmpty(t, srv.Latest("wx1"))

	// On a reused connection, net/http resends a GET by itself.
	_, err = get(client, fetchWx1)
	require.NoError(t, err)
	srv.Inject(wxtest.LostReply().Times(1))
	_, err = get(client, fetchWx1)
	require.NoError(t, err)
	assert.Equal(t, wxtest.Tally{0: 4}, srv.Stats().Fetches())
}

func TestServerAnswersFaults(t *testing.T) {
	srv := newServer(t)
	srv.Inject(wxtest.ServerError(502).Times(1))
	resp, _ := fetchPage(t, srv.Client(), fetchWx1)
	assert.Equal(t, 502, resp.StatusCode)

	srv.Inject(wxtest.Truncated().Times(1))
	_, err := get(srv.Client(), fetchWx1)
	require.ErrorIs(t, err, io.ErrUnexpectedEOF, "JSON cut short")

	srv.SetWhitelist("wx1", "127.0.0.1")
	a, err := get(srv.Client(), fetchWx1)
	require.NoError(t, err)
	assert.Zero(t, a.Errcode)
}

// held waits until a request is being delayed.
func held(t *testing.T, srv *wxtest.Server) {
	t.Helper()
	require.Eventually(t, func() bool { return srv.Stats().Faults["latency"] == 1 }, 10*time.Second, time.Millisecond)
}

// If the client disconnects, the latency ends and the request takes effect.
func TestServerLatencyEndsWithTheClient(t *testing.T) {
	srv := newServer(t)
	srv.Inject(wxtest.Latency(time.Hour))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, fetchWx1, nil)
	require.NoError(t, err)
	done := make(chan error, 1)
	go func() {
		_, err := srv.Client().Do(req)
		done <- err
	}()
	held(t, srv)
	cancel()
	require.ErrorIs(t, <-done, context.Canceled)
	require.Eventually(t, func() bool { return srv.Latest("wx1") != "" }, 10*time.Second, time.Millisecond)
}

func TestServerCloseWaitsForNothingDelayed(t *testing.T) {
	srv := newServer(t)
	srv.Inject(wxtest.LateRequest(time.Hour).Times(1))
	_, err := get(srv.Client(), fetchWx1)
	require.ErrorIs(t, err, io.EOF)

	srv.Inject(wxtest.Latency(time.Hour))
	done := make(chan error, 1)
	go func() {
		_, err := get(srv.Client(), fetchWx1)
		done <- err
	}()
	held(t, srv)
	srv.Close()
	<-done

	_, err = get(srv.Client(), fetchWx1)
	var refused *url.Error
	require.True(t, errors.As(err, &refused), "nothing listens: %v", err)
	assert.True(t, strings.HasPrefix(refused.URL, api), "the error names the host that was asked")
	assert.Equal(t, 1, srv.Stats().Fetches().Total(), "the late request was dropped")
}

// Everything at once, for the race detector.
func TestConcurrentUse(t *testing.T) {
	srv := newServer(t, wxtest.WithQuota(0, 0))
	p := srv.Platform
	for _, client := range []*http.Client{srv.Client(), p.Client()} {
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				for range 20 {
					a, err := get(client, fetchWx1)
					assert.NoError(t, err)
					a, err = get(client, api+"/cgi-bin/get_api_domain_ip?access_token="+a.AccessToken)
					assert.NoError(t, err)
					assert.Zero(t, a.Errcode)
				}
			})
			wg.Go(func() {
				for range 20 {
					lift := p.Inject(wxtest.Latency(time.Microsecond).Rate(0.5))
					p.Revoke("unknown")
					p.SetSecret("wx1", "s3cret")
					p.SetWhitelist("wx1")
					p.Deny("wx1", 0)
					p.Honoured(p.LatestStable("wx1"))
					p.Stats()
					lift()
				}
			})
		}
		wg.Wait()
	}
	assert.Equal(t, 320, p.Stats().Fetches().Total())
	assert.Equal(t, 320, p.Stats().Calls()[0])
}
