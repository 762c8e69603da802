package wxtoken

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Marked values: no error may ever show them.
const (
	markedSecret = "MarkedSecret/with+odd&signs%\"0123456789"
	markedToken  = "MarkedToken_0123456789-abcdefghijklmnopqrstuvwxyz"
)

// noLeak searches every printed form of err, and of all that it wraps.
func noLeak(t *testing.T, err error) {
	t.Helper()
	if err == nil {
		return
	}
	text := fmt.Sprintf("%v\n%+v\n%#v\n%q", err, err, err, err)
	for _, marked := range []string{markedSecret, url.QueryEscape(markedSecret), url.PathEscape(markedSecret), "MarkedSecret", markedToken} {
		assert.NotContains(t, text, marked)
	}
	switch e := err.(type) {
	case interface{ Unwrap() error }:
		noLeak(t, e.Unwrap())
	case interface{ Unwrap() []error }:
		for _, inner := range e.Unwrap() {
			noLeak(t, inner)
		}
	}
}

// outcome names what the protocol makes of a fetch's error.
func outcome(err error) string {
	var refused *APIError
	var unsent *notSentError
	switch {
	case err == nil:
		return "issued"
	case errors.As(err, &refused):
		return "refused"
	case errors.As(err, &unsent):
		return "not sent"
	}
	return "unknown"
}

// serve starts a server that counts its requests.
func serve(t *testing.T, h http.HandlerFunc) (url string, requests *atomic.Int32) {
	t.Helper()
	requests = new(atomic.Int32)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests.Add(1)
		h(w, r)
	}))
	t.Cleanup(srv.Close)
	return srv.URL, requests
}

// answer serves one body for every request.
func answer(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

// refusing returns a base URL on which nothing listens.
func refusing(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	return "http://" + l.Addr().String()
}

// A roundTripper is a transport that tells nothing to httptrace.
type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func through(f roundTripper) FetcherOption { return WithHTTPClient(&http.Client{Transport: f}) }

func respond(status int, body string) *http.Response {
	return &http.Response{StatusCode: status, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(body))}
}

const goodAnswer = `{"access_token":"` + markedToken + `","expires_in":7200}`

func TestFetchRequests(t *testing.T) {
	var got *http.Request
	var body []byte
	base, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
		got = r
		body, _ = io.ReadAll(r.Body)
		answer(200, strings.Replace(goodAnswer, "access_token", map[bool]string{true: "ticket", false: "access_token"}[strings.Contains(r.URL.Path, "ticket")], 1))(w, r)
	})
	tests := map[string]struct {
		fetcher           *HTTPFetcher
		key, method, path string
		query             url.Values
		body              string
		repeatable        bool
	}{
		"token": {
			fetcher: NewFetcher("wx1", markedSecret, WithBaseURL(base)), key: "token:wx1",
			method: "GET", path: "/cgi-bin/token",
			query: url.Values{"grant_type": {"client_credential"}, "appid": {"wx1"}, "secret": {markedSecret}},
		},
		"stable": {
			fetcher: NewStableFetcher("wx1", "s3cret", WithBaseURL(base+"/proxy/")), key: "stable:wx1", repeatable: true,
			method: "POST", path: "/proxy/cgi-bin/stable_token", query: url.Values{},
			body: `{"appid":"wx1","grant_type":"client_credential","secret":"s3cret"}`,
		},
		"ticket": {
			fetcher: ticketFetcher(&fakeTokens{values: []string{"a+b"}}, "jsapi", WithBaseURL(base)),
			key:     "ticket:jsapi:token:wx1", repeatable: true,
			method: "GET", path: "/cgi-bin/ticket/getticket",
			query: url.Values{"type": {"jsapi"}, "access_token": {"a+b"}},
		},
		"wecom": {
			fetcher: NewWeComFetcher("ww1", markedSecret, WithBaseURL(base)), repeatable: true,
			key:    "wecom:ww1:" + NewWeComFetcher("ww1", markedSecret).fingerprint("wecom key"),
			method: "GET", path: "/cgi-bin/gettoken",
			query: url.Values{"corpid": {"ww1"}, "corpsecret": {markedSecret}},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			before := time.Now()
			tok, err := test.fetcher.Fetch(t.Context())
			require.NoError(t, err)
			assert.Equal(t, markedToken, tok.Value)
			assert.WithinRange(t, tok.ExpiresAt, before.Round(0).Add(2*time.Hour), time.Now().Add(2*time.Hour))
			assert.Equal(t, tok.ExpiresAt.Round(0), tok.ExpiresAt, "has a monotonic reading")
			assert.Equal(t, test.key, test.fetcher.Key())
			assert.NoError(t, checkKey(test.fetcher.Key()))
			assert.Equal(t, test.repeatable, test.fetcher.Repeatable())
			assert.Equal(t, test.method, got.Method)
			assert.True(t, got.Close, "the connection is kept open for hours")
			assert.Equal(t, test.path, got.URL.Path)
			assert.Equal(t, test.query, got.URL.Query())
			assert.Equal(t, test.body, string(body))
			if test.body != "" {
				assert.Equal(t, "application/json", got.Header.Get("Content-Type"))
			}
			assert.NotContains(t, fmt.Sprintf("%+v %#v", test.fetcher, *test.fetcher), "MarkedSecret")
		})
	}
}

func TestFetchDefaultHosts(t *testing.T) {
	var asked []string
	opt := through(func(r *http.Request) (*http.Response, error) {
		asked = append(asked, r.URL.Scheme+"://"+r.URL.Host)
		return respond(200, goodAnswer), nil
	})
	_, err := NewFetcher("wx1", "s", opt, WithBaseURL()).Fetch(t.Context())
	require.NoError(t, err)
	_, err = NewWeComFetcher("ww1", "s", opt, WithBaseURL()).Fetch(t.Context())
	require.NoError(t, err)
	assert.Equal(t, []string{"https://api.weixin.qq.com", "https://qyapi.weixin.qq.com"}, asked)
	assert.Equal(t, []string{"https://api.weixin.qq.com", "https://api2.weixin.qq.com", "https://sh.api.weixin.qq.com",
		"https://sz.api.weixin.qq.com", "https://hk.api.weixin.qq.com"}, weChatHosts())
}

func TestBadArguments(t *testing.T) {
	base, requests := serve(t, answer(200, goodAnswer))
	ok := WithBaseURL(base)
	tests := map[string]struct {
		fetcher *HTTPFetcher
		want    string
	}{
		"no appID":             {NewFetcher("", markedSecret, ok), "appID is empty"},
		"no secret":            {NewStableFetcher("wx1", "", ok), "secret is empty"},
		"newline after secret": {NewFetcher("wx1", markedSecret+"\n", ok), "secret holds a space"},
		"space before appID":   {NewStableFetcher(" wx1", markedSecret, ok), "appID holds a space"},
		"BOM before secret":    {NewFetcher("wx1", "\ufeff"+markedSecret, ok), "secret holds"},
		"no corpID":            {NewWeComFetcher("", markedSecret, ok), "corpID is empty"},
		"no corpsecret":        {NewWeComFetcher("ww1", "", ok), "secret is empty"},
		"ticket kind":          {ticketFetcher(&fakeTokens{values: []string{markedToken}}, "js", ok), `"js"`},
		"URL without scheme":   {NewFetcher("wx1", markedSecret, WithBaseURL(base, "api.weixin.qq.com")), "URL 2"},
		"URL of ftp":           {NewFetcher("wx1", markedSecret, WithBaseURL("ftp://host")), "URL 1"},
		"URL without host":     {NewFetcher("wx1", markedSecret, WithBaseURL("https://:443/")), "URL 1"},
		"URL with query":       {NewFetcher("wx1", markedSecret, WithBaseURL("https://host/?secret="+url.QueryEscape(markedSecret))), "URL 1"},
		"URL with password":    {NewFetcher("wx1", markedSecret, WithBaseURL("https://me:MarkedSecret@host")), "URL 1"},
		"URL unreadable":       {NewFetcher("wx1", markedSecret, WithBaseURL("https://MarkedSecret host/%zz")), "URL 1"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := test.fetcher.Fetch(t.Context())
			require.ErrorContains(t, err, test.want)
			assert.ErrorContains(t, err, "nothing was sent")
			assert.True(t, strings.HasPrefix(err.Error(), "wxtoken: "), err)
			assert.Equal(t, "not sent", outcome(err))
			noLeak(t, err)
		})
	}
	assert.Zero(t, requests.Load())
}

func TestBadAnswers(t *testing.T) {
	redirect := func(to string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Location", to+"?"+r.URL.RawQuery)
			w.WriteHeader(http.StatusFound)
		}
	}
	raw := func(reply string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			conn, _, err := w.(http.Hijacker).Hijack()
			if err == nil {
				_, _ = io.WriteString(conn, reply)
				_ = conn.Close()
			}
		}
	}
	tests := map[string]struct {
		serve http.HandlerFunc
		want  string
	}{
		"empty":                 {answer(200, ""), "not a JSON object"},
		"truncated":             {answer(200, goodAnswer[:40]), "not a JSON object"},
		"trailing garbage":      {answer(200, goodAnswer+"}"), "not a JSON object"},
		"HTML":                  {answer(200, "<html>\x00 Log in"), `"<html>\x00 Log in"`},
		"array":                 {answer(200, "["+goodAnswer+"]"), "not a JSON object"},
		"null":                  {answer(200, "null"), "access_token is missing"},
		"no fields":             {answer(200, "{}"), "access_token is missing"},
		"errcode 0 alone":       {answer(200, `{"errcode":0,"errmsg":"ok"}`), "access_token is missing"},
		"unreadable errcode":    {answer(200, `{"errcode":{}}`), "errcode is not"},
		"fractional errcode":    {answer(200, `{"errcode":1.5}`), "errcode is not"},
		"huge errcode":          {answer(200, `{"errcode":1e12}`), "errcode is not"},
		"token empty":           {answer(200, `{"access_token":"","expires_in":7200}`), `{\"access_token\":\"\",`},
		"token not a string":    {answer(200, `{"access_token":1,"expires_in":7200}`), "access_token is missing"},
		"token with a space":    {answer(200, `{"access_token":"`+markedToken+` x","expires_in":7200}`), "access_token is over 4096 bytes, or holds a space"},
		"token with a newline":  {answer(200, `{"access_token":"MarkedToken\n0","expires_in":7200}`), "holds a space"},
		"token not ASCII":       {answer(200, `{"access_token":"MarkedToken\u00e9","expires_in":7200}`), "holds a space"},
		"token too long":        {answer(200, `{"access_token":"`+strings.Repeat("x", 4097)+`","expires_in":7200}`), "over 4096 bytes"},
		"no expires_in":         {answer(200, `{"access_token":"`+markedToken+`"}`), "expires_in is not a whole number of seconds from 1 to 2592000"},
		"server error":          {answer(502, "<html>"), "HTTP 502"},
		"server error, token":   {answer(500, goodAnswer), "HTTP 500"},
		"forbidden":             {answer(403, "go away"), `HTTP 403: no success and no errcode; the answer begins with "go away"`},
		"redirect":              {redirect("https://evil.example/x"), "redirect to evil.example, which is not followed"},
		"redirect to nonsense":  {redirect("http://%zz"), "redirect"},
		"broken header":         {raw(goodAnswer + "\n\n"), "no answer"},
		"broken header, secret": {raw("HTTP/1.1 " + markedSecret + "\r\n\r\n"), "no answer"},
		"short body":            {raw("HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n" + goodAnswer), "no answer"},
		"hang-up":               {raw(""), "EOF"},
		"echo": {func(w http.ResponseWriter, r *http.Request) {
			_, _ = fmt.Fprintf(w, "cannot parse %s / %s / %q", r.RequestURI, r.FormValue("secret"), "secret: "+r.FormValue("secret"))
		}, "not a JSON object"},
		"endless": {func(w http.ResponseWriter, r *http.Request) {
			for err := error(nil); err == nil && r.Context().Err() == nil; {
				_, err = w.Write([]byte(strings.Repeat(markedToken+" ", 100)))
			}
		}, "over 65536 bytes"},
	}
	for _, value := range []string{`0`, `-1`, `"0"`, `""`, `"x"`, `" "`, `"0x1c20"`, `"7200s"`, `7200.5`, `"7200.5"`, `1e99`, `1e400`, `"NaN"`, `"Inf"`, `2592001`, `null`, `true`, `[7200]`} {
		tests["expires_in "+value] = struct {
			serve http.HandlerFunc
			want  string
		}{answer(200, `{"access_token":"`+markedToken+`","expires_in":`+value+`}`), "expires_in is not a whole number"}
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			base, requests := serve(t, test.serve)
			tok, err := NewFetcher("wx1", markedSecret, WithBaseURL(base, base)).Fetch(t.Context())
			require.ErrorContains(t, err, test.want)
			assert.True(t, strings.HasPrefix(err.Error(), "wxtoken: /cgi-bin/token at 127.0.0.1:"), err)
			assert.Equal(t, "unknown", outcome(err))
			assert.Zero(t, tok)
			assert.Less(t, len(err.Error()), 600)
			assert.NotContains(t, err.Error(), "MarkedToken")
			assert.EqualValues(t, 1, requests.Load(), "asked again, although the first request may have been answered")
			noLeak(t, err)
		})
	}
}

func TestGoodAnswers(t *testing.T) {
	for name, test := range map[string]struct {
		body string
		want time.Duration
	}{
		"plain":           {goodAnswer, 2 * time.Hour},
		"byte order mark": {"\ufeff" + goodAnswer, 2 * time.Hour},
		"errcode 0":       {`{"errcode":0,"errmsg":"ok","access_token":"` + markedToken + `","expires_in":7200}` + "\r\n", 2 * time.Hour},
		"string":          {`{"access_token":"` + markedToken + `","expires_in":"300"}`, 5 * time.Minute},
		"7200.0":          {`{"access_token":"` + markedToken + `","expires_in":7200.0}`, 2 * time.Hour},
		"7.2e3":           {`{"access_token":"` + markedToken + `","expires_in":7.2e3}`, 2 * time.Hour},
		"thirty days":     {`{"access_token":"` + markedToken + `","expires_in":2592000}`, maxLifetime},
		"quoted errcode":  {`{"errcode":"0","access_token":"` + markedToken + `","expires_in":1}`, time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			value, lifetime, err := decodeAnswer([]byte(test.body), "access_token")
			require.NoError(t, err)
			assert.Equal(t, markedToken, value)
			assert.Equal(t, test.want, lifetime)
		})
	}
}

func TestRefusals(t *testing.T) {
	for name, test := range map[string]struct {
		status int
		body   string
		want   APIError
	}{
		"plain":           {200, `{"errcode":40013,"errmsg":"invalid appid rid: 6aac005a-01bfdbee-79769285"}`, APIError{40013, "invalid appid rid: 6aac005a-01bfdbee-79769285"}},
		"quoted code":     {200, `{"errcode":"40164"}`, APIError{40164, ""}},
		"status 500":      {500, `{"errcode":50004,"errmsg":"frozen"}`, APIError{50004, "frozen"}},
		"status 412":      {412, `{"errcode":41002,"errmsg":null}`, APIError{41002, ""}},
		"secret, plain":   {200, `{"errcode":40125,"errmsg":"bad MarkedSecret/with+odd&signs%\"0123456789!"}`, APIError{40125, "bad ***!"}},
		"secret, URL":     {200, `{"errcode":40125,"errmsg":"bad ` + url.QueryEscape(markedSecret) + `!"}`, APIError{40125, "bad ***!"}},
		"control bytes":   {200, `{"errcode":40125,"errmsg":"bad\r\n\u001b[31m level=ERROR"}`, APIError{40125, "bad [31m level=ERROR"}},
		"long":            {200, `{"errcode":40125,"errmsg":"` + strings.Repeat("字", 1000) + `"}`, APIError{40125, strings.Repeat("字", 512)}},
		"with a token":    {200, `{"errcode":40125,"access_token":"` + markedToken + `","expires_in":7200}`, APIError{40125, ""}},
		"errmsg a number": {200, `{"errcode":40125,"errmsg":7}`, APIError{40125, ""}},
	} {
		t.Run(name, func(t *testing.T) {
			base, requests := serve(t, answer(test.status, test.body))
			_, err := NewFetcher("wx1", markedSecret, WithBaseURL(base, base)).Fetch(t.Context())
			var refused *APIError
			require.ErrorAs(t, err, &refused)
			assert.Equal(t, test.want, *refused)
			assert.EqualValues(t, 1, requests.Load())
			noLeak(t, err)
		})
	}
}
