package wxtoken

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/wxtoken/wxtoken/internal/fetchtest"
	"github.com/wxtoken/wxtoken/internal/protocol"
	"github.com/wxtoken/wxtoken/internal/store"
	"github.com/wxtoken/wxtoken/wxtest"
)

// outcome names what the protocol makes of a fetch's error.
func outcome(err error) string {
	names := [...]string{protocol.Issued: "issued", protocol.Denied: "refused", protocol.Unsent: "not sent", protocol.Unknown: "unknown"}
	return names[resultOf(Token{}, time.Time{}, err).Outcome]
}

func TestFetchRequests(t *testing.T) {
	var got *http.Request
	var body []byte
	base, _ := fetchtest.Serve(t, func(w http.ResponseWriter, r *http.Request) {
		got = r
		body, _ = io.ReadAll(r.Body)
		answer := fetchtest.Good
		if strings.HasSuffix(r.URL.Path, "/getticket") {
			answer = strings.Replace(answer, "access_token", "ticket", 1)
		}
		fetchtest.Answer(200, answer)(w, r)
	})
	tests := map[string]struct {
		fetcher           *HTTPFetcher
		key, method, path string
		query             url.Values
		body              string
		repeatable        bool
	}{
		"token": {
			fetcher: NewFetcher("wx1", fetchtest.Secret, WithBaseURL(base)), key: "token:wx1",
			method: "GET", path: "/cgi-bin/token",
			query: url.Values{"grant_type": {"client_credential"}, "appid": {"wx1"}, "secret": {fetchtest.Secret}},
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
			fetcher: NewWeComFetcher("ww1", fetchtest.Secret, WithBaseURL(base)), repeatable: true,
			key:    "wecom:ww1:" + NewWeComFetcher("ww1", fetchtest.Secret).fingerprint("wecom key"),
			method: "GET", path: "/cgi-bin/gettoken",
			query: url.Values{"corpid": {"ww1"}, "corpsecret": {fetchtest.Secret}},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			before := time.Now()
			tok, err := test.fetcher.Fetch(t.Context())
			require.NoError(t, err)
			assert.Equal(t, fetchtest.Token, tok.Value)
			assert.WithinRange(t, tok.ExpiresAt, before.Round(0).Add(2*time.Hour), time.Now().Add(2*time.Hour))
			assert.Equal(t, tok.ExpiresAt.Round(0), tok.ExpiresAt, "has a monotonic reading")
			assert.Equal(t, test.key, test.fetcher.Key())
			assert.NoError(t, store.CheckKey(test.fetcher.Key()))
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

func TestFetchDefaults(t *testing.T) {
	weChat := []string{"https://api.weixin.qq.com", "https://api2.weixin.qq.com",
		"https://sh.api.weixin.qq.com", "https://sz.api.weixin.qq.com", "https://hk.api.weixin.qq.com"}
	assert.Equal(t, weChat, NewFetcher("wx1", "s", WithBaseURL()).endpoint.Hosts)
	assert.Equal(t, weChat, NewStableFetcher("wx1", "s").endpoint.Hosts)
	assert.Equal(t, weChat, ticketFetcher(&fakeTokens{}, "jsapi").endpoint.Hosts)
	assert.Equal(t, []string{"https://qyapi.weixin.qq.com"}, NewWeComFetcher("ww1", "s", WithBaseURL()).endpoint.Hosts)

	synctest.Test(t, func(t *testing.T) {
		p := wxtest.NewPlatform(wxtest.WithApp("wx1", fetchtest.Secret))
		p.Inject(wxtest.Latency(time.Minute))
		start := time.Now()
		_, err := NewFetcher("wx1", fetchtest.Secret, WithHTTPClient(p.Client())).Fetch(context.Background())
		assert.ErrorIs(t, err, context.DeadlineExceeded)
		assert.Equal(t, 10*time.Second, time.Since(start))
	})
}

func TestBadArguments(t *testing.T) {
	base, requests := fetchtest.Serve(t, fetchtest.Answer(200, fetchtest.Good))
	ok := WithBaseURL(base)
	tests := map[string]struct {
		fetcher *HTTPFetcher
		want    string
	}{
		"no appID":             {NewFetcher("", fetchtest.Secret, ok), "appID is empty"},
		"no secret":            {NewStableFetcher("wx1", "", ok), "secret is empty"},
		"newline after secret": {NewFetcher("wx1", fetchtest.Secret+"\n", ok), "secret holds a space"},
		"space before appID":   {NewStableFetcher(" wx1", fetchtest.Secret, ok), "appID holds a space"},
		"BOM before secret":    {NewFetcher("wx1", "\ufeff"+fetchtest.Secret, ok), "secret holds"},
		"no corpID":            {NewWeComFetcher("", fetchtest.Secret, ok), "corpID is empty"},
		"no corpsecret":        {NewWeComFetcher("ww1", "", ok), "secret is empty"},
		"ticket kind":          {ticketFetcher(&fakeTokens{values: []string{fetchtest.Token}}, "js", ok), `"js"`},
		"URL without scheme":   {NewFetcher("wx1", fetchtest.Secret, WithBaseURL(base, "api.weixin.qq.com")), "URL 2"},
		"URL of ftp":           {NewFetcher("wx1", fetchtest.Secret, WithBaseURL("ftp://host")), "URL 1"},
		"URL without host":     {NewFetcher("wx1", fetchtest.Secret, WithBaseURL("https://:443/")), "URL 1"},
		"URL with query":       {NewFetcher("wx1", fetchtest.Secret, WithBaseURL("https://host/?secret="+url.QueryEscape(fetchtest.Secret))), "URL 1"},
		"URL with password":    {NewFetcher("wx1", fetchtest.Secret, WithBaseURL("https://me:MarkedSecret@host")), "URL 1"},
		"URL unreadable":       {NewFetcher("wx1", fetchtest.Secret, WithBaseURL("https://MarkedSecret host/%zz")), "URL 1"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := test.fetcher.Fetch(t.Context())
			require.ErrorContains(t, err, test.want)
			assert.ErrorContains(t, err, "nothing was sent")
			assert.True(t, strings.HasPrefix(err.Error(), "wxtoken: "), err)
			assert.Equal(t, "not sent", outcome(err))
			fetchtest.NoLeak(t, err)
		})
	}
	assert.Zero(t, requests.Load())
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
