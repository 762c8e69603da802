package wxtoken_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/wxtoken/wxtoken"
	"github.com/wxtoken/wxtoken/internal/errcode"
	"github.com/wxtoken/wxtoken/wxtest"
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

func TestTransportHosts(t *testing.T) {
	for _, tc := range []struct {
		hosts string // comma-separated; "nil" and "none" are the two empty ones
		url   string
		want  bool
	}{
		{"nil", "https://api.weixin.qq.com/", true},
		{"nil", "https://API2.weixin.qq.com:443/", true},
		{"nil", "https://sh.api.weixin.qq.com", true},
		{"nil", "https://sz.api.weixin.qq.com", true},
		{"nil", "https://hk.api.weixin.qq.com", true},
		{"nil", "http://api.weixin.qq.com/", false},
		{"nil", "http://api.weixin.qq.com:443/", false},
		{"nil", "https://api.weixin.qq.com:8443/", false},
		{"nil", "https://api.weixin.qq.com.evil.example/", false},
		{"nil", "https://evil.example/api.weixin.qq.com", false},
		{"nil", "https://api.weixin.qq.com@evil.example/", false},
		{"nil", "https://mp.weixin.qq.com/", false},
		{"none", "https://api.weixin.qq.com/", false},
		{"my.example", "https://api.weixin.qq.com/", false},
		{"x.example,My.Example", "http://my.example:8080/", true},
		{"my.example:8080", "http://my.EXAMPLE:8080/", true},
		{"my.example:8080", "http://my.example:8081/", false},
		{"my.example:443", "https://my.example/", true},
		{"my.example:443", "http://my.example/", false},
		{"my.example:80", "http://my.example/", true},
		{"::1", "http://[::1]:8080/", true},
		{"[::1]:8080", "http://[::1]:8080/", true},
	} {
		t.Run(tc.hosts+" "+tc.url, func(t *testing.T) {
			base, src := &platform{answers: []string{rejection}}, &rotatingSource{}
			tr := &wxtoken.Transport{Source: src, Base: base, Hosts: strings.Split(tc.hosts, ",")}
			switch tc.hosts {
			case "nil":
				tr.Hosts = nil
			case "none":
				tr.Hosts = []string{}
			}
			req := get(t, tc.url)
			_, err := tr.RoundTrip(req)
			require.NoError(t, err)
			if tc.want {
				assert.Equal(t, []string{"access_token=token-1", "access_token=token-2"}, base.queries())
				return
			}
			require.Len(t, base.sent, 1, "a rejection of another host is not acted on")
			assert.Same(t, req, base.sent[0], "passed on untouched")
			assert.Zero(t, src.asked)
		})
	}
}

// A fetcher is one of another package of the module.
type fetcher struct {
	wxtoken.Fetcher
	platform errcode.Platform
}

func (f fetcher) Platform() errcode.Platform { return f.platform }

// Without Hosts, a token goes to the hosts of its platform, and to no other.
func TestTransportHostsOfThePlatform(t *testing.T) {
	fetch := func(context.Context) (wxtoken.Token, error) {
		return wxtoken.Token{Value: "token-1", ExpiresAt: time.Now().Add(time.Hour)}, nil
	}
	elsewhere := wxtoken.FetcherFunc("elsewhere", fetch)
	p := wxtest.NewPlatform()
	p.AddCorp("ww1", "s")
	weComFetcher := wxtoken.NewWeComFetcher("ww1", "s", wxtoken.WithHTTPClient(p.Client()))
	const weChat = "api api2 sh.api sz.api hk.api"
	for name, tc := range map[string]struct {
		src   wxtoken.TokenSource
		hosts string // of these, under weixin.qq.com or qq.com
	}{
		"any TokenSource":       {&rotatingSource{}, weChat},
		"third party":           {wxtoken.New(fetcher{elsewhere, errcode.ThirdParty}, nil), weChat},
		"stable":                {wxtoken.New(fetcher{elsewhere, errcode.Stable}, nil), weChat},
		"WeCom":                 {wxtoken.New(fetcher{elsewhere, errcode.WeCom}, nil), "qyapi"},
		"QQ":                    {wxtoken.New(fetcher{elsewhere, errcode.QQ}, nil), "api.q.qq.com"},
		"wrapped":               {struct{ *wxtoken.Source }{wxtoken.New(fetcher{elsewhere, errcode.WeCom}, nil)}, "qyapi"},
		"embeds an HTTPFetcher": {wxtoken.New(struct{ *wxtoken.HTTPFetcher }{weComFetcher}, nil), "qyapi"},
		"embeds a Fetcher":      {wxtoken.New(struct{ wxtoken.Fetcher }{weComFetcher}, nil), "qyapi"},
	} {
		t.Run(name, func(t *testing.T) {
			for _, host := range strings.Fields(weChat + " qyapi mp api.q.qq.com q.qq.com") {
				wanted := slices.Contains(strings.Fields(tc.hosts), host)
				if !strings.HasSuffix(host, ".com") {
					host += ".weixin.qq.com"
				}
				base := &platform{answers: []string{"{}"}}
				_, err := (&wxtoken.Transport{Source: tc.src, Base: base}).RoundTrip(get(t, "https://"+host+"/cgi-bin/x"))
				require.NoError(t, err)
				assert.Equal(t, wanted, base.queries()[0] != "", host)
			}
		})
	}

	t.Run("constructors", func(t *testing.T) {
		p := wxtest.NewPlatform(wxtest.WithApp("wx1", "s"))
		p.AddCorp("ww1", "s")
		in := wxtoken.WithHTTPClient(p.Client())
		for f, host := range map[wxtoken.Fetcher]string{
			wxtoken.NewFetcher("wx1", "s", in):       "api.weixin.qq.com",
			wxtoken.NewStableFetcher("wx1", "s", in): "hk.api.weixin.qq.com",
			wxtoken.NewWeComFetcher("ww1", "s", in):  "qyapi.weixin.qq.com",
			wxtoken.NewQQFetcher("wx1", "s", in):     "api.q.qq.com",
		} {
			base := &platform{answers: []string{"{}"}}
			_, err := (&wxtoken.Transport{Source: wxtoken.New(f, nil), Base: base}).RoundTrip(get(t, "https://"+host+"/cgi-bin/x"))
			require.NoError(t, err)
			assert.NotEmpty(t, base.queries()[0], host)
		}
	})
}

// Fields that cannot be used are an error of every request, and nothing is sent.
func TestTransportFields(t *testing.T) {
	elsewhere := wxtoken.New(wxtoken.FetcherFunc("elsewhere", func(context.Context) (wxtoken.Token, error) {
		return wxtoken.Token{Value: "token-1", ExpiresAt: time.Now().Add(time.Hour)}, nil
	}), nil)
	ticketFetcher := wxtoken.NewTicketFetcher(wxtoken.New(wxtoken.NewFetcher("wx1", "s"), nil), "jsapi")
	tickets := wxtoken.New(ticketFetcher, nil)
	endpoint := wxtoken.NewEndpointFetcher("douyin:1", wxtoken.Endpoint{URL: "https://open.douyin.com/oauth/client_token/"})
	good := &rotatingSource{}
	var none *wxtoken.Source
	for _, tc := range []struct {
		tr   *wxtoken.Transport
		want string
	}{
		{&wxtoken.Transport{Source: none}, "Transport.Source is nil"},
		{&wxtoken.Transport{Source: good, Others: []wxtoken.TokenSource{good, nil}}, "Transport.Others[1] is nil"},
		{&wxtoken.Transport{Source: good, Others: []wxtoken.TokenSource{none}}, "Transport.Others[0] is nil"},
		{&wxtoken.Transport{Source: elsewhere}, "set Transport.Hosts"},
		{&wxtoken.Transport{Source: wxtoken.New(endpoint, nil)}, "set Transport.Hosts"},
		{&wxtoken.Transport{Source: tickets}, "keeps tickets"},
		{&wxtoken.Transport{Source: wxtoken.New(struct{ wxtoken.Fetcher }{ticketFetcher}, nil)}, "keeps tickets"},
		{&wxtoken.Transport{Source: tickets, Hosts: []string{"api.weixin.qq.com"}}, "keeps tickets"},
		{&wxtoken.Transport{Source: good, Hosts: []string{"api.weixin.qq.com", "https://api.weixin.qq.com"}}, "Transport.Hosts[1] is not"},
		{&wxtoken.Transport{Source: good, Hosts: []string{"me:password@api.weixin.qq.com"}}, "Transport.Hosts[0] is not"},
		{&wxtoken.Transport{Source: good, Hosts: []string{"api.weixin.qq.com/cgi-bin"}}, "Transport.Hosts[0] is not"},
		{&wxtoken.Transport{Source: good, Hosts: []string{""}}, "Transport.Hosts[0] is not"},
		{&wxtoken.Transport{Source: good, Hosts: []string{":443"}}, "Transport.Hosts[0] is not"},
		{&wxtoken.Transport{Source: good, Hosts: []string{"api.weixin.qq.com:https"}}, "Transport.Hosts[0] is not"},
		{&wxtoken.Transport{Source: good, Hosts: []string{"api.weixin.qq.com:0"}}, "Transport.Hosts[0] is not"},
		{&wxtoken.Transport{Source: good, Hosts: []string{"*.weixin.qq.com"}}, "Transport.Hosts[0] is not"},
		{&wxtoken.Transport{Source: good, Hosts: []string{"api.weixin.qq.com "}}, "Transport.Hosts[0] is not"},
		{&wxtoken.Transport{Source: good, Hosts: []string{"[::1]"}}, "Transport.Hosts[0] is not"},
	} {
		for _, target := range []string{apiURL, apiURL + "?access_token=mine", "https://other.example/"} {
			base, closed := &platform{answers: []string{"{}"}}, false
			tc.tr.Base = base
			req := get(t, target)
			req.Body = &closeSpy{strings.NewReader("x"), func() { closed = true }}
			_, err := tc.tr.RoundTrip(req)
			assert.ErrorContains(t, err, "wxtoken: request not sent: ")
			assert.ErrorContains(t, err, tc.want)
			assert.NotContains(t, err.Error(), "password")
			assert.True(t, closed, "request body")
			assert.Empty(t, base.sent)
		}
	}
	assert.Zero(t, good.asked)

	base := &platform{answers: []string{"{}"}}
	_, err := (&wxtoken.Transport{Source: elsewhere, Hosts: []string{"api.example"}, Base: base}).RoundTrip(get(t, "https://api.example/x"))
	require.NoError(t, err)
	assert.Equal(t, []string{"access_token=token-1"}, base.queries())
}

func TestTransportRedirects(t *testing.T) {
	var other, own []*http.Request
	foreign := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { other = append(other, r) }))
	defer foreign.Close()
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		own = append(own, r)
		echo := r.URL.Query()
		switch r.URL.Path {
		case "/out": // as a web server does that redirects with the whole request URI
			http.Redirect(w, r, foreign.URL+"/in?"+echo.Encode()+"&next="+url.QueryEscape(r.RequestURI), http.StatusFound)
		case "/within":
			http.Redirect(w, r, "/end?keep=1", http.StatusFound)
		case "/echo":
			http.Redirect(w, r, "/end?"+echo.Encode(), http.StatusFound)
		case "/broken":
			w.Header().Set("Location", "http://%zz/?"+echo.Encode())
			w.WriteHeader(http.StatusFound)
		case "/loop":
			http.Redirect(w, r, r.RequestURI, http.StatusFound)
		}
	}))
	defer api.Close()
	host := strings.TrimPrefix(api.URL, "http://")
	src := &rotatingSource{}
	client := &http.Client{Transport: &wxtoken.Transport{Source: src, Hosts: []string{host}}}
	run := func(pathAndQuery string) error {
		other, own = nil, nil
		resp, err := client.Get(api.URL + pathAndQuery)
		if err == nil {
			_ = resp.Body.Close()
			assert.NotContains(t, resp.Request.URL.String(), "token-1")
		}
		return err
	}

	for _, query := range []string{"", "?access_token=token-mine"} {
		require.NoError(t, run("/out"+query))
		assert.Contains(t, own[0].URL.RawQuery, "token-")
		require.Len(t, other, 1)
		assert.NotContains(t, other[0].RequestURI, "token-")
		assert.NotContains(t, other[0].Header.Get("Referer"), "token-")
	}

	require.NoError(t, run("/within"))
	assert.Equal(t, "keep=1&access_token=token-1", own[1].URL.RawQuery)
	assert.NotContains(t, own[1].Header.Get("Referer"), "token-")
	require.NoError(t, run("/echo"))
	assert.Equal(t, "access_token=token-1", own[1].URL.RawQuery)
	assert.NotContains(t, own[1].Header.Get("Referer"), "token-")
	require.NoError(t, run("/echo?access_token=token-mine"))
	assert.Equal(t, "access_token=token-mine", own[1].URL.RawQuery)

	for _, path := range []string{"/broken", "/loop"} {
		err := run(path)
		require.Error(t, err)
		assert.NotContains(t, err.Error(), "token-")
	}
}

// No spelling of a token that a server may put into a Location leaves Hosts, nor
// does another credential of the request; the rest of the Location does.
func TestTransportLocations(t *testing.T) {
	const value = "MARKED-tok/en+Value_0123456789"
	percent := func(s string) string { // every byte
		var b strings.Builder
		for _, c := range []byte(s) {
			fmt.Fprintf(&b, "%%%02x", c)
		}
		return b.String()
	}
	first := "%4D" + value[1:]
	base64 := func(s string) string { return url.QueryEscape(base64.StdEncoding.EncodeToString([]byte(s))) }
	for _, tc := range []struct{ location, want string }{ // want: where http.Client is sent to
		{"https://other.example/?a=1&access_token=" + url.QueryEscape(value) + "&b=2", "https://other.example/?a=1&access_token=&b=2"},
		{"https://other.example/?a=1&access_token=" + percent(value) + "&b=2", "https://other.example/?a=1&access_token=&b=2"},
		{"https://other.example/?a=1&t=" + value, "https://other.example/?a=1&t="},
		{"https://other.example/?a=1&t=" + url.PathEscape(value), "https://other.example/?a=1&t="},
		{"https://other.example/?a=1&t=" + percent(value), "https://other.example/"},
		{"https://other.example/?a=1&t=" + first, "https://other.example/"},
		{"https://other.example/?a=1&t=" + strings.ReplaceAll(value, "+", "%20"), "https://other.example/"},
		{"https://other.example/?next=" + url.QueryEscape("/x?access_token="+first), "https://other.example/"},
		{"https://other.example/?next=" + url.QueryEscape(url.QueryEscape(url.QueryEscape(first))), "https://other.example/"},
		{"https://other.example/?next=" + base64("/x?access_token="+value), "https://other.example/"},
		{"https://other.example/?next=" + base64("1/x?access_token="+value+"&a=1"), "https://other.example/"},
		{"https://other.example/?next=" + base64("12/x?access_token="+value), "https://other.example/"},
		{"https://other.example/x#" + first, "https://other.example/x"},
		{"https://other.example/x#a?b=" + first, "https://other.example/x"},
		{"https://other.example/" + first + "?a=1", ""},
		{"https://other.example/x/" + value + "/y?a=1", "https://other.example/x//y?a=1"},
		{"https://" + first + "@other.example/", ""},
		{"https://marked-tok%2Fen+value_0123456789.other.example/", ""},
		{"//other.example/?t=" + first, "//other.example/"},
		{"http://api.weixin.qq.com/?t=" + first, "http://api.weixin.qq.com/"},
		{"https://api.weixin.qq.com:8443/?t=" + first, "https://api.weixin.qq.com:8443/"},
		{"https://%zz/?t=" + first, "https://%zz/"},
		{"https://other.example/?t=" + strings.Repeat("%25", 50) + "41", "https://other.example/?t=" + strings.Repeat("%25", 50) + "41"},
		{"https://other.example/?t=%" + strings.Repeat("25", 50) + "4D" + value[1:], "https://other.example/"},
		{"https://other.example/?a=%zz+%4D&b=1#c", "https://other.example/?a=%zz+%4D&b=1#c"},
		{"https://other.example/?secret=" + percent("MarkedSecret"), "https://other.example/"},
		{"https://other.example/x#%4" + value, "https://other.example/x"}, // cut out plainly, it would be no URL
		// within Hosts it is taken out as far as needed for the next request to get it again
		{"/end?a=1&access_token=" + percent(value), "/end?a=1&access_token="},
		{"/end?a=1&next=" + value, "/end?a=1&next="},
		{"/end?a=1&next=" + first, "/end"},
		{"https://api2.weixin.qq.com/?secret=MarkedSecret&a=1", "https://api2.weixin.qq.com/?secret=MarkedSecret&a=1"},
	} {
		for _, query := range []string{"?secret=MarkedSecret", "?secret=MarkedSecret&access_token=%4D" + url.QueryEscape(value[1:])} {
			base := &platform{answers: []string{"{}"}, status: http.StatusFound, header: http.Header{"Location": {tc.location}}}
			tr := &wxtoken.Transport{Source: &rotatingSource{first: value}, Base: base}
			resp, err := tr.RoundTrip(get(t, apiURL+query))
			require.NoError(t, err)
			want := tc.want
			if strings.HasPrefix(tc.location, "/end") && strings.Contains(query, "access_token") {
				want = tc.location // the caller's own token, in Hosts
			}
			assert.Equal(t, want, resp.Header.Get("Location"), tc.location)
			assert.Equal(t, want != "", resp.Header["Location"] != nil)
		}
	}
}

// Where net/http would repeat the request's body out of Hosts, the redirect is
// not followed.
func TestTransportRedirectsWithBody(t *testing.T) {
	for status, followed := range map[int]bool{302: true, 303: true, 307: false, 308: false} {
		for _, to := range []string{"https://other.example/", "https://api2.weixin.qq.com/"} {
			for _, path := range []string{"/cgi-bin/x", "/cgi-bin/component/x"} {
				base := baseFunc(func(req *http.Request) (*http.Response, error) {
					if req.URL.Path != path {
						return &http.Response{StatusCode: 200, Request: req, Body: http.NoBody}, nil
					}
					return &http.Response{StatusCode: status, Request: req, Body: http.NoBody, Header: http.Header{"Location": {to}}}, nil
				})
				client := &http.Client{Transport: &wxtoken.Transport{Source: &rotatingSource{}, Base: base}}
				resp, err := client.Post("https://api.weixin.qq.com"+path, "application/json", strings.NewReader(`{"component_appsecret":"s"}`))
				require.NoError(t, err)
				want := status
				if followed || strings.Contains(to, "weixin") {
					want = 200
				}
				assert.Equal(t, want, resp.StatusCode, "%d to %s", status, to)
			}
		}
	}
}

// A Referer that the caller chose, or that names another host, is left alone.
func TestTransportKeepsOtherReferers(t *testing.T) {
	base := &platform{answers: []string{""}}
	tr := &wxtoken.Transport{Source: &rotatingSource{}, Base: base}
	redirected := get(t, "https://other.example/")
	redirected.Response = &http.Response{}
	redirected.Header.Set("Referer", "https://servicewechat.com/wx1/1/page.html")
	direct := get(t, "https://other.example/")
	direct.Header.Set("Referer", apiURL)
	for _, req := range []*http.Request{redirected, direct} {
		_, err := tr.RoundTrip(req)
		require.NoError(t, err)
	}
	assert.Same(t, redirected, base.sent[0])
	assert.Same(t, direct, base.sent[1])
}

// A token that the caller put there is replaced if one of the Sources has handed
// it out, to whomever, and then with a token of that Source.
func TestTransportReplacesWhatWasHandedOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := wxtest.NewPlatform(wxtest.WithApp("wx1", "s1"), wxtest.WithApp("wx2", "s2"), wxtest.WithApp("wx3", "s3"))
		source := func(app, secret string) *wxtoken.Source {
			return wxtoken.New(wxtoken.NewFetcher(app, secret, wxtoken.WithHTTPClient(p.Client())), nil)
		}
		one, two, wrapped := source("wx1", "s1"), source("wx2", "s2"), struct{ *wxtoken.Source }{source("wx3", "s3")}
		client := &http.Client{Transport: &wxtoken.Transport{
			Source: one, Others: []wxtoken.TokenSource{two, wrapped}, Base: p.Transport(),
		}}
		call := func(token string) string {
			resp, err := client.Get(apiURL + "?access_token=" + token)
			require.NoError(t, err)
			return readAll(t, resp)
		}
		for app, src := range map[string]wxtoken.TokenSource{"wx1": one, "wx2": two, "wx3": wrapped} {
			var kept []string
			for range 3 {
				kept = append(kept, token(t, src)) // as an SDK does that adds it by itself
				time.Sleep(20 * time.Minute)
				p.Revoke(p.Latest(app))
				assert.Contains(t, call(kept[len(kept)-1]), "ip_list", app)
			}
			for _, old := range kept {
				assert.Contains(t, call(old), "ip_list", "kept by a slow part of the application")
			}
		}
		fetched := p.Stats().Fetches().Total()
		assert.Equal(t, 3*4, fetched)

		before := p.Stats().Calls().Total()
		stranger := p.Issue("wx1")
		p.Revoke(stranger)
		for _, value := range []string{stranger, "user-token", "x"} {
			assert.Contains(t, call(value), `"errcode":400`)
		}
		assert.Equal(t, before+3, p.Stats().Calls().Total(), "sent once each")
		assert.Equal(t, fetched, p.Stats().Fetches().Total())
	})
}

// Other TokenSources cannot say what they handed out: the Transport remembers
// what it got, and asks those that can be told of a rejection what they have.
func TestTransportOtherTokenSources(t *testing.T) {
	plain := tokenFunc(func(context.Context) (wxtoken.Token, error) { return wxtoken.Token{Value: "plain-1"}, nil })
	away := &rotatingSource{first: "away-1", failFrom: 1}
	stuck := &blockingSource{at: 1}
	for _, tc := range []struct {
		name, value, sent string
		others            []wxtoken.TokenSource
	}{
		{"added before", "token-1", "token-1 token-2", nil},
		{"never asked for", "other-1", "other-1 token-2", []wxtoken.TokenSource{plain, &rotatingSource{first: "other-1"}}},
		{"not to be told", "plain-1", "plain-1", []wxtoken.TokenSource{plain}},
		{"not its token", "stranger", "stranger", []wxtoken.TokenSource{away, plain}},
		{"one has no token", "other-1", "other-1 token-2", []wxtoken.TokenSource{away, &rotatingSource{first: "other-1"}}},
		{"one does not answer", "stranger", "stranger", []wxtoken.TokenSource{stuck}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				base := &platform{answers: []string{"{}", rejection, rejection}}
				tr := &wxtoken.Transport{Source: &rotatingSource{}, Others: tc.others, Base: base}
				_, err := tr.RoundTrip(get(t, apiURL))
				require.NoError(t, err)
				start := time.Now()
				resp, err := tr.RoundTrip(get(t, apiURL+"?access_token="+tc.value))
				require.NoError(t, err)
				assert.Equal(t, rejection, readAll(t, resp))
				assert.LessOrEqual(t, time.Since(start), time.Second)
				want := "access_token=" + strings.ReplaceAll(tc.sent, " ", " access_token=")
				assert.Equal(t, strings.Fields(want), base.queries()[1:])
			})
		})
	}
}

// A Transport knows the values that it got from such a source when they are no
// longer the current ones.
func TestTransportRemembersOldTokens(t *testing.T) {
	base, src := &platform{answers: []string{"{}", rejection, "{}"}}, &rotatingSource{}
	tr := &wxtoken.Transport{Source: src, Base: base}
	_, err := tr.RoundTrip(get(t, apiURL))
	require.NoError(t, err)
	require.NoError(t, src.Invalidate(t.Context(), "token-1")) // another process
	resp, err := tr.RoundTrip(get(t, apiURL+"?access_token=token-1"))
	require.NoError(t, err)
	assert.Equal(t, "{}", readAll(t, resp))
	assert.Equal(t, []string{"access_token=token-1", "access_token=token-1", "access_token=token-2"}, base.queries())
}

// Of a source that cannot say what it handed out, the last 16 values are known.
func TestTransportRemembersSixteenTokens(t *testing.T) {
	base, src := &platform{answers: []string{"{}"}}, &rotatingSource{}
	tr := &wxtoken.Transport{Source: src, Base: base}
	for n := range 40 {
		for range 2 { // again and again, as callers ask
			_, err := tr.RoundTrip(get(t, apiURL))
			require.NoError(t, err)
		}
		require.NoError(t, src.Invalidate(t.Context(), fmt.Sprint("token-", n+1)))
	}
	base.answers = []string{rejection}
	for n := range 40 {
		before := len(base.sent)
		_, err := tr.RoundTrip(get(t, fmt.Sprint(apiURL, "?access_token=token-", n+1)))
		require.NoError(t, err)
		assert.Equal(t, n+1 > 41-16, len(base.sent)-before == 2, "token %d, of 41 with the one it was asked for just now", n+1)
	}
}

// A request can bear a token that another process handed out, as after a restart:
// a Source knows those of the record.
func TestTransportKnowsTheTokensOfTheRecord(t *testing.T) {
	for n := 1; n <= 9; n++ {
		bubble(t, fmt.Sprint("token-", n), func(t *testing.T) {
			f, cache := &countingFetcher{lifetime: time.Hour}, wxtoken.NewMemoryCache()
			before := wxtoken.New(f, cache)
			for range 9 {
				token(t, before)
				time.Sleep(time.Hour)
			}
			after, base := wxtoken.New(f, cache), &platform{answers: []string{rejection}}
			token(t, after)
			_, err := (&wxtoken.Transport{Source: after, Hosts: []string{"api.weixin.qq.com"}, Base: base}).RoundTrip(get(t, fmt.Sprint(apiURL, "?access_token=token-", n)))
			require.NoError(t, err)
			assert.Equal(t, n >= 4, len(base.sent) == 2)
		})
	}
}

// What takes no token, or another one, is sent as it is, once, whatever the
// answer, and although no token can be had.
func TestTransportOtherCredentials(t *testing.T) {
	for _, request := range []string{
		"GET /sns/userinfo?access_token=USER&openid=o",
		"GET /sns/auth?access_token=USER&openid=o",
		"GET /sns/jscode2session?appid=wx1&secret=s&js_code=c&grant_type=authorization_code",
		"GET /sns/oauth2/access_token?appid=wx1&secret=s&code=c",
		"GET /sns/oauth2/refresh_token?appid=wx1&refresh_token=r",
		"GET /sns/component/jscode2session?component_access_token=DEAD",
		"GET /cgi-bin/token?grant_type=client_credential&appid=wx1&secret=s",
		"GET /cgi-bin/token/?appid=wx1",
		`POST /cgi-bin/stable_token {"appid":"wx1","secret":"s"}`,
		`POST /cgi-bin/clear_quota/v2 {"appid":"wx1","appsecret":"s"}`,
		"GET /api/getToken?appid=1105&secret=s",
		`POST /cgi-bin/component/api_component_token {"component_verify_ticket":"t"}`,
		`POST /cgi-bin/component/api_query_auth?component_access_token=DEAD {}`,
		`POST /cgi-bin/component/api_authorizer_token?access_token=DEAD {"authorizer_refresh_token":"r"}`,
		"POST /wxa/fastregisterweapp?action=create&component_access_token=DEAD {}",
		"POST /wxa/fastregisterweapp?component%5Faccess%5ftoken=DEAD&action=create {}",
		"POST /cgi-bin/account/x?component_access_token= {}",
		"GET /wxa/msg_sec_check?cloudbase_access_token=CLOUD",
		"GET /cgi-bin/gettoken?corpid=ww1&corpsecret=s",
		`POST /cgi-bin/service/get_suite_token {"suite_ticket":"t"}`,
		`POST /cgi-bin/service/get_provider_token {"provider_secret":"s"}`,
		"GET /cgi-bin/service/getuserinfo3rd?access_token=SUITE&code=c",
		"POST /cgi-bin/service/get_corp_token?suite_access_token=DEAD {}",
		"POST /cgi-bin/tag/list?suite_access_token=DEAD&access_token=x {}",
		"POST /cgi-bin/corp/x?a=1&provider_access_token=DEAD {}",
		// other ways of writing a path
		"GET //sns/userinfo?access_token=USER",
		"GET /./sns//userinfo?access_token=USER",
		"GET /cgi-bin/../sns/userinfo?access_token=USER",
		"GET /%73ns/userinfo?access_token=USER",
		"GET /sns%2Fuserinfo?access_token=USER",
		"GET /cgi-bin//component/x",
		"GET /cgi-bin/%2e%2e/cgi-bin/token",
	} {
		t.Run(request, func(t *testing.T) {
			method, rest, _ := strings.Cut(request, " ")
			target, body, _ := strings.Cut(rest, " ")
			req, err := http.NewRequest(method, "https://api.weixin.qq.com"+target, strings.NewReader(body))
			require.NoError(t, err)
			base, src := &platform{answers: []string{rejection}}, &rotatingSource{first: "DEAD", failFrom: 1}
			resp, err := (&wxtoken.Transport{Source: src, Base: base}).RoundTrip(req)
			require.NoError(t, err)
			assert.Equal(t, rejection, readAll(t, resp))
			require.Len(t, base.sent, 1)
			assert.Same(t, req, base.sent[0], "passed on untouched")
			assert.Equal(t, []string{body}, base.bodies)
			assert.Zero(t, src.asked)
			assert.Empty(t, src.rejected)
		})
	}
	opaque := get(t, apiURL)
	opaque.URL.Path, opaque.URL.Opaque = "", "//api.weixin.qq.com/sns/user%69nfo"
	_, err := (&wxtoken.Transport{Source: &rotatingSource{failFrom: 1}, Base: &platform{answers: []string{"{}"}}}).RoundTrip(opaque)
	assert.NoError(t, err)
}

// Requests that only look like those above take a token.
func TestTransportLookAlikes(t *testing.T) {
	for _, target := range []string{
		"/", "", "/cgi-bin/", "/cgi-bin/tokens", "/cgi-bin/token/x", "/cgi-bin/stable_token2", "/cgi-bin/clear_quota",
		"/cgi-bin/component", "/cgi-bin/components/x", "/cgi-bin/sns/x", "/sns", "/snsx/y", "/wxa/sns/x", "/cgi-bin/services/x",
		"/sns/../cgi-bin/user/info", "/cgi-bin/user/info?next=/sns/userinfo", "/cgi-bin/ticket/getticket?type=jsapi",
		"/cgi-bin/user/info?x=component_access_token=y", "/cgi-bin/user/info?my_component_access_token=y",
		"/cgi-bin/corpgroup/corp/gettoken", "/cgi-bin/user/info?a%26component_access_token=y",
	} {
		t.Run(target, func(t *testing.T) {
			base := &platform{answers: []string{rejection}}
			_, err := (&wxtoken.Transport{Source: &rotatingSource{}, Base: base}).RoundTrip(get(t, "https://api.weixin.qq.com"+target))
			require.NoError(t, err)
			require.Len(t, base.sent, 2)
			assert.Equal(t, "token-1", base.sent[0].URL.Query().Get("access_token"))
			assert.Equal(t, "token-2", base.sent[1].URL.Query().Get("access_token"))
		})
	}
}

// The server sends each byte only when the client has read the one before it.
func TestTransportStreamsDownloads(t *testing.T) {
	for name, text := range map[string]string{
		"binary":                    "\x89PNG slowly",
		"looks like a BOM at first": "\xef\xbb\xbc....",
		"JSON after its errcode":    `{"errcode":0,"list":[1,2,3]}`,
		"JSON after its end":        `{"a":{"b":0}}` + "  \n",
	} {
		t.Run(name, func(t *testing.T) {
			got := make(chan struct{}, len(text))
			ahead := 1
			switch text[0] {
			case '{':
				ahead = 13 // up to the byte that ends the errcode, or to the last brace
			case '\xef':
				ahead = 3
			}
			client, url, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
				for i := range len(text) {
					if i >= ahead {
						<-got
					}
					_, _ = w.Write([]byte{text[i]})
					w.(http.Flusher).Flush()
				}
			})
			resp, err := client.Get(url)
			require.NoError(t, err)
			defer resp.Body.Close()
			one := make([]byte, 1)
			for i := range len(text) {
				_, err := io.ReadFull(resp.Body, one)
				require.NoError(t, err)
				require.Equal(t, text[i], one[0])
				got <- struct{}{}
			}
		})
	}
}

// The second half of the upload is written only when the server has the first.
func TestTransportStreamsUploads(t *testing.T) {
	halfway := make(chan struct{})
	client, url, src := serve(t, func(w http.ResponseWriter, r *http.Request) {
		parts, err := r.MultipartReader()
		if !assert.NoError(t, err) {
			return
		}
		part, err := parts.NextPart()
		if !assert.NoError(t, err) {
			return
		}
		half := make([]byte, 5)
		_, err = io.ReadFull(part, half)
		assert.NoError(t, err)
		close(halfway)
		rest, err := io.ReadAll(part)
		assert.NoError(t, err)
		_, _ = fmt.Fprintf(w, `{"media":%q}`, string(half)+string(rest))
	})
	r, w := io.Pipe()
	form := multipart.NewWriter(w)
	go func() {
		part, _ := form.CreateFormFile("media", "a.jpg")
		_, _ = io.WriteString(part, "first")
		<-halfway
		_, _ = io.WriteString(part, "second")
		_ = w.CloseWithError(form.Close())
	}()
	resp, err := client.Post(url, form.FormDataContentType(), r)
	require.NoError(t, err)
	assert.Equal(t, `{"media":"firstsecond"}`, readAll(t, resp))
	assert.Empty(t, src.rejected)
}

func TestTransportCompressed(t *testing.T) {
	client, url, src := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Encoding", "gzip")
		z := gzip.NewWriter(w)
		if r.FormValue("access_token") == "token-1" {
			_, _ = io.WriteString(z, rejection)
		} else {
			_, _ = io.WriteString(z, `{"ok":1}`)
		}
		_ = z.Close()
	})
	req := get(t, url)
	req.Header.Set("Accept-Encoding", "gzip")
	resp, err := client.Do(req)
	require.NoError(t, err)
	z, err := gzip.NewReader(strings.NewReader(readAll(t, resp)))
	require.NoError(t, err)
	text, err := io.ReadAll(z)
	require.NoError(t, err)
	assert.Equal(t, rejection, string(text), "compressed for the caller: not looked into")

	resp, err = client.Get(url)
	require.NoError(t, err)
	assert.Equal(t, `{"ok":1}`, readAll(t, resp))
	assert.Equal(t, []string{"token-1"}, src.rejected)
}

func TestTransportKeepsTheResponse(t *testing.T) {
	client, url, src := serve(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/trailer":
			w.Header().Set("Trailer", "X-Sum")
			_, _ = io.WriteString(w, `{"a":1}`)
			w.Header().Set("X-Sum", "42")
		case "/204":
			w.WriteHeader(http.StatusNoContent)
		case "/upgrade":
			conn, rw, err := w.(http.Hijacker).Hijack()
			if !assert.NoError(t, err) {
				return
			}
			defer conn.Close()
			_, _ = rw.WriteString("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n")
			_ = rw.Flush()
			line, _ := rw.ReadString('\n')
			_, _ = rw.WriteString("echo " + line)
			_ = rw.Flush()
		}
	})

	resp, err := client.Get(url + "/trailer")
	require.NoError(t, err)
	assert.Equal(t, `{"a":1}`, readAll(t, resp))
	assert.Equal(t, "42", resp.Trailer.Get("X-Sum"))

	resp, err = client.Get(url + "/204")
	require.NoError(t, err)
	assert.Empty(t, readAll(t, resp))

	resp, err = client.Head(url)
	require.NoError(t, err)
	assert.Empty(t, readAll(t, resp))

	req := get(t, url+"/upgrade")
	req.Header.Set("Connection", "upgrade")
	req.Header.Set("Upgrade", "x")
	resp, err = client.Do(req)
	require.NoError(t, err)
	_, err = io.WriteString(resp.Body.(io.Writer), "hello\n")
	require.NoError(t, err)
	assert.Equal(t, "echo hello\n", readAll(t, resp))
	assert.Empty(t, src.rejected)
}

// The rejection is read to its end, so that its connection serves the replay.
func TestTransportReusesTheConnection(t *testing.T) {
	var remotes []string
	client, url, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
		remotes = append(remotes, r.RemoteAddr)
		_, _ = io.WriteString(w, `{"errcode":40001,"errmsg":"`+strings.Repeat("x", 20<<10)+`"}`)
	})
	resp, err := client.Get(url)
	require.NoError(t, err)
	readAll(t, resp)
	require.Len(t, remotes, 2)
	assert.Equal(t, remotes[0], remotes[1])
}

func TestTransportParallel(t *testing.T) {
	var mu sync.Mutex
	good := "token-1"
	client, url, src := serve(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		mu.Lock()
		defer mu.Unlock()
		if r.URL.Query().Get("access_token") != good {
			_, _ = io.WriteString(w, rejection)
			return
		}
		_, _ = w.Write(body)
	})
	for round := range 5 {
		mu.Lock()
		good = "token-" + strconv.Itoa(round+1)
		mu.Unlock()
		var wg sync.WaitGroup
		for g := range 8 {
			wg.Go(func() {
				for i := range 5 {
					want := fmt.Sprintf(`{"n":%d}`, g*100+i)
					resp, err := client.Post(url, "application/json", strings.NewReader(want))
					if !assert.NoError(t, err) {
						return
					}
					text, err := io.ReadAll(resp.Body)
					_ = resp.Body.Close()
					assert.NoError(t, err)
					assert.Equal(t, want, string(text))
				}
			})
		}
		wg.Wait()
	}
	assert.Equal(t, 4, src.rotations, "one per change of the token")
}

// issuer has the fake platform issue its tokens, without a secret.
type issuer struct {
	*wxtest.Platform
	mu    sync.Mutex
	token string
}

func (s *issuer) Token(context.Context) (wxtoken.Token, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.token == "" {
		s.token = s.Issue("wx1")
	}
	return wxtoken.Token{Value: s.token}, nil
}

func (s *issuer) Invalidate(_ context.Context, rejected string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.token == rejected {
		s.token = ""
	}
	return nil
}

// The endpoints that applications call, on the fake platform, under its real
// name, before and after a token is revoked.
func TestTransportOnThePlatform(t *testing.T) {
	srv := wxtest.NewServer(wxtest.WithApp("wx1", "secret"))
	defer srv.Close()
	src := &issuer{Platform: srv.Platform}
	client := &http.Client{Transport: &wxtoken.Transport{Source: src, Base: srv.Client().Transport}}
	upload := func() map[string]any {
		var form bytes.Buffer
		w := multipart.NewWriter(&form)
		part, err := w.CreateFormFile("media", "a.jpg")
		require.NoError(t, err)
		_, _ = io.WriteString(part, "\xff\xd8 a picture")
		require.NoError(t, w.Close())
		resp, err := client.Post("https://api.weixin.qq.com/cgi-bin/media/upload?type=image", w.FormDataContentType(), &form)
		require.NoError(t, err)
		var answer map[string]any
		require.NoError(t, json.Unmarshal([]byte(readAll(t, resp)), &answer))
		return answer
	}

	for range 2 {
		media, _ := upload()["media_id"].(string)
		require.NotEmpty(t, media)
		resp, err := client.Get("https://api2.weixin.qq.com/cgi-bin/media/get?media_id=" + url.QueryEscape(media))
		require.NoError(t, err)
		assert.Equal(t, "\xff\xd8 a picture", readAll(t, resp))
		resp, err = client.Get("https://api.weixin.qq.com/cgi-bin/get_api_domain_ip")
		require.NoError(t, err)
		assert.Contains(t, readAll(t, resp), "ip_list")
		srv.Revoke(srv.Latest("wx1"))
	}
	srv.Inject(wxtest.Denial(42007).On(wxtest.BusinessCalls))
	before := srv.Latest("wx1")
	resp, err := client.Get(apiURL)
	require.NoError(t, err)
	assert.Contains(t, readAll(t, resp), "42007")
	assert.Equal(t, before, srv.Latest("wx1"))
}

// serve runs handler on loopback and returns a client that holds token-1 for it.
func serve(t *testing.T, handler http.HandlerFunc) (client *http.Client, url string, src *rotatingSource) {
	t.Helper()
	srv := httptest.NewServer(handler)
	t.Cleanup(srv.Close)
	src = &rotatingSource{}
	client = &http.Client{Transport: &wxtoken.Transport{Source: src, Hosts: []string{"127.0.0.1"}, Base: srv.Client().Transport}}
	return client, srv.URL, src
}

// A stalling is a body that comes in parts, each after a pause. It ends after the
// last one, if that is not "...".
type stalling struct {
	*io.PipeReader
	closed chan struct{}
}

func stall(pause time.Duration, parts ...string) *stalling {
	r, w := io.Pipe()
	s := &stalling{r, make(chan struct{})}
	go func() {
		for i, part := range parts {
			if part == "..." {
				return
			}
			if i > 0 {
				select {
				case <-time.After(pause):
				case <-s.closed:
				}
			}
			_, _ = io.WriteString(w, part)
		}
		_ = w.Close()
	}()
	return s
}

func (s *stalling) Close() error { close(s.closed); return s.PipeReader.Close() }

// A body that stalls holds up RoundTrip for at most a second, and one more if it
// is a rejection. Of any other body the caller gets all, when it comes.
func TestTransportStalls(t *testing.T) {
	const begun = `{"errcode":40001,"errmsg":"inv`
	long := strings.Repeat("x", 5000)
	for name, tc := range map[string]struct {
		pause    time.Duration
		parts    []string
		returned time.Duration // RoundTrip; the body is read right after
		read     time.Duration // since the request
		sent     int
		want     string // else the parts
	}{
		"rejection":                   {time.Hour, []string{begun, "..."}, time.Second, time.Second, 2, `{"second":1}`},
		"rejection, in two parts":     {900 * time.Millisecond, []string{`{"errcode":40001,"e`, `rrmsg":"inv`, "..."}, time.Second, time.Second, 2, `{"second":1}`},
		"slow rejection":              {900 * time.Millisecond, []string{`{"errcode":`, `40001,`, `"e":"", `, `"f":""}`}, 1900 * time.Millisecond, 1900 * time.Millisecond, 2, `{"second":1}`},
		"rejection that comes late":   {3 * time.Second, []string{"", begun + `"}`}, time.Second, 3 * time.Second, 1, ""},
		"before the errcode":          {time.Minute, []string{`{"errc`, `ode":40001}`}, time.Second, time.Minute, 1, ""},
		"within the errcode":          {time.Minute, []string{`{"errcode":4000`, `1}`}, time.Second, time.Minute, 1, ""},
		"long poll":                   {25 * time.Second, []string{"", `{"errcode":0}`}, time.Second, 25 * time.Second, 1, ""},
		"long poll, large":            {25 * time.Second, []string{"{", long, long, "}"}, time.Second, 75 * time.Second, 1, ""},
		"drop by drop":                {400 * time.Millisecond, []string{`{`, `"`, `a`, `"`, `:`, `1`, `}`}, time.Second, 2400 * time.Millisecond, 1, ""},
		"after another errcode":       {time.Minute, []string{`{"errcode":45009,"errmsg":"`, `"}`}, 0, time.Minute, 1, ""},
		"after what is not an object": {time.Minute, []string{"<", "html>"}, 0, time.Minute, 1, ""},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				first, sent := stall(tc.pause, tc.parts...), 0
				base := baseFunc(func(req *http.Request) (*http.Response, error) {
					if sent++; sent == 2 {
						return &http.Response{StatusCode: 200, Body: io.NopCloser(strings.NewReader(`{"second":1}`))}, nil
					}
					return &http.Response{StatusCode: 200, Body: first}, nil
				})
				start := time.Now()
				resp, err := (&wxtoken.Transport{Source: &rotatingSource{}, Base: base}).RoundTrip(get(t, apiURL))
				require.NoError(t, err)
				assert.Equal(t, tc.returned, time.Since(start))
				want := tc.want
				if want == "" {
					want = strings.Join(tc.parts, "")
				}
				assert.Equal(t, want, readAll(t, resp))
				assert.Equal(t, tc.read, time.Since(start))
				assert.Equal(t, tc.sent, sent)
				<-first.closed
			})
		})
	}
}

// A rejection that is the caller's ends where it has stalled.
func TestTransportStalledRejection(t *testing.T) {
	const begun = `{"errcode":42001,"errmsg":"access_token exp`
	for name, tc := range map[string]struct {
		src *rotatingSource
		url string
		n   int // the rejections that stall
	}{
		"no token to replace it":  {&rotatingSource{failFrom: 2}, apiURL, 1},
		"not one of the Source's": {&rotatingSource{}, apiURL + "?access_token=stranger", 1},
		"the second":              {&rotatingSource{}, apiURL, 2},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var bodies []*stalling
				base := baseFunc(func(req *http.Request) (*http.Response, error) {
					bodies = append(bodies, stall(time.Hour, begun, "..."))
					header := http.Header{"Content-Length": {"100"}}
					return &http.Response{StatusCode: 200, Header: header, ContentLength: 100, Body: bodies[len(bodies)-1]}, nil
				})
				start := time.Now()
				resp, err := (&wxtoken.Transport{Source: tc.src, Base: base}).RoundTrip(get(t, tc.url))
				require.NoError(t, err)
				text, err := io.ReadAll(resp.Body)
				require.NoError(t, err)
				assert.Equal(t, begun, string(text))
				assert.EqualValues(t, -1, resp.ContentLength)
				assert.Empty(t, resp.Header.Get("Content-Length"))
				assert.Equal(t, time.Duration(tc.n)*time.Second, time.Since(start))
				assert.Len(t, bodies, tc.n)
				for _, body := range bodies {
					<-body.closed
				}
			})
		})
	}
}

// The same with sockets, where Close must end a Read that is under way.
func TestTransportStalledConnection(t *testing.T) {
	client, url, src := serve(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, `{"errcode":40001,"errmsg":"`)
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	})
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, io.MultiReader(strings.NewReader("x")))
	require.NoError(t, err)
	resp, err := client.Do(req)
	require.NoError(t, err)
	assert.Equal(t, `{"errcode":40001,"errmsg":"`, readAll(t, resp))
	assert.NoError(t, ctx.Err())
	assert.Equal(t, []string{"token-1"}, src.rejected)
}

// What a Base's body does in Read happens to the caller, not to the process.
func TestTransportBodyPanics(t *testing.T) {
	base := baseFunc(func(*http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: 200, Body: io.NopCloser(panicking{})}, nil
	})
	assert.PanicsWithValue(t, "no luck", func() {
		_, _ = (&wxtoken.Transport{Source: &rotatingSource{}, Base: base}).RoundTrip(get(t, apiURL))
	})
}

type panicking struct{}

func (panicking) Read([]byte) (int, error) { panic("no luck") }

// Whatever the query: the server reads the token that Invalidate is told of,
// and every parameter that is no access_token stays as it is, in its place.
func FuzzTransportQuery(f *testing.F) {
	for _, seed := range []string{
		"", "a=1", "&", "access_token", "access_token=", "access_token=x&access_token=y", "access_token=&access_token=y",
		"access%5ftoken=x", "a;access_token=1", "%zz=1&access_token=%zz", "access_token==&&a=+%20", "?access_token=1#",
		"suite_access_token=1", "a=1&provider%5Faccess_token=&access_token=x", "my_suite_access_token=1",
	} {
		f.Add(seed, "token", true)
		f.Add(seed, "a+b&c=%", false)
	}
	f.Fuzz(func(t *testing.T, query, token string, handedOut bool) {
		own := firstToken(query)
		if token == "" || own == token {
			return
		}
		base, src := &platform{answers: []string{rejection}}, &fuzzSource{token: token}
		if handedOut {
			src.before = own
		}
		req := get(t, apiURL)
		req.URL.RawQuery = query
		_, err := (&wxtoken.Transport{Source: src, Base: base}).RoundTrip(req)
		require.NoError(t, err)
		require.Equal(t, query, req.URL.RawQuery)

		queries := base.queries()
		if other := hasOtherCredential(query); other || own != "" && !handedOut {
			require.Equal(t, []string{query}, queries)
			require.Empty(t, src.rejected)
			return
		}
		require.Len(t, queries, 2)
		if own != "" {
			require.Equal(t, query, queries[0])
			require.Equal(t, own, src.rejected)
		} else {
			require.Equal(t, token, firstToken(queries[0]))
			require.Equal(t, token, src.rejected)
		}
		require.Equal(t, token, firstToken(queries[1]))
		require.Equal(t, otherParams(query), otherParams(queries[0]))
		require.Equal(t, otherParams(query), otherParams(queries[1]))
	})
}

// A fuzzSource hands out before until that is rejected, and then token.
type fuzzSource struct{ before, token, rejected string }

func (s *fuzzSource) Token(context.Context) (wxtoken.Token, error) {
	if s.before != "" && s.rejected != s.before {
		return wxtoken.Token{Value: s.before}, nil
	}
	return wxtoken.Token{Value: s.token}, nil
}

func (s *fuzzSource) Invalidate(_ context.Context, rejected string) error {
	s.rejected = rejected
	return nil
}

// name is that of one part of a raw query.
func name(part string) string {
	key, _, _ := strings.Cut(part, "=")
	name, _ := url.QueryUnescape(key)
	return name
}

func hasOtherCredential(query string) bool {
	return slices.ContainsFunc(strings.Split(query, "&"), func(part string) bool {
		switch name(part) {
		case "component_access_token", "suite_access_token", "provider_access_token", "cloudbase_access_token":
			return true
		}
		return false
	})
}

// firstToken returns the first access_token of a raw query that is not empty.
func firstToken(query string) string {
	for part := range strings.SplitSeq(query, "&") {
		if _, value, _ := strings.Cut(part, "="); name(part) == "access_token" && value != "" {
			if plain, err := url.QueryUnescape(value); err == nil {
				return plain
			}
			return value
		}
	}
	return ""
}

func otherParams(query string) string {
	var parts []string
	for part := range strings.SplitSeq(query, "&") {
		if name(part) != "access_token" && part != "" {
			parts = append(parts, part)
		}
	}
	return strings.Join(parts, "&")
}

// However a server spells a token in a Location, and wherever it puts it: what
// leaves Hosts, decoded as often as anyone may decode it, has no token in it. A
// Location without one stays as it is.
func FuzzTransportLocation(f *testing.F) {
	const token = "Marked-Token_0123456789"
	for where := range uint8(6) {
		f.Add("", "", []byte{0}, where)
		f.Add("a=1&b=", "&c=%zz#", []byte{1, 0, 0, 2, 3, 1}, where)
		f.Add("%", "%41", []byte{2, 3, 2, 3}, where)
	}
	f.Fuzz(func(t *testing.T, before, after string, spelling []byte, where uint8) {
		if strings.ContainsAny(before+after, "\r\n\x00") || len(before+after) > 1000 {
			return
		}
		var spelled strings.Builder
		for i := range len(token) {
			how := byte(0)
			if len(spelling) > 0 {
				how = spelling[i%len(spelling)] % 4
			}
			switch how {
			case 0:
				spelled.WriteByte(token[i])
			case 1:
				fmt.Fprintf(&spelled, "%%%02X", token[i])
			case 2:
				fmt.Fprintf(&spelled, "%%%02x", token[i])
			case 3:
				fmt.Fprintf(&spelled, "%%25%02x", token[i])
			}
		}
		text := before + spelled.String() + after
		location := "https://other.example/" + []string{"?" + text, text, "#" + text, "?u=" + url.QueryEscape(text), "x/" + url.PathEscape(text) + "?y", "?" + before + after}[where%6]
		base := &platform{answers: []string{"{}"}, status: http.StatusFound, header: http.Header{"Location": {location}}}
		resp, err := (&wxtoken.Transport{Source: &rotatingSource{first: token}, Base: base}).RoundTrip(get(t, apiURL))
		require.NoError(t, err)
		got := resp.Header.Get("Location")
		for range 5 {
			require.NotContains(t, got, token)
			got = percent.ReplaceAllStringFunc(got, func(s string) string {
				plain, _ := url.PathUnescape(s)
				return plain
			})
		}
		if where%6 == 5 && !strings.ContainsAny(before+after, "%-_") {
			require.Equal(t, location, resp.Header.Get("Location"))
		}
	})
}

var percent = regexp.MustCompile("%[0-9a-fA-F]{2}")
