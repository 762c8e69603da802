package wxtoken_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/wxtoken/wxtoken"
	"github.com/wxtoken/wxtoken/wxtest"
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

func TestTransportQuery(t *testing.T) {
	for _, tc := range []struct{ query, sent, replayed, rejected string }{
		{"", "access_token=token-1", "access_token=token-2", "token-1"},
		{"a=1", "a=1&access_token=token-1", "a=1&access_token=token-2", "token-1"},
		{"b=%2f+&a=;x&a=%zz&&c", "b=%2f+&a=;x&a=%zz&&c&access_token=token-1", "b=%2f+&a=;x&a=%zz&&c&access_token=token-2", "token-1"},
		{"a=1&access_token=&b=2", "a=1&access_token=token-1&b=2", "a=1&access_token=token-2&b=2", "token-1"},
		{"access_token", "access_token=token-1", "access_token=token-2", "token-1"},
		{"access_token=old&b=%7E", "access_token=old&b=%7E", "access_token=token-1&b=%7E", "old"},
		{"access_token=o%2dd", "access_token=o%2dd", "access_token=token-1", "o-d"},
		{"access%5Ftoken=old", "access%5Ftoken=old", "access%5Ftoken=token-1", "old"},
		{"access_token=%zz", "access_token=%zz", "access_token=token-1", "%zz"},
		{"access_token=&access_token=old", "access_token=&access_token=old", "access_token=&access_token=token-1", "old"},
		{"access_token=x&access_token=y", "access_token=x&access_token=y", "access_token=token-1&access_token=y", "x"},
		{"my_access_token=x&a=access_token=y", "my_access_token=x&a=access_token=y&access_token=token-1", "my_access_token=x&a=access_token=y&access_token=token-2", "token-1"},
	} {
		t.Run(tc.query, func(t *testing.T) {
			base, src := &platform{answers: []string{refusal, `{"ok":1}`}}, &rotatingSource{}
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
			base, src := &platform{answers: []string{refusal}}, &rotatingSource{}
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
			require.Len(t, base.sent, 1, "a refusal of another host is not acted on")
			assert.Same(t, req, base.sent[0], "passed on untouched")
			assert.Zero(t, src.asked)
		})
	}
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
			base, src := &platform{answers: []string{refusal}}, &rotatingSource{}
			resp, err := (&wxtoken.Transport{Source: src, Base: base}).RoundTrip(req)
			require.NoError(t, err)
			assert.Equal(t, refusal, readAll(t, resp), "the second refusal is the caller's")
			require.Len(t, base.sent, 2, "never more than one replay")
			assert.Equal(t, base.bodies[0], base.bodies[1])
			assert.Equal(t, []string{"token-1"}, src.rejected)
		})
	}
	t.Run("not replayable", func(t *testing.T) {
		base, src := &platform{answers: []string{refusal, "{}"}}, &rotatingSource{}
		tr := &wxtoken.Transport{Source: src, Base: base}
		resp, err := tr.RoundTrip(post(io.MultiReader(strings.NewReader("hello"))))
		require.NoError(t, err)
		assert.Equal(t, refusal, readAll(t, resp))
		assert.Equal(t, []string{"hello"}, base.bodies)

		_, err = tr.RoundTrip(post(io.MultiReader(strings.NewReader("hello"))))
		require.NoError(t, err)
		assert.Equal(t, "access_token=token-2", base.queries()[1], "the next call is good")
	})
	t.Run("GetBody fails", func(t *testing.T) {
		base, src := &platform{answers: []string{refusal}}, &rotatingSource{}
		req := post(strings.NewReader("hello"))
		req.GetBody = func() (io.ReadCloser, error) { return nil, errors.New("file is gone") }
		resp, err := (&wxtoken.Transport{Source: src, Base: base}).RoundTrip(req)
		require.NoError(t, err)
		assert.Equal(t, refusal, readAll(t, resp))
		assert.Len(t, base.sent, 1)
	})
}

// Which answers make the Transport send again; all reach the caller in full.
func TestTransportFindsErrcode(t *testing.T) {
	long := strings.Repeat("x", 70<<10)
	for name, tc := range map[string]struct {
		body string
		want bool
	}{
		"40001":                {refusal, true},
		"40014":                {`{"errcode":40014}`, true},
		"42001":                {`{"errmsg":"access_token expired","errcode": 42001 }`, true},
		"BOM and space":        {"\ufeff \r\n\t" + refusal, true},
		"after nested":         {`{"a":{"errcode":0},"b":[{"errcode":0}],"errcode":40001}`, true},
		"escaped key":          {`{"err\u0063ode":40001}`, true},
		"cut off after it":     {`{"errcode":40001,"errmsg":"inv`, true},
		"long, near the start": {`{"errcode":40001,"a":"` + long + `"}`, true},
		"ok":                   {`{"errcode":0,"errmsg":"ok"}`, false},
		"42007":                {`{"errcode":42007}`, false},
		"45009":                {`{"errcode":45009}`, false},
		"more digits":          {`{"errcode":400014}`, false},
		"nested":               {`{"a":{"errcode":40001}}`, false},
		"in an array":          {`[{"errcode":40001}]`, false},
		"in a string":          {`{"a":"\"errcode\":40001,"}`, false},
		"other case":           {`{"ErrCode":40001}`, false},
		"a string":             {`{"errcode":"40001"}`, false},
		"null":                 {`{"errcode":null}`, false},
		"cut off within it":    {`{"errcode":40001`, false},
		"past 64 KiB":          {`{"a":"` + long + `","errcode":40001}`, false},
		"split by 64 KiB":      {`{"a":"` + long[:(64<<10)-23] + `","errcode":400012}`, false},
		"space past 64 KiB":    {strings.Repeat(" ", 64<<10) + refusal, false},
		"HTML":                 {"<html>" + refusal, false},
		"binary":               {"\xff\xd8\xff" + refusal, false},
		"half a BOM":           {"\xef", false},
		"empty":                {"", false},
		"broken":               {`{"a" "errcode":40001}`, false},
		"not an object":        {"{", false},
	} {
		t.Run(name, func(t *testing.T) {
			base, src := &platform{answers: []string{tc.body}}, &rotatingSource{}
			resp, err := (&wxtoken.Transport{Source: src, Base: base}).RoundTrip(get(t, apiURL))
			require.NoError(t, err)
			assert.Equal(t, tc.body, readAll(t, resp))
			assert.EqualValues(t, len(tc.body), resp.ContentLength)
			if tc.want {
				assert.Equal(t, []string{"token-1"}, src.rejected)
				assert.Len(t, base.sent, 2)
			} else {
				assert.Empty(t, src.rejected)
				assert.Len(t, base.sent, 1)
			}
		})
	}
}

func TestTransportKeepsTheBodysError(t *testing.T) {
	cut := errors.New("connection reset")
	base := baseFunc(func(req *http.Request) (*http.Response, error) {
		body := io.MultiReader(strings.NewReader(`{"a":1,`), iotest.ErrReader(cut))
		return &http.Response{StatusCode: 200, Body: io.NopCloser(body)}, nil
	})
	resp, err := (&wxtoken.Transport{Source: &rotatingSource{}, Base: base}).RoundTrip(get(t, apiURL))
	require.NoError(t, err)
	text, err := io.ReadAll(resp.Body)
	assert.Equal(t, `{"a":1,`, string(text))
	assert.ErrorIs(t, err, cut)
}

type baseFunc func(*http.Request) (*http.Response, error)

func (f baseFunc) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

func TestTransportSource(t *testing.T) {
	t.Run("flapping: the same token is tried again", func(t *testing.T) {
		base, src := &platform{answers: []string{refusal, "{}"}}, &rotatingSource{invalidateErr: errors.New("cache down")}
		resp, err := (&wxtoken.Transport{Source: src, Base: base}).RoundTrip(get(t, apiURL))
		require.NoError(t, err)
		assert.Equal(t, "{}", readAll(t, resp))
		assert.Equal(t, []string{"access_token=token-1", "access_token=token-1"}, base.queries())
	})
	t.Run("no fresh token: the refusal is given as it came", func(t *testing.T) {
		base, src := &platform{answers: []string{refusal}}, &rotatingSource{failFrom: 2}
		resp, err := (&wxtoken.Transport{Source: src, Base: base}).RoundTrip(get(t, apiURL))
		require.NoError(t, err)
		assert.False(t, base.closed[0])
		assert.Equal(t, refusal, readAll(t, resp))
		assert.Len(t, base.sent, 1)
	})
	t.Run("without Invalidate: nothing is looked into", func(t *testing.T) {
		base := &platform{answers: []string{refusal}}
		src := tokenFunc(func(context.Context) (wxtoken.Token, error) { return wxtoken.Token{Value: "t"}, nil })
		resp, err := (&wxtoken.Transport{Source: src, Base: base}).RoundTrip(get(t, apiURL))
		require.NoError(t, err)
		assert.IsType(t, &closeSpy{}, resp.Body)
		assert.Len(t, base.sent, 1)
	})
	t.Run("a token of the caller's is not asked for", func(t *testing.T) {
		base, src := &platform{answers: []string{"{}"}}, &rotatingSource{failFrom: 1}
		_, err := (&wxtoken.Transport{Source: src, Base: base}).RoundTrip(get(t, apiURL+"?access_token=mine"))
		require.NoError(t, err)
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
			"wxtoken: request not sent, the Transport's Source gave no token: no luck"},
		"empty": {tokenFunc(func(context.Context) (wxtoken.Token, error) { return wxtoken.Token{}, nil }),
			"wxtoken: request not sent, the Transport's Source gave no token: its Token is empty"},
	} {
		t.Run(name, func(t *testing.T) {
			base, closed := &platform{}, false
			req := get(t, apiURL+"?secret=1")
			req.Body = &closeSpy{strings.NewReader("x"), func() { closed = true }}
			_, err := (&wxtoken.Transport{Source: tc.src, Base: base}).RoundTrip(req)
			assert.EqualError(t, err, tc.want)
			assert.Equal(t, name == "error", errors.Is(err, cause))
			assert.True(t, closed, "request body")
			assert.Empty(t, base.sent)
		})
	}
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
		base := &platform{err: &url.Error{Op: "Get", URL: apiURL + "?access_token=token-1", Err: cause}}
		_, err := (&http.Client{Transport: &wxtoken.Transport{Source: &rotatingSource{}, Base: base}}).Get(apiURL)
		assert.ErrorIs(t, err, cause)
		for _, verb := range []string{"%v", "%+v", "%#v", "%q"} {
			assert.NotContains(t, fmt.Sprintf(verb, err), "token-1")
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
				base := &platform{answers: []string{refusal}}
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
				assert.Equal(t, refusal, readAll(t, resp))
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

// serve runs handler on loopback and gives a client that holds token-1 for it.
func serve(t *testing.T, handler http.HandlerFunc) (client *http.Client, url string, src *rotatingSource) {
	t.Helper()
	srv := httptest.NewServer(handler)
	t.Cleanup(srv.Close)
	src = &rotatingSource{}
	client = &http.Client{Transport: &wxtoken.Transport{Source: src, Hosts: []string{"127.0.0.1"}, Base: srv.Client().Transport}}
	return client, srv.URL, src
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
			_, _ = io.WriteString(z, refusal)
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
	assert.Equal(t, refusal, string(text), "compressed for the caller: not looked into")

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

// The refused answer is drained, so that its connection serves the replay.
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
			_, _ = io.WriteString(w, refusal)
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
		for _, base := range []*platform{{answers: []string{refusal}}, {answers: []string{"{}"}}, {err: errors.New("reset")}} {
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

// issuer gets its tokens from the fake platform, by way of nobody's secret.
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
// name, before and after a token dies.
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
	srv.Inject(wxtest.Refusal(42007).On(wxtest.BusinessCalls))
	before := srv.Latest("wx1")
	resp, err := client.Get(apiURL)
	require.NoError(t, err)
	assert.Contains(t, readAll(t, resp), "42007")
	assert.Equal(t, before, srv.Latest("wx1"))
}
