package wxtoken_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/wxtoken/wxtoken"
)

const (
	rejection = `{"errcode":40001,"errmsg":"invalid credential, access_token is invalid or not latest rid: 1-2-3"}`
	apiURL    = "https://api.weixin.qq.com/cgi-bin/get_api_domain_ip"
)

// rotatingSource hands out first or else token-1, and token-2 and so on after
// each Invalidate of the current one.
type rotatingSource struct {
	first string

	mu            sync.Mutex
	rotations     int
	asked         int
	rejected      []string
	failFrom      int // the call of Token from which on it fails; 0: none
	invalidateErr error
}

func (s *rotatingSource) current() string {
	if s.first != "" && s.rotations == 0 {
		return s.first
	}
	return "token-" + strconv.Itoa(s.rotations+1)
}

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
// returns its answers in turn, the last one again and again. It has no connections.
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

func TestTransportQuery(t *testing.T) {
	for _, tc := range []struct{ query, sent, replayed, rejected string }{ // rejected is what the Source handed out first
		{"", "access_token=token-1", "access_token=token-2", "token-1"},
		{"a=1", "a=1&access_token=token-1", "a=1&access_token=token-2", "token-1"},
		{"b=%2f+&a=;x&a=%zz&&c", "b=%2f+&a=;x&a=%zz&&c&access_token=token-1", "b=%2f+&a=;x&a=%zz&&c&access_token=token-2", "token-1"},
		{"a=1&access_token=&b=2", "a=1&access_token=token-1&b=2", "a=1&access_token=token-2&b=2", "token-1"},
		{"access_token", "access_token=token-1", "access_token=token-2", "token-1"},
		{"access_token=old&b=%7E", "access_token=old&b=%7E", "access_token=token-2&b=%7E", "old"},
		{"access_token=o%2dd", "access_token=o%2dd", "access_token=token-2", "o-d"},
		{"access%5Ftoken=old", "access%5Ftoken=old", "access%5Ftoken=token-2", "old"},
		{"access_token=%zz", "access_token=%zz", "access_token=token-2", "%zz"},
		{"access_token=&access_token=old", "access_token=&access_token=old", "access_token=&access_token=token-2", "old"},
		{"access_token=x&access_token=y", "access_token=x&access_token=y", "access_token=token-2&access_token=y", "x"},
		{"my_access_token=x&a=access_token=y", "my_access_token=x&a=access_token=y&access_token=token-1", "my_access_token=x&a=access_token=y&access_token=token-2", "token-1"},
	} {
		t.Run(tc.query, func(t *testing.T) {
			base, src := &platform{answers: []string{rejection, `{"ok":1}`}}, &rotatingSource{first: tc.rejected}
			req := get(t, apiURL)
			req.URL.RawQuery = tc.query

			resp, err := (&wxtoken.Transport{Source: src, Base: base}).RoundTrip(req)
			require.NoError(t, err)
			assert.Equal(t, `{"ok":1}`, readAll(t, resp))
			assert.Equal(t, []string{tc.sent, tc.replayed}, base.queries())
			assert.Equal(t, []string{tc.rejected}, src.rejected)
			assert.Equal(t, []bool{true, true}, base.closed)
			assert.Equal(t, tc.query, req.URL.RawQuery, "the caller's request")
			assert.Same(t, req, resp.Request)
		})
	}
}

func TestTransportEscapesTokens(t *testing.T) {
	base := &platform{answers: []string{"{}"}}
	src := tokenFunc(func(context.Context) (wxtoken.Token, error) { return wxtoken.Token{Value: "a&b=ü+"}, nil })
	_, err := (&wxtoken.Transport{Source: src, Base: base}).RoundTrip(get(t, apiURL))
	require.NoError(t, err)
	assert.Equal(t, "a&b=ü+", base.sent[0].URL.Query().Get("access_token"))
}

func TestTransportReplaysBodies(t *testing.T) {
	post := func(body io.Reader) *http.Request {
		req, err := http.NewRequest(http.MethodPost, apiURL, body)
		require.NoError(t, err)
		return req
	}
	for name, req := range map[string]*http.Request{
		"none":   post(nil),
		"NoBody": post(http.NoBody),
		"text":   post(strings.NewReader("hello")),
	} {
		t.Run(name, func(t *testing.T) {
			base, src := &platform{answers: []string{rejection}}, &rotatingSource{}
			resp, err := (&wxtoken.Transport{Source: src, Base: base}).RoundTrip(req)
			require.NoError(t, err)
			assert.Equal(t, rejection, readAll(t, resp), "the second rejection is the caller's")
			require.Len(t, base.sent, 2, "never more than one replay")
			assert.Equal(t, base.bodies[0], base.bodies[1])
			assert.Equal(t, []string{"token-1"}, src.rejected)
		})
	}
	t.Run("not replayable", func(t *testing.T) {
		base, src := &platform{answers: []string{rejection, "{}"}}, &rotatingSource{}
		tr := &wxtoken.Transport{Source: src, Base: base}
		resp, err := tr.RoundTrip(post(io.MultiReader(strings.NewReader("hello"))))
		require.NoError(t, err)
		assert.Equal(t, rejection, readAll(t, resp))
		assert.Equal(t, []string{"hello"}, base.bodies)

		_, err = tr.RoundTrip(post(io.MultiReader(strings.NewReader("hello"))))
		require.NoError(t, err)
		assert.Equal(t, "access_token=token-2", base.queries()[1], "the next call is good")
	})
	t.Run("GetBody fails", func(t *testing.T) {
		base, src := &platform{answers: []string{rejection}}, &rotatingSource{}
		req := post(strings.NewReader("hello"))
		req.GetBody = func() (io.ReadCloser, error) { return nil, errors.New("file is gone") }
		resp, err := (&wxtoken.Transport{Source: src, Base: base}).RoundTrip(req)
		require.NoError(t, err)
		assert.Equal(t, rejection, readAll(t, resp))
		assert.Len(t, base.sent, 1)
	})
}

func TestTransportSource(t *testing.T) {
	t.Run("flapping: the same token is tried again", func(t *testing.T) {
		base, src := &platform{answers: []string{rejection, "{}"}}, &rotatingSource{invalidateErr: errors.New("cache down")}
		resp, err := (&wxtoken.Transport{Source: src, Base: base}).RoundTrip(get(t, apiURL))
		require.NoError(t, err)
		assert.Equal(t, "{}", readAll(t, resp))
		assert.Equal(t, []string{"access_token=token-1", "access_token=token-1"}, base.queries())
	})
	t.Run("no fresh token: the rejection is given as it came", func(t *testing.T) {
		base, src := &platform{answers: []string{rejection}}, &rotatingSource{failFrom: 2}
		resp, err := (&wxtoken.Transport{Source: src, Base: base}).RoundTrip(get(t, apiURL))
		require.NoError(t, err)
		assert.False(t, base.closed[0])
		assert.Equal(t, rejection, readAll(t, resp))
		assert.Len(t, base.sent, 1)
	})
	t.Run("without Invalidate: nothing is looked into", func(t *testing.T) {
		base := &platform{answers: []string{rejection}}
		src := tokenFunc(func(context.Context) (wxtoken.Token, error) { return wxtoken.Token{Value: "t"}, nil })
		resp, err := (&wxtoken.Transport{Source: src, Base: base}).RoundTrip(get(t, apiURL))
		require.NoError(t, err)
		assert.IsType(t, &closeSpy{}, resp.Body)
		assert.Len(t, base.sent, 1)
	})
	t.Run("a token of the caller's is not asked for", func(t *testing.T) {
		base, src := &platform{answers: []string{"{}"}}, &rotatingSource{}
		_, err := (&wxtoken.Transport{Source: src, Base: base}).RoundTrip(get(t, apiURL+"?access_token=mine"))
		require.NoError(t, err)
		assert.Zero(t, src.asked)
	})
}

func TestTransportErrors(t *testing.T) {
	cause := errors.New("no luck")
	for name, tc := range map[string]struct {
		src  wxtoken.TokenSource
		want string
	}{
		"nil Source": {nil, "wxtoken: Transport has no Source; set its field to the result of New"},
		"error": {tokenFunc(func(context.Context) (wxtoken.Token, error) { return wxtoken.Token{}, cause }),
			"wxtoken: request not sent, the Transport's Source returned no token: no luck"},
		"empty": {tokenFunc(func(context.Context) (wxtoken.Token, error) { return wxtoken.Token{}, nil }),
			"wxtoken: request not sent, the Transport's Source returned no token: its Token is empty"},
	} {
		t.Run(name, func(t *testing.T) {
			base, closed := &platform{}, false
			req := get(t, apiURL+"?secret=1")
			req.Body = &closeSpy{strings.NewReader("x"), func() { closed = true }}
			_, err := (&wxtoken.Transport{Source: tc.src, Base: base}).RoundTrip(req)
			assert.EqualError(t, err, tc.want)
			assert.Equal(t, name == "error", errors.Is(err, cause))
			assert.False(t, os.IsTimeout(err))
			assert.True(t, closed, "request body")
			assert.Empty(t, base.sent)
		})
	}
	t.Run("timeout", func(t *testing.T) {
		src := tokenFunc(func(context.Context) (wxtoken.Token, error) { return wxtoken.Token{}, context.DeadlineExceeded })
		_, err := (&http.Client{Transport: &wxtoken.Transport{Source: src}}).Get(apiURL)
		assert.True(t, os.IsTimeout(err))
	})
	t.Run("nil Source, token of the caller's", func(t *testing.T) {
		_, err := (&wxtoken.Transport{}).RoundTrip(get(t, apiURL+"?access_token=mine"))
		assert.ErrorContains(t, err, "no Source")
	})
	t.Run("zero value, other host", func(t *testing.T) {
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, "hi") }))
		defer srv.Close()
		resp, err := (&wxtoken.Transport{}).RoundTrip(get(t, srv.URL))
		require.NoError(t, err)
		assert.Equal(t, "hi", readAll(t, resp))
	})
	t.Run("the Base's text holds the token", func(t *testing.T) {
		const value = "MARKED/tok+en"
		for _, query := range []string{"", "?access_token=%4DARKED%2Ftok%2Ben"} {
			for _, spelled := range []string{value, url.QueryEscape(value), url.PathEscape(value), "%4DARKED%2Ftok%2Ben"} {
				if query == "" && spelled[0] == '%' {
					continue // not as it was sent
				}
				base := &platform{err: &url.Error{Op: "Get", URL: apiURL, Err: fmt.Errorf("GET %q: %w", spelled, cause)}}
				src := &rotatingSource{first: value}
				req := get(t, apiURL+query)
				_, err := (&wxtoken.Transport{Source: src, Base: base}).RoundTrip(req)
				for _, verb := range []string{"%v", "%+v", "%#v", "%q"} {
					assert.NotContains(t, fmt.Sprintf(verb, err), spelled)
				}
				base.err = &url.Error{Op: "Get", URL: apiURL + "?access_token=" + spelled, Err: cause}
				_, err = (&wxtoken.Transport{Source: src, Base: base}).RoundTrip(req)
				assert.ErrorIs(t, err, cause)
				assert.NotContains(t, err.Error(), spelled)
			}
		}
	})
	t.Run("no URL, no answer, no body", func(t *testing.T) {
		tr := &wxtoken.Transport{Source: &rotatingSource{}}
		_, err := tr.RoundTrip(&http.Request{})
		assert.Error(t, err)
		tr.Base = baseFunc(func(*http.Request) (*http.Response, error) { return nil, nil })
		_, err = (&http.Client{Transport: tr}).Get(apiURL)
		assert.Error(t, err)
		tr.Base = baseFunc(func(*http.Request) (*http.Response, error) { return &http.Response{StatusCode: 204}, nil })
		_, err = tr.RoundTrip(get(t, apiURL))
		assert.NoError(t, err)
	})
}

// Client.Timeout and the request's ctx end a wait for the Source.
func TestTransportContext(t *testing.T) {
	for _, blockAt := range []int{1, 2} {
		t.Run(fmt.Sprintf("call %d of Token blocks", blockAt), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				base := &platform{answers: []string{rejection}}
				src := &blockingSource{at: blockAt}
				client := &http.Client{Transport: &wxtoken.Transport{Source: src, Base: base}, Timeout: 3 * time.Second}
				start := time.Now()
				resp, err := client.Get(apiURL)
				assert.Equal(t, 3*time.Second, time.Since(start))
				if blockAt == 1 {
					assert.ErrorIs(t, err, context.DeadlineExceeded)
					var timeout interface{ Timeout() bool }
					assert.True(t, errors.As(err, &timeout) && timeout.Timeout())
					return
				}
				require.NoError(t, err)
				assert.Equal(t, rejection, readAll(t, resp))
			})
		})
	}
}

type blockingSource struct{ calls, at int }

func (s *blockingSource) Token(ctx context.Context) (wxtoken.Token, error) {
	if s.calls++; s.calls == s.at {
		<-ctx.Done()
		return wxtoken.Token{}, ctx.Err()
	}
	return wxtoken.Token{Value: "t"}, nil
}

func (s *blockingSource) Invalidate(ctx context.Context, _ string) error { return ctx.Err() }

func TestTransportCloseIdleConnections(t *testing.T) {
	base := &idleBase{}
	(&http.Client{Transport: &wxtoken.Transport{Base: base}}).CloseIdleConnections()
	assert.Equal(t, 1, base.closed)
	(&wxtoken.Transport{Base: baseFunc(nil)}).CloseIdleConnections()
}

type idleBase struct {
	http.RoundTripper
	closed int
}

func (b *idleBase) CloseIdleConnections() { b.closed++ }

func TestTransportClosesRequestBodies(t *testing.T) {
	var open int
	track := func(text string) io.ReadCloser {
		open++
		return &closeSpy{bytes.NewReader([]byte(text)), func() { open-- }}
	}
	for _, src := range []*rotatingSource{{}, {failFrom: 1}, {failFrom: 2}} {
		for _, base := range []*platform{{answers: []string{rejection}}, {answers: []string{"{}"}}, {err: errors.New("reset")}} {
			for _, url := range []string{apiURL, "https://other.example/"} {
				req, err := http.NewRequest(http.MethodPost, url, track("x"))
				require.NoError(t, err)
				req.GetBody = func() (io.ReadCloser, error) { return track("x"), nil }
				_, _ = (&wxtoken.Transport{Source: src, Base: base}).RoundTrip(req)
				assert.Zero(t, open)
			}
		}
	}
}
