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

	"github.com/wxtoken/wxtoken/internal/errcode"
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
		if strings.Contains(r.URL.Path, "ticket") {
			answer = strings.Replace(answer, "access_token", "ticket", 1)
		}
		fetchtest.Answer(200, answer)(w, r)
	})
	weChatToken := &fakeTokens{values: []string{"a+b"}}
	weComTicket := func(kind string) *HTTPFetcher {
		src := New(NewWeComFetcher("ww1", "s"), nil)
		f := NewTicketFetcher(src, kind, WithBaseURL(base))
		f.tokens = weChatToken
		return f
	}
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
		"QQ": {
			fetcher: NewQQFetcher("1105", fetchtest.Secret, WithBaseURL(base)), key: "qq:1105",
			method: "GET", path: "/api/getToken",
			query: url.Values{"grant_type": {"client_credential"}, "appid": {"1105"}, "secret": {fetchtest.Secret}},
		},
		"ticket": {
			fetcher: ticketFetcher(weChatToken, "jsapi", WithBaseURL(base)),
			key:     "ticket:jsapi:token:wx1", repeatable: true,
			method: "GET", path: "/cgi-bin/ticket/getticket",
			query: url.Values{"type": {"jsapi"}, "access_token": {"a+b"}},
		},
		"SDK ticket": {
			fetcher: ticketFetcher(weChatToken, "2", WithBaseURL(base)),
			key:     "ticket:2:token:wx1", repeatable: true,
			method: "GET", path: "/cgi-bin/ticket/getticket",
			query: url.Values{"type": {"2"}, "access_token": {"a+b"}},
		},
		"wecom": {
			fetcher: NewWeComFetcher("ww1", fetchtest.Secret, WithBaseURL(base)), repeatable: true,
			key:    "wecom:ww1:31a8c6fcbb0a0ea0", // never another one: the record in the cache is found by it
			method: "GET", path: "/cgi-bin/gettoken",
			query: url.Values{"corpid": {"ww1"}, "corpsecret": {fetchtest.Secret}},
		},
		"wecom ticket": {
			fetcher: weComTicket("jsapi"), repeatable: true,
			key:    "ticket:jsapi:" + NewWeComFetcher("ww1", "s").Key(),
			method: "GET", path: "/cgi-bin/get_jsapi_ticket",
			query: url.Values{"access_token": {"a+b"}},
		},
		"wecom agent's ticket": {
			fetcher: weComTicket("agent_config"), repeatable: true,
			key:    "ticket:agent_config:" + NewWeComFetcher("ww1", "s").Key(),
			method: "GET", path: "/cgi-bin/ticket/get",
			query: url.Values{"type": {"agent_config"}, "access_token": {"a+b"}},
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
			assert.Equal(t, "wxtoken.HTTPFetcher("+test.key+") wxtoken.HTTPFetcher("+test.key+")",
				fmt.Sprintf("%+v %#v", test.fetcher, *test.fetcher))
		})
	}
}

func TestFetchDefaults(t *testing.T) {
	wechat := []string{"https://api.weixin.qq.com", "https://api2.weixin.qq.com",
		"https://sh.api.weixin.qq.com", "https://sz.api.weixin.qq.com", "https://hk.api.weixin.qq.com"}
	wecom := []string{"https://qyapi.weixin.qq.com"}
	assert.Equal(t, wechat, NewFetcher("wx1", "s", WithBaseURL()).endpoint.Hosts)
	assert.Equal(t, wechat, NewStableFetcher("wx1", "s").endpoint.Hosts)
	assert.Equal(t, wechat, ticketFetcher(&fakeTokens{}, "jsapi").endpoint.Hosts)
	assert.Equal(t, wecom, NewWeComFetcher("ww1", "s", WithBaseURL()).endpoint.Hosts)
	assert.Equal(t, wecom, NewTicketFetcher(New(NewWeComFetcher("ww1", "s"), nil), "jsapi").endpoint.Hosts)
	assert.Equal(t, []string{"https://api.q.qq.com"}, NewQQFetcher("1105", "s").endpoint.Hosts)

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
	ticket := func(f Fetcher, kind string) *HTTPFetcher { return NewTicketFetcher(New(f, nil), kind, ok) }
	fn := FetcherFunc("mine", func(context.Context) (Token, error) {
		return Token{Value: fetchtest.Token, ExpiresAt: time.Now().Add(time.Hour)}, nil
	})
	wecom := NewWeComFetcher("ww1", fetchtest.Secret, ok)
	tests := map[string]struct {
		fetcher *HTTPFetcher
		want    string
	}{
		"zero value":           {&HTTPFetcher{}, "comes from no constructor"},
		"no appID":             {NewFetcher("", fetchtest.Secret, ok), "appID is empty"},
		"no secret":            {NewStableFetcher("wx1", "", ok), "secret is empty"},
		"no appID at QQ":       {NewQQFetcher("", fetchtest.Secret, ok), "appID is empty"},
		"no secret at QQ":      {NewQQFetcher("1105", "", ok), "secret is empty"},
		"newline after secret": {NewFetcher("wx1", fetchtest.Secret+"\n", ok), "secret holds a space"},
		"space before appID":   {NewStableFetcher(" wx1", fetchtest.Secret, ok), "appID holds a space"},
		"BOM before secret":    {NewFetcher("wx1", "\ufeff"+fetchtest.Secret, ok), "secret holds"},
		"no corpID":            {NewWeComFetcher("", fetchtest.Secret, ok), "corpID is empty"},
		"no corpsecret":        {NewWeComFetcher("ww1", "", ok), "secret is empty"},
		"ticket kind":          {ticketFetcher(&fakeTokens{values: []string{fetchtest.Token}}, "js", ok), `"js"; use jsapi, wx_card or 2;`},
		"no ticket kind":       {ticket(fn, ""), `""; use jsapi, wx_card or 2;`},
		"WeCom's kind":         {ticket(fn, "agent_config"), `"agent_config"; use jsapi, wx_card or 2;`},
		"WeChat's kind":        {ticket(wecom, "wx_card"), `"wx_card"; use jsapi or agent_config;`},
		"WeChat's kind, 2":     {ticket(struct{ Fetcher }{wecom}, "2"), `"2"; use jsapi or agent_config;`},
		"ticket of QQ":         {ticket(NewQQFetcher("1105", fetchtest.Secret, ok), "jsapi"), "has no tickets"},
		"ticket of a ticket":   {ticket(NewTicketFetcher(New(fn, nil), "jsapi", ok), "jsapi"), "the Source keeps tickets"},
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

// What a fetch makes of the platform's faults: a request of cgi-bin/token or of QQ
// that may have been answered is not repeated, one of stable_token is.
func TestFetchThroughFaults(t *testing.T) {
	for name, test := range map[string]struct {
		fault         wxtest.Fault
		plain, stable string
		issued        bool // by cgi-bin/token, sooner or later
	}{
		"none":           {wxtest.Latency(time.Second), "issued", "issued", true},
		"busy twice":     {wxtest.Busy().Times(2), "issued", "issued", true},
		"busy":           {wxtest.Busy(), "refused", "refused", false},
		"lost reply":     {wxtest.LostReply().Times(1), "unknown", "issued", true},
		"server error":   {wxtest.ServerError(503).Times(2), "unknown", "issued", false},
		"after issue":    {wxtest.ServerError(502).Applied().Times(1), "unknown", "issued", true},
		"truncated":      {wxtest.Truncated().Times(1), "unknown", "issued", true},
		"captive portal": {wxtest.CaptivePortal(), "unknown", "unknown", false},
		"empty body":     {wxtest.EmptyBody().Times(2), "unknown", "issued", false},
		"late":           {wxtest.LateRequest(time.Minute), "unknown", "unknown", true},
		"hangs":          {wxtest.Latency(time.Minute), "unknown", "unknown", true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := wxtest.NewPlatform(wxtest.WithApp("wx1", fetchtest.Secret), wxtest.WithApp("1105", fetchtest.Secret))
				client := WithHTTPClient(p.Client())
				for f, want := range map[Fetcher]string{
					NewFetcher("wx1", fetchtest.Secret, client):       test.plain,
					NewQQFetcher("1105", fetchtest.Secret, client):    test.plain,
					NewStableFetcher("wx1", fetchtest.Secret, client): test.stable,
				} {
					lift := p.Inject(test.fault)
					start := time.Now()
					tok, err := f.Fetch(t.Context())
					assert.Equal(t, want, outcome(err), "%s: %v", f.Key(), err)
					assert.LessOrEqual(t, time.Since(start), 10*time.Second)
					assert.Equal(t, err == nil, p.Honoured(tok.Value))
					fetchtest.NoLeak(t, err)
					lift()
				}
				time.Sleep(5 * time.Minute) // late requests land
				assert.Equal(t, test.issued, p.Latest("wx1") != "")
				assert.Equal(t, test.issued, p.Latest("1105") != "")
			})
		})
	}
}

func TestQQ(t *testing.T) {
	p := wxtest.NewPlatform(wxtest.WithApp("1105", fetchtest.Secret))
	src := New(NewQQFetcher("1105", fetchtest.Secret, WithHTTPClient(p.Client())), nil)
	tok, err := src.Token(t.Context())
	require.NoError(t, err)
	assert.Equal(t, p.Latest("1105"), tok.Value)

	_, err = NewQQFetcher("1105", "another", WithHTTPClient(p.Client())).Fetch(t.Context())
	var denied *APIError
	require.ErrorAs(t, err, &denied)
	assert.Equal(t, 40001, denied.Code)
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

// What a Source asks a Fetcher about, beyond the interface.
type knownFetcher interface {
	Fetcher
	Repeatable() bool
	fingerprint(salt string) string
	currentFingerprint(ctx context.Context, salt string) (string, error)
	askedPlatform() errcode.Platform
	repeatsFullLife() bool
}

func TestRepeatable(t *testing.T) {
	p := wxtest.NewPlatform(wxtest.WithApp("wx1", fetchtest.Secret))
	client := WithHTTPClient(p.Client())
	plain := NewFetcher("wx1", fetchtest.Secret, client)
	ticket := NewTicketFetcher(New(NewWeComFetcher("ww1", "s"), nil), "jsapi")
	for name, f := range map[string]Fetcher{
		"HTTPFetcher":         plain,
		"twice":               Repeatable(plain),
		"embedded":            struct{ *HTTPFetcher }{plain},
		"hidden":              struct{ Fetcher }{plain},
		"FetcherFunc":         FetcherFunc("mine", plain.Fetch),
		"ticket":              ticket,
		"ticket, embedded":    struct{ *HTTPFetcher }{ticket},
		"stable and embedded": struct{ *HTTPFetcher }{NewStableFetcher("wx1", fetchtest.Secret, client)},
	} {
		t.Run(name, func(t *testing.T) {
			r, ok := Repeatable(f).(knownFetcher)
			require.True(t, ok, "hides what %T has", f)
			assert.True(t, r.Repeatable())
			assert.Equal(t, f.Key(), r.Key())
			assert.Equal(t, platformOf(f), platformOf(r))
			assert.Equal(t, isTicket(f), isTicket(r))
			want := ""
			if known, ok := f.(knownFetcher); ok {
				want = known.fingerprint("salt")
			}
			assert.Equal(t, want, r.fingerprint("salt"))
			now, err := r.currentFingerprint(t.Context(), "salt")
			assert.NoError(t, err)
			assert.Equal(t, want, now)
			if !isTicket(f) {
				tok, err := r.Fetch(t.Context())
				require.NoError(t, err)
				assert.True(t, p.Honoured(tok.Value))
			}
		})
	}
	assert.False(t, plain.Repeatable(), "the argument was changed")

	// Its requests may then be sent again.
	p.Inject(wxtest.LostReply().Times(2))
	_, err := Repeatable(plain).Fetch(t.Context())
	assert.NoError(t, err)
	p.Inject(wxtest.LostReply().Times(1))
	_, err = plain.Fetch(t.Context())
	assert.Equal(t, "unknown", outcome(err))

	assert.PanicsWithValue(t, "wxtoken: Repeatable with a nil Fetcher", func() { Repeatable(nil) })
}

// While the cache is unavailable, only a repeatable fetcher is called.
func TestRepeatableWithoutTheCache(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		down := errors.New("connection refused")
		f := FetcherFunc("mine", func(context.Context) (Token, error) {
			return Token{Value: "t", ExpiresAt: time.Now().Add(time.Hour)}, nil
		})
		_, err := New(f, deadCache{down}).Token(t.Context())
		assert.ErrorIs(t, err, ErrCacheUnavailable)
		tok, err := New(Repeatable(f), deadCache{down}).Token(t.Context())
		assert.NoError(t, err)
		assert.Equal(t, "t", tok.Value)
	})
}

type deadCache struct{ err error }

func (c deadCache) Get(context.Context, string) ([]byte, error) { return nil, c.err }
func (c deadCache) CompareAndSwap(context.Context, string, []byte, []byte, time.Duration) (bool, error) {
	return false, c.err
}

// A renamed fetcher has all that a Source knows of it, but the Key.
type renamed struct{ *HTTPFetcher }

func (renamed) Key() string { return "renamed" }

func TestPlatformOf(t *testing.T) {
	fn := func(context.Context) (Token, error) { return Token{}, nil }
	wecom, stable := NewWeComFetcher("ww1", "s"), NewStableFetcher("wx1", "s")
	for name, test := range map[string]struct {
		fetcher Fetcher
		want    errcode.Platform
		ticket  bool
	}{
		"token":               {NewFetcher("wx1", "s"), errcode.WeChat, false},
		"stable":              {stable, errcode.Stable, false},
		"wecom":               {wecom, errcode.WeCom, false},
		"QQ":                  {NewQQFetcher("1105", "s"), errcode.QQ, false},
		"endpoint":            {NewEndpointFetcher("wecom:mine", Endpoint{}), errcode.Platform(""), false},
		"function":            {FetcherFunc("wecom:mine", fn), errcode.Platform(""), false},
		"ticket":              {NewTicketFetcher(New(wecom, nil), "jsapi"), errcode.WeCom, true},
		"ticket of wx":        {NewTicketFetcher(New(stable, nil), "jsapi"), errcode.Stable, true},
		"ticket of function":  {NewTicketFetcher(New(FetcherFunc("mine", fn), nil), "jsapi"), errcode.Platform(""), true},
		"embedded":            {struct{ *HTTPFetcher }{wecom}, errcode.WeCom, false},
		"hidden":              {struct{ Fetcher }{wecom}, errcode.WeCom, false},
		"hidden stable":       {struct{ Fetcher }{stable}, errcode.Stable, false},
		"hidden QQ":           {struct{ Fetcher }{NewQQFetcher("1105", "s")}, errcode.QQ, false},
		"hidden function":     {struct{ Fetcher }{FetcherFunc("mine", fn)}, errcode.Platform(""), false},
		"hidden ticket":       {struct{ Fetcher }{NewTicketFetcher(New(wecom, nil), "jsapi")}, errcode.Platform(""), true},
		"renamed ticket":      {Repeatable(renamed{NewTicketFetcher(New(wecom, nil), "jsapi")}), errcode.WeCom, true},
		"repeatable function": {Repeatable(FetcherFunc("wecom:mine", fn)), errcode.Platform(""), false},
	} {
		assert.Equal(t, test.want, platformOf(test.fetcher), name)
		assert.Equal(t, test.ticket, isTicket(test.fetcher), name)
	}
}
