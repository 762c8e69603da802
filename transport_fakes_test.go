package wxtoken_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/wxtoken/wxtoken"
)

const (
	refusal = `{"errcode":40001,"errmsg":"invalid credential, access_token is invalid or not latest rid: 1-2-3"}`
	apiURL  = "https://api.weixin.qq.com/cgi-bin/get_api_domain_ip"
)

// rotatingSource hands out token-1, and the next one after each Invalidate of
// the current one.
type rotatingSource struct {
	mu            sync.Mutex
	rotations     int
	asked         int
	rejected      []string
	failFrom      int // the call of Token from which on it fails; 0: none
	invalidateErr error
}

func (s *rotatingSource) current() string { return "token-" + strconv.Itoa(s.rotations+1) }

func (s *rotatingSource) Token(context.Context) (wxtoken.Token, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.asked++; s.failFrom > 0 && s.asked >= s.failFrom {
		return wxtoken.Token{}, errors.New("the platform is away")
	}
	return wxtoken.Token{Value: s.current()}, nil
}

func (s *rotatingSource) Invalidate(_ context.Context, rejected string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rejected = append(s.rejected, rejected)
	if s.invalidateErr != nil {
		return s.invalidateErr
	}
	if rejected == s.current() {
		s.rotations++
	}
	return nil
}

// tokenFunc is a TokenSource without Invalidate.
type tokenFunc func(context.Context) (wxtoken.Token, error)

func (f tokenFunc) Token(ctx context.Context) (wxtoken.Token, error) { return f(ctx) }

// A platform is a Base that records what it was sent, closes request bodies, and
// gives its answers in turn, the last one for ever. It has no connections.
type platform struct {
	answers []string
	header  http.Header
	status  int
	err     error

	mu     sync.Mutex
	sent   []*http.Request
	bodies []string
	closed []bool // the answers' bodies
}

func (p *platform) RoundTrip(req *http.Request) (*http.Response, error) {
	var body []byte
	if req.Body != nil {
		body, _ = io.ReadAll(req.Body)
		_ = req.Body.Close()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	n := len(p.sent)
	p.sent, p.bodies, p.closed = append(p.sent, req), append(p.bodies, string(body)), append(p.closed, false)
	if p.err != nil {
		return nil, p.err
	}
	text := p.answers[min(n, len(p.answers)-1)]
	return &http.Response{
		StatusCode:    max(p.status, http.StatusOK),
		Header:        p.header.Clone(),
		ContentLength: int64(len(text)),
		Request:       req,
		Body: &closeSpy{strings.NewReader(text), func() {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.closed[n] = true
		}},
	}, nil
}

func (p *platform) queries() []string {
	var qs []string
	for _, r := range p.sent {
		qs = append(qs, r.URL.RawQuery)
	}
	return qs
}

type closeSpy struct {
	io.Reader
	close func()
}

func (c *closeSpy) Close() error { c.close(); return nil }

func get(t *testing.T, url string) *http.Request {
	t.Helper()
	req, err := http.NewRequest(http.MethodGet, url, nil)
	require.NoError(t, err)
	return req
}

func readAll(t *testing.T, resp *http.Response) string {
	t.Helper()
	text, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	return string(text)
}

type baseFunc func(*http.Request) (*http.Response, error)

func (f baseFunc) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

// serve runs handler on loopback and gives a client that holds token-1 for it.
func serve(t *testing.T, handler http.HandlerFunc) (client *http.Client, url string, src *rotatingSource) {
	t.Helper()
	srv := httptest.NewServer(handler)
	t.Cleanup(srv.Close)
	src = &rotatingSource{}
	client = &http.Client{Transport: &wxtoken.Transport{Source: src, Hosts: []string{"127.0.0.1"}, Base: srv.Client().Transport}}
	return client, srv.URL, src
}
