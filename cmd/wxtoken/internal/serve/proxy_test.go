package serve

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/wxtoken/wxtoken"
	"github.com/wxtoken/wxtoken/wxtest"
)

// call sends a request through the proxy as blog and returns the whole answer.
func (r *running) call(method, path string, body io.Reader, header ...string) (*http.Response, string) {
	r.t.Helper()
	req, err := http.NewRequest(method, r.url+path, body)
	require.NoError(r.t, err)
	req.Header.Set("Authorization", "Bearer "+blogSecret)
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := (&http.Transport{DisableKeepAlives: true, DisableCompression: true}).RoundTrip(req)
	require.NoError(r.t, err)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	require.NoError(r.t, err)
	return resp, string(text)
}

func TestTheProxyAddsTheTokenAndChangesNothing(t *testing.T) {
	platform := fakePlatform(t)
	var seen *http.Request
	var seenBody string
	packed := new(bytes.Buffer)
	z := gzip.NewWriter(packed)
	_, _ = z.Write([]byte("a picture"))
	_ = z.Close()
	platform.Handle("/wxa/business", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		seen, seenBody = r, string(body)
		h := w.Header()
		h.Set("Content-Encoding", "gzip")
		h.Set("X-Platform", "as it is")
		h.Add("Set-Cookie", "a=1")
		h.Add("Set-Cookie", "b=2")
		h["Content-Type"] = nil // sometimes the platform sends none
		w.WriteHeader(http.StatusTeapot)
		_, _ = w.Write(packed.Bytes())
	}))
	c := testConfig(platform)
	c.Clients[1].Proxy = []string{"/wxa/*"}
	srv := start(t, c)
	token := srv.token()

	resp, text := srv.call("POST", "/proxy/wx1/wxa/business?a=%2F&access_token=old&b=1&acc%65ss_token=x", strings.NewReader(`{"x":1}`),
		"Content-Type", "application/json", "X-Own", "kept", "Cookie", "session=hush", "Accept-Encoding", "gzip", "X-Forwarded-For", "192.0.2.1")
	assert.Equal(t, http.StatusTeapot, resp.StatusCode)
	assert.Equal(t, packed.String(), text)
	assert.Equal(t, "gzip", resp.Header.Get("Content-Encoding"))
	assert.Equal(t, "as it is", resp.Header.Get("X-Platform"))
	assert.Equal(t, []string{"a=1", "b=2"}, resp.Header.Values("Set-Cookie"))
	assert.NotContains(t, resp.Header, "Content-Type")
	for name := range resp.Header {
		assert.Contains(t, []string{"Content-Encoding", "X-Platform", "Set-Cookie", "Content-Length", "Date", "Connection"}, name)
	}
	assert.Equal(t, "POST", seen.Method)
	assert.Equal(t, `{"x":1}`, seenBody)
	assert.Equal(t, "a=%2F&b=1&access_token="+token, seen.URL.RawQuery)
	assert.Equal(t, "kept", seen.Header.Get("X-Own"))
	for _, name := range []string{"Authorization", "Cookie", "X-Forwarded-For", "Accept-Encoding"} {
		assert.NotContains(t, seen.Header, name)
	}
	assert.Equal(t, strings.TrimPrefix(platform.URL, "http://"), seen.Host)
	assert.NotContains(t, srv.out.String(), token)
}

func TestTheProxyReplacesARejectedToken(t *testing.T) {
	t.Parallel()
	platform := fakePlatform(t)
	srv := start(t, testConfig(platform), wxtoken.WithFetchTimeout(2*time.Second))
	first := srv.token()
	platform.Revoke(first)
	time.Sleep(300 * time.Millisecond)
	_, text := srv.call("GET", "/proxy/wx1/cgi-bin/get_api_domain_ip", nil)
	assert.Contains(t, text, "ip_list")
	second := srv.token()
	assert.NotEqual(t, first, second)

	platform.Revoke(second)
	time.Sleep(4200 * time.Millisecond) // rejections in a row are believed later
	_, text = srv.call("POST", "/proxy/wx1/cgi-bin/message/custom/send", strings.NewReader(`{"to":"你"}`))
	assert.Contains(t, text, `"echo":{"to":"你"}`, "a small body is resent")
	assert.Equal(t, 3, platform.Stats().Results[wxtest.TokenPath].Total())
}

func TestWhatTheProxyRejects(t *testing.T) {
	platform := fakePlatform(t)
	asked := 0
	count := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { asked++ })
	for _, path := range []string{"/cgi-bin/message/send", "/wxa/getwxacode", "/cgi-bin/message/../user/get", "/cgi-bin/user/get", "/cgi-bin/component/api_component_token"} {
		platform.Handle(path, count)
	}
	c := testConfig(platform)
	no := false
	c.Clients[1].Proxy = []string{"/cgi-bin/message/*", "/wxa/getwxacode"}
	c.Clients[1].Tokens = &no
	c.Clients[0].Proxy = []string{"/*"}
	srv := start(t, c)
	tests := map[string]struct {
		secret, path    string
		status, errcode int
	}{
		"a path below an allowed one": {blogSecret, "/proxy/wx1/cgi-bin/message/send", 200, 0},
		"an allowed path":             {blogSecret, "/proxy/wx2/wxa/getwxacode", 200, 0},
		"another path":                {blogSecret, "/proxy/wx1/cgi-bin/user/get", 403, 48001},
		"the parent":                  {blogSecret, "/proxy/wx1/cgi-bin/message", 403, 48001},
		"below an allowed path":       {blogSecret, "/proxy/wx1/wxa/getwxacode/x", 403, 48001},
		"a path that climbs":          {blogSecret, "/proxy/wx1/cgi-bin/message/../user/get", 403, 48001},
		"one that climbs, encoded":    {blogSecret, "/proxy/wx1/cgi-bin/message/%2e%2e/user/get", 403, 48001},
		"one that climbs by a slash":  {blogSecret, "/proxy/wx1/cgi-bin/message/..%2fuser/get", 403, 48001},
		"two slashes":                 {blogSecret, "/proxy/wx1/cgi-bin/message//send", 403, 48001},
		"a backslash":                 {blogSecret, `/proxy/wx1/cgi-bin/message/..%5cuser/get`, 403, 48001},
		"a semicolon":                 {blogSecret, `/proxy/wx1/cgi-bin/message/;/send`, 403, 48001},
		"no path":                     {blogSecret, "/proxy/wx1", 403, 48001},
		"token":                       {shopSecret, "/proxy/wx1/cgi-bin/token", 403, 48001},
		"Token":                       {shopSecret, "/proxy/wx1/cgi-bin/Token", 403, 48001},
		"token/":                      {shopSecret, "/proxy/wx1/cgi-bin/token/", 403, 48001},
		"stable_token":                {shopSecret, "/proxy/wx1/cgi-bin/stable_token", 403, 48001},
		"gettoken":                    {shopSecret, "/proxy/wx1/cgi-bin/gettoken", 403, 48001},
		"getToken of QQ":              {shopSecret, "/proxy/wx1/api/getToken", 403, 48001},
		"a component's":               {shopSecret, "/proxy/wx1/cgi-bin/component/api_component_token", 403, 48001},
		"a user's":                    {shopSecret, "/proxy/wx1/sns/oauth2/access_token", 403, 48001},
		"an app of others":            {shopSecret, "/proxy/wx2/cgi-bin/message/send", 403, 40013},
		"no app":                      {shopSecret, "/proxy/", 400, 41002},
		"a wrong secret":              {"wrong", "/proxy/wx1/cgi-bin/message/send", 401, 40125},
		"a token, not allowed":        {blogSecret, "/token?appid=wx1", 403, 40013},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			before := asked
			a := srv.do("GET", test.path, test.secret, "")
			assert.Equal(t, test.status, a.Status, a.Errmsg)
			assert.Equal(t, test.errcode, a.Errcode, a.Errmsg)
			assert.Equal(t, test.status == 200, asked > before)
		})
	}
	assert.Equal(t, 40013, srv.do("GET", plainPath("wx1", blogSecret), "", "").Errcode)
	assert.Zero(t, platform.Stats().Results["/cgi-bin/component/api_component_token"].Total())
}

// The first bytes of an answer reach the client before the last ones exist, and those
// of a request reach the platform in the same way.
func TestTheProxyStreamsBothWays(t *testing.T) {
	platform := fakePlatform(t)
	more := make(chan bool, 1)
	platform.Handle("/cgi-bin/echo", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).EnableFullDuplex()
		lines := bufio.NewScanner(r.Body)
		for lines.Scan() {
			fmt.Fprintf(w, "%s back\n", lines.Text())
			_ = http.NewResponseController(w).Flush()
		}
		more <- true
	}))
	srv := start(t, testConfig(platform))
	read, write := io.Pipe()
	req, err := http.NewRequest("POST", srv.url+"/proxy/wx1/cgi-bin/echo", read)
	require.NoError(t, err)
	req.Header.Set("Authorization", "Bearer "+blogSecret)
	go func() { _, _ = io.WriteString(write, "one\n") }()
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	require.True(t, lines.Scan())
	assert.Equal(t, "one back", lines.Text())
	_, _ = io.WriteString(write, "two\n")
	require.True(t, lines.Scan())
	assert.Equal(t, "two back", lines.Text())
	_ = write.Close()
	assert.False(t, lines.Scan())
	<-more
}

// A file is larger than any buffer.
func TestTheProxyPassesFiles(t *testing.T) {
	platform := fakePlatform(t)
	srv := start(t, testConfig(platform))
	file := bytes.Repeat([]byte("0123456789abcdef"), 1<<19) // 8 MiB
	platform.Handle("/cgi-bin/file", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		hash := sha256.New()
		_, _ = io.Copy(hash, r.Body)
		w.Header().Set("X-Sum", fmt.Sprintf("%x", hash.Sum(nil)))
		_, _ = w.Write(file)
	}))
	resp, text := srv.call("POST", "/proxy/wx1/cgi-bin/file", bytes.NewReader(file))
	assert.Equal(t, fmt.Sprintf("%x", sha256.Sum256(file)), resp.Header.Get("X-Sum"))
	assert.True(t, text == string(file))
}

func TestTheProxySaysWhyItDidNotAsk(t *testing.T) {
	platform := fakePlatform(t)
	platform.SetSecret("wx1", "another")
	srv := start(t, testConfig(platform))
	a := srv.do("GET", "/proxy/wx1/cgi-bin/get_api_domain_ip", blogSecret, "")
	assert.Equal(t, http.StatusServiceUnavailable, a.Status)
	assert.Equal(t, 40125, a.Errcode)
	assert.NotEmpty(t, a.Header.Get("Retry-After"))

	gone := httptest.NewServer(nil)
	gone.Close()
	platform.Inject(wxtest.LostReply().On(wxtest.BusinessCalls))
	a = srv.do("POST", "/proxy/wx2/cgi-bin/message/custom/send", blogSecret, "{}")
	assert.Equal(t, http.StatusBadGateway, a.Status)
	assert.Equal(t, -1, a.Errcode)
	assert.NotContains(t, srv.out.String(), platform.LatestStable("wx2"))
}
