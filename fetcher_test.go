package wxtoken_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/wxtoken/wxtoken"
	"github.com/wxtoken/wxtoken/internal/endpoint"
	"github.com/wxtoken/wxtoken/internal/errcode"
	"github.com/wxtoken/wxtoken/internal/fetchtest"
	"github.com/wxtoken/wxtoken/internal/store"
	"github.com/wxtoken/wxtoken/wxtest"
)

// outcome names what a Source makes of a fetch's error.
func outcome(err error) string {
	var unsent *endpoint.Unsent
	var denial *wxtoken.APIError
	switch {
	case err == nil:
		return "issued"
	case errors.As(err, &unsent):
		return "not sent"
	case errors.As(err, &denial) && denial.Code != 0:
		return "denied"
	}
	return "unknown"
}

// nothingSent checks the error of a fetch that sends nothing.
func nothingSent(t *testing.T, err error, want string) {
	t.Helper()
	require.ErrorContains(t, err, want)
	assert.ErrorContains(t, err, "nothing was sent")
	assert.True(t, strings.HasPrefix(err.Error(), "wxtoken: "), err)
	assert.Equal(t, "not sent", outcome(err))
	fetchtest.NoLeak(t, err)
}

func TestFetchRequests(t *testing.T) {
	var got *http.Request
	var sent string
	base, _ := fetchtest.Serve(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got, sent = r, fmt.Sprintf("%s %s?%s %s", r.Method, r.URL.EscapedPath(), r.URL.Query().Encode(), body)
		answer := fetchtest.Good
		if strings.Contains(r.URL.Path, "ticket") {
			answer = strings.Replace(answer, "access_token", "ticket", 1)
		}
		fetchtest.Answer(200, answer)(w, r)
	})
	opt, secret := wxtoken.WithBaseURL(base), "secret="+url.QueryEscape(fetchtest.Secret)
	fromFunc := wxtoken.New(fixed("token:wx1", "a+b"), nil)
	weCom := wxtoken.NewWeComFetcher("ww1", "s", opt)
	fromWeCom := wxtoken.New(weCom, nil)
	const object = `{"id":"1","secret":"MarkedSecret/with+odd\u0026signs%\"0123456789"}`
	form := "id=1&" + secret
	// endpointAt is a fetcher of key "mine", of an Endpoint like described.
	endpointAt := func(base string, edit func(e *wxtoken.Endpoint)) *wxtoken.HTTPFetcher {
		e, opts := described(), []wxtoken.FetcherOption(nil)
		if edit(&e); base != "" {
			opts = append(opts, wxtoken.WithBaseURL(base))
		}
		f := wxtoken.NewEndpointFetcher("mine", e, opts...)
		if e.Params != nil {
			e.Params["id"] = "changed later"
		}
		return f
	}
	for _, test := range []struct {
		fetcher    *wxtoken.HTTPFetcher
		repeatable bool
		key, want  string // want: method, path, query and body
	}{
		{wxtoken.NewFetcher("wx1", fetchtest.Secret, opt), false,
			"token:wx1", "GET /cgi-bin/token?appid=wx1&grant_type=client_credential&" + secret + " "},
		{wxtoken.NewStableFetcher("wx1", "s3cret", wxtoken.WithBaseURL(base+"/proxy/")), true,
			"stable:wx1", `POST /proxy/cgi-bin/stable_token? {"appid":"wx1","grant_type":"client_credential","secret":"s3cret"}`},
		{wxtoken.NewQQFetcher("1105", fetchtest.Secret, opt), false,
			"qq:1105", "GET /api/getToken?appid=1105&grant_type=client_credential&" + secret + " "},
		{wxtoken.NewWeComFetcher("ww1", fetchtest.Secret, opt), true, // never another key: the record in the cache is found by it
			"wecom:ww1:31a8c6fcbb0a0ea0", "GET /cgi-bin/gettoken?corpid=ww1&corp" + secret + " "},
		{wxtoken.NewTicketFetcher(fromFunc, "jsapi", opt), true,
			"ticket:jsapi:token:wx1", "GET /cgi-bin/ticket/getticket?access_token=a%2Bb&type=jsapi "},
		{wxtoken.NewTicketFetcher(fromFunc, "2", opt), true,
			"ticket:2:token:wx1", "GET /cgi-bin/ticket/getticket?access_token=a%2Bb&type=2 "},
		{wxtoken.NewTicketFetcher(fromWeCom, "jsapi", opt), true,
			"ticket:jsapi:" + weCom.Key(), "GET /cgi-bin/get_jsapi_ticket?access_token=" + fetchtest.Token + " "},
		{wxtoken.NewTicketFetcher(fromWeCom, "agent_config", opt), true,
			"ticket:agent_config:" + weCom.Key(), "GET /cgi-bin/ticket/get?access_token=" + fetchtest.Token + "&type=agent_config "},
		// The answer of an endpoint, and how it is sent: internal/endpoint.
		{endpointAt(base, func(*wxtoken.Endpoint) {}), false, "mine", "GET /oauth/token/?" + form + "&v=2 "},
		{endpointAt(base, func(e *wxtoken.Endpoint) { e.Method, e.Repeatable = "GET", true }), true, "mine", "GET /oauth/token/?" + form + "&v=2 "},
		{endpointAt(base, func(e *wxtoken.Endpoint) { e.Method = "POST" }), false, "mine", "POST /oauth/token/?v=2 " + object},
		{endpointAt(base, func(e *wxtoken.Endpoint) { e.Method, e.Form = "POST", true }), false, "mine", "POST /oauth/token/?v=2 " + form},
		{endpointAt(base, func(e *wxtoken.Endpoint) { e.Form = true }), false, "mine", "POST /oauth/token/?v=2 " + form},
		{endpointAt(base+"/proxy/", func(e *wxtoken.Endpoint) { e.Method = "POST" }), false, "mine", "POST /proxy/oauth/token/?v=2 " + object},
		{endpointAt("", func(e *wxtoken.Endpoint) { e.URL = base + "/t" }), false, "mine", "GET /t?" + form + " "},
		{endpointAt(base, func(e *wxtoken.Endpoint) { e.URL = base + "/a%2Fb/t" }), false, "mine", "GET /a%2Fb/t?" + form + " "},
		{endpointAt(base, func(e *wxtoken.Endpoint) { e.URL = base }), false, "mine", "GET /?" + form + " "},
		{endpointAt(base, func(e *wxtoken.Endpoint) { e.Params = nil }), false, "mine", "GET /oauth/token/?v=2 "},
	} {
		t.Run(test.key, func(t *testing.T) {
			before := time.Now()
			tok, err := test.fetcher.Fetch(t.Context())
			require.NoError(t, err)
			assert.Equal(t, fetchtest.Token, tok.Value)
			assert.WithinRange(t, tok.ExpiresAt, before.Round(0).Add(2*time.Hour), time.Now().Add(2*time.Hour))
			assert.Equal(t, tok.ExpiresAt.Round(0), tok.ExpiresAt, "has a monotonic reading")
			assert.Equal(t, test.key, test.fetcher.Key())
			assert.NoError(t, store.CheckKey(test.fetcher.Key()))
			assert.Equal(t, test.repeatable, test.fetcher.Repeatable())
			assert.True(t, got.Close, "the connection is kept open for hours")
			assert.Equal(t, test.want, sent)
			assert.Equal(t, strings.Contains(test.want, "{"), got.Header.Get("Content-Type") == "application/json")
			assert.Equal(t, "wxtoken.HTTPFetcher("+test.key+") wxtoken.HTTPFetcher("+test.key+")",
				fmt.Sprintf("%+v %#v", test.fetcher, *test.fetcher))
		})
	}
}

// Where nobody answers, each of the platform's hosts is asked.
func TestFetchDefaults(t *testing.T) {
	var asked []string
	unreachable := wxtoken.WithHTTPClient(&http.Client{Transport: &http.Transport{DialContext: func(_ context.Context, _, addr string) (net.Conn, error) {
		if !slices.Contains(asked, addr) {
			asked = append(asked, addr)
		}
		return nil, errDown
	}}})
	wechat := []string{"api.weixin.qq.com:443", "api2.weixin.qq.com:443", "sh.api.weixin.qq.com:443", "sz.api.weixin.qq.com:443", "hk.api.weixin.qq.com:443"}
	wecom := []string{"qyapi.weixin.qq.com:443"}
	for _, test := range []struct {
		fetcher wxtoken.Fetcher
		hosts   []string
	}{
		{wxtoken.NewFetcher("wx1", "s3cret", unreachable, wxtoken.WithBaseURL()), wechat},
		{wxtoken.NewStableFetcher("wx1", "s3cret", unreachable), wechat},
		{wxtoken.NewTicketFetcher(wxtoken.New(fixed("mine", "a-token"), nil), "jsapi", unreachable), wechat},
		{wxtoken.NewWeComFetcher("ww1", "s3cret", unreachable, wxtoken.WithBaseURL()), wecom},
		{wxtoken.NewQQFetcher("1105", "s3cret", unreachable), []string{"api.q.qq.com:443"}},
	} {
		bubble(t, test.fetcher.Key(), func(t *testing.T) {
			asked = nil
			_, err := test.fetcher.Fetch(t.Context())
			assert.ErrorIs(t, err, errDown)
			assert.Equal(t, test.hosts, asked)
		})
	}
}

func TestBadArguments(t *testing.T) {
	base, requests := fetchtest.Serve(t, fetchtest.Answer(200, fetchtest.Good))
	ok := wxtoken.WithBaseURL(base)
	ticket := func(f wxtoken.Fetcher, kind string) *wxtoken.HTTPFetcher {
		return wxtoken.NewTicketFetcher(wxtoken.New(f, nil), kind, ok)
	}
	fn := fixed("mine", fetchtest.Token)
	wecom := wxtoken.NewWeComFetcher("ww1", fetchtest.Secret, ok)
	v := &vault{secret: "s"}
	tests := map[string]struct {
		fetcher *wxtoken.HTTPFetcher
		want    string
	}{
		"nil function":         {wxtoken.NewFetcher("wx1", fetchtest.Secret, wxtoken.WithSecretFunc(nil)), "WithSecretFunc: nil function"},
		"ticket with a secret": {wxtoken.NewTicketFetcher(wxtoken.New(fn, nil), "jsapi", wxtoken.WithSecretFunc(v.get)), "a ticket needs an access token"},
		"no place for it":      {wxtoken.NewEndpointFetcher("k", described(), wxtoken.WithSecretFunc(v.get)), "WithSecretFunc needs {secret} in"},
		"a place without it": {wxtoken.NewEndpointFetcher("k", wxtoken.Endpoint{URL: "https://h/", Token: "t", ExpiresIn: "e", Params: map[string]string{"s": "{secret}"}}),
			"Endpoint.Params has {secret}: give"},
		"no WeCom app":         {wxtoken.NewWeComFetcher("ww1", "", wxtoken.WithSecretFunc(v.get)), "wxtoken: secret is empty; nothing was sent"},
		"zero value":           {&wxtoken.HTTPFetcher{}, "comes from no constructor"},
		"no appID":             {wxtoken.NewFetcher("", fetchtest.Secret, ok), "appID is empty"},
		"no secret":            {wxtoken.NewStableFetcher("wx1", "", ok), "secret is empty"},
		"no appID at QQ":       {wxtoken.NewQQFetcher("", fetchtest.Secret, ok), "appID is empty"},
		"no secret at QQ":      {wxtoken.NewQQFetcher("1105", "", ok), "secret is empty"},
		"newline after secret": {wxtoken.NewFetcher("wx1", fetchtest.Secret+"\n", ok), "secret holds a space"},
		"space before appID":   {wxtoken.NewStableFetcher(" wx1", fetchtest.Secret, ok), "appID holds a space"},
		"BOM before secret":    {wxtoken.NewFetcher("wx1", "\ufeff"+fetchtest.Secret, ok), "secret holds"},
		"no corpID":            {wxtoken.NewWeComFetcher("", fetchtest.Secret, ok), "corpID is empty"},
		"no corpsecret":        {wxtoken.NewWeComFetcher("ww1", "", ok), "secret is empty"},
		"ticket kind":          {ticket(fn, "js"), `"js"; use jsapi, wx_card or 2;`},
		"no ticket kind":       {ticket(fn, ""), `""; use jsapi, wx_card or 2;`},
		"WeCom's kind":         {ticket(fn, "agent_config"), `"agent_config"; use jsapi, wx_card or 2;`},
		"WeChat's kind":        {ticket(wecom, "wx_card"), `"wx_card"; use jsapi or agent_config;`},
		"WeChat's kind, 2":     {ticket(struct{ wxtoken.Fetcher }{wecom}, "2"), `"2"; use jsapi or agent_config;`},
		"ticket of QQ":         {ticket(wxtoken.NewQQFetcher("1105", fetchtest.Secret, ok), "jsapi"), "has no tickets"},
		"ticket of a ticket":   {ticket(wxtoken.NewTicketFetcher(wxtoken.New(fn, nil), "jsapi", ok), "jsapi"), "the Source keeps tickets"},
		"URL without scheme":   {wxtoken.NewFetcher("wx1", fetchtest.Secret, wxtoken.WithBaseURL(base, "api.weixin.qq.com")), "URL 2"},
		"URL of ftp":           {wxtoken.NewFetcher("wx1", fetchtest.Secret, wxtoken.WithBaseURL("ftp://host")), "URL 1"},
		"URL without host":     {wxtoken.NewFetcher("wx1", fetchtest.Secret, wxtoken.WithBaseURL("https://:443/")), "URL 1"},
		"URL with query":       {wxtoken.NewFetcher("wx1", fetchtest.Secret, wxtoken.WithBaseURL("https://host/?secret="+url.QueryEscape(fetchtest.Secret))), "URL 1"},
		"URL with password":    {wxtoken.NewFetcher("wx1", fetchtest.Secret, wxtoken.WithBaseURL("https://me:MarkedSecret@host")), "URL 1"},
		"URL unreadable":       {wxtoken.NewFetcher("wx1", fetchtest.Secret, wxtoken.WithBaseURL("https://MarkedSecret host/%zz")), "URL 1"},
	}
	for name, test := range tests {
		bubble(t, name, func(t *testing.T) {
			_, err := test.fetcher.Fetch(t.Context())
			nothingSent(t, err, test.want)

			cache := &faultyCache{Cache: wxtoken.NewMemoryCache()}
			src, start := wxtoken.New(test.fetcher, cache), time.Now()
			for range 100 {
				_, err := src.Token(t.Context())
				require.Error(t, err)
			}
			assert.Less(t, time.Since(start), 50*time.Millisecond, "no caller blocks on what waiting does not fix")
			assert.LessOrEqual(t, cache.gets.Load()+cache.swaps.Load(), int64(6))
		})
	}
	assert.Zero(t, requests.Load())
	assert.Zero(t, v.asked)
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
		"busy":           {wxtest.Busy(), "denied", "denied", false},
		"lost reply":     {wxtest.LostReply().Times(1), "unknown", "issued", true},
		"server error":   {wxtest.ServerError(503).Times(2), "unknown", "issued", false},
		"after issue":    {wxtest.ServerError(502).Applied().Times(1), "unknown", "issued", true},
		"truncated":      {wxtest.Truncated().Times(1), "unknown", "issued", true},
		"captive portal": {wxtest.CaptivePortal(), "unknown", "unknown", false},
		"empty body":     {wxtest.EmptyBody().Times(2), "unknown", "issued", false},
		"late":           {wxtest.LateRequest(time.Minute), "unknown", "unknown", true},
		"hangs":          {wxtest.Latency(time.Minute), "unknown", "unknown", true},
	} {
		bubble(t, name, func(t *testing.T) {
			p := wxtest.NewPlatform(wxtest.WithApp("wx1", fetchtest.Secret), wxtest.WithApp("1105", fetchtest.Secret))
			client := wxtoken.WithHTTPClient(p.Client())
			get, post := endpoints(fetchtest.Secret)
			for f, want := range map[wxtoken.Fetcher]string{
				wxtoken.NewFetcher("wx1", fetchtest.Secret, client):       test.plain,
				wxtoken.NewQQFetcher("1105", fetchtest.Secret, client):    test.plain,
				wxtoken.NewEndpointFetcher("get", get, client):            test.plain,
				wxtoken.NewStableFetcher("wx1", fetchtest.Secret, client): test.stable,
				wxtoken.NewEndpointFetcher("post", post, client):          test.stable,
			} {
				lift := p.Inject(test.fault)
				start := time.Now()
				tok, err := f.Fetch(t.Context())
				assert.Equal(t, want, outcome(err), "%s: %v", f.Key(), err)
				assert.LessOrEqual(t, time.Since(start), 10*time.Second, "by default")
				assert.Equal(t, name == "hangs", errors.Is(err, context.DeadlineExceeded))
				assert.Equal(t, err == nil, p.Honoured(tok.Value))
				fetchtest.NoLeak(t, err)
				lift()
			}
			time.Sleep(5 * time.Minute) // late requests land
			assert.Equal(t, test.issued, p.Latest("wx1") != "")
			assert.Equal(t, test.issued, p.Latest("1105") != "")
		})
	}
}

// Whatever a Fetcher is made of, Repeatable leaves its key, lets a Source fetch while
// the cache is down, and changes nothing else: see also TestWrongSecret,
// TestANewSecretEndsTheCooldown and TestTransportHostsOfThePlatform.
func TestRepeatable(t *testing.T) {
	p := wxtest.NewPlatform(wxtest.WithApp("wx1", fetchtest.Secret))
	client := wxtoken.WithHTTPClient(p.Client())
	plain := wxtoken.NewFetcher("wx1", fetchtest.Secret, client)
	for name, f := range map[string]wxtoken.Fetcher{
		"HTTPFetcher": plain, "twice": wxtoken.Repeatable(plain), "function": wxtoken.FetcherFunc("mine", plain.Fetch),
		"embedded": struct{ *wxtoken.HTTPFetcher }{plain}, "hidden": struct{ wxtoken.Fetcher }{plain},
		"stable": wxtoken.NewStableFetcher("wx1", fetchtest.Secret, client),
		"ticket": wxtoken.NewTicketFetcher(wxtoken.New(plain, nil), "jsapi", client),
	} {
		bubble(t, name, func(t *testing.T) {
			r := wxtoken.Repeatable(f)
			assert.Equal(t, f.Key(), r.Key())
			cache, _ := broken(wxtoken.NewMemoryCache())
			value := token(t, wxtoken.New(r, cache))
			assert.Equal(t, name == "ticket", p.TicketHonoured(value))
			assert.Equal(t, name != "ticket", p.Honoured(value))
		})
	}
	bubble(t, "one that does not tell its secret", func(t *testing.T) {
		f := &countingFetcher{answer: failBetween(1, ever, &wxtoken.APIError{Code: 40125})}
		fetchesIn(t, wxtoken.New(wxtoken.Repeatable(f), nil), f, time.Minute)
		assert.EqualValues(t, 1, f.fetches.Load(), "in the minute of the cooldown")
	})
	assert.False(t, plain.Repeatable(), "the argument was changed")
	for times, want := range map[int]string{1: "unknown", 2: "issued"} { // its requests may then be sent again
		p.Inject(wxtest.LostReply().Times(times))
		f := wxtoken.Fetcher(plain)
		if want == "issued" {
			f = wxtoken.Repeatable(plain)
		}
		_, err := f.Fetch(t.Context())
		assert.Equal(t, want, outcome(err))
	}
}

// A ticket whose access token an API rejects is asked for once more, with what
// the Source has then.
func TestTicketReplacesARejectedToken(t *testing.T) {
	const rejected = `{"errcode":40001,"errmsg":"not latest: TOKEN"}` // the one that was sent
	for name, test := range map[string]struct {
		good  string // the access token that is honoured
		deny  string
		age   time.Duration // of the access token
		fails int           // the access token's fetch from which on it fails; 0: none
		asked int
		want  string
	}{
		"good at once":        {fetchtest.Token, rejected, time.Minute, 0, 1, "issued"},
		"rejected once":       {"token-2", rejected, time.Minute, 0, 2, "issued"},
		"rejected twice":      {"token-3", rejected, time.Minute, 0, 2, "not sent"},
		"denied":              {"token-2", `{"errcode":45009}`, time.Minute, 0, 1, "denied"},
		"no token":            {"token-2", rejected, 0, 1, 0, "not sent"},
		"no other token":      {"token-2", rejected, time.Minute, 2, 1, "not sent"},
		"not believed":        {"token-2", rejected, 0, 0, 2, "not sent"},
		"not believed, flaps": {"the second time", rejected, 0, 0, 2, "issued"},
	} {
		bubble(t, name, func(t *testing.T) {
			fetches, asked := 0, 0
			src := wxtoken.New(wxtoken.FetcherFunc("token:wx1", func(context.Context) (wxtoken.Token, error) {
				fetches++
				if test.fails > 0 && fetches >= test.fails {
					return wxtoken.Token{}, errDown
				}
				value := []string{fetchtest.Token, "token-2", "token-3"}[fetches-1]
				return wxtoken.Token{Value: value, ExpiresAt: time.Now().Add(time.Hour)}, nil
			}), nil)
			_, _ = src.Token(t.Context())
			time.Sleep(test.age)
			f := wxtoken.NewTicketFetcher(src, "wx_card", wxtoken.WithHTTPClient(&http.Client{Transport: baseFunc(func(req *http.Request) (*http.Response, error) {
				asked++
				body := `{"errcode":0,"errmsg":"ok","ticket":"ticket-1","expires_in":7200}`
				if req.FormValue("access_token") != test.good && (test.good != "the second time" || asked < 2) {
					body = strings.Replace(test.deny, "TOKEN", req.FormValue("access_token"), 1)
				}
				return &http.Response{StatusCode: 200, Body: io.NopCloser(strings.NewReader(body)), Request: req}, nil
			})}))
			tok, err := f.Fetch(t.Context())
			assert.Equal(t, test.want, outcome(err), err)
			assert.Equal(t, test.asked, asked)
			fetchtest.NoLeak(t, err)
			if err == nil {
				assert.Equal(t, "ticket-1", tok.Value)
			} else {
				assert.NotContains(t, err.Error(), "token-2")
			}
			if test.fails > 0 {
				assert.ErrorIs(t, err, errDown)
			}
		})
	}
}

// Over a Source each, on one cache, a ticket survives its access token.
func TestTicketsOnSources(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		p := wxtest.NewPlatform(wxtest.WithApp("wx1", fetchtest.Secret))
		cache, client := wxtoken.NewMemoryCache(), wxtoken.WithHTTPClient(p.Client())
		access := wxtoken.New(wxtoken.NewFetcher("wx1", fetchtest.Secret, client), cache)
		first := token(t, access)
		time.Sleep(time.Minute)
		p.Revoke(first)
		for _, kind := range []string{"jsapi", "wx_card", "2"} {
			ticket := token(t, wxtoken.New(wxtoken.NewTicketFetcher(access, kind, client), cache))
			assert.Equal(t, p.LatestTicket("wx1", kind), ticket)
			assert.True(t, p.TicketHonoured(ticket))
		}
		assert.NotEqual(t, first, token(t, access))
		assert.Equal(t, p.Latest("wx1"), token(t, access))
	})
	bubble(t, "one that is repeated in the moment before it expires is not held for another life", func(t *testing.T) {
		p := wxtest.NewPlatform(wxtest.WithApp("wx1", fetchtest.Secret))
		client := wxtoken.WithHTTPClient(p.Client())
		access := wxtoken.New(wxtoken.NewFetcher("wx1", fetchtest.Secret, client), nil)
		tickets := wxtoken.New(wxtoken.NewTicketFetcher(access, "jsapi", client), nil)
		p.Inject(wxtest.Latency(2 * time.Second).On(wxtest.TicketPath).Times(1)) // its life is counted from before the request
		first, expired := token(t, tickets), 0
		for start := time.Now(); time.Since(start) < 2*time.Hour+5*time.Minute; time.Sleep(time.Second) {
			if !p.TicketHonoured(token(t, tickets)) {
				expired++
			}
		}
		assert.NotEqual(t, first, token(t, tickets))
		assert.LessOrEqual(t, expired, 61, "seconds")
	})
	bubble(t, "of WeCom", func(t *testing.T) {
		p := wxtest.NewPlatform()
		cache, client := wxtoken.NewMemoryCache(), wxtoken.WithHTTPClient(p.Client())
		tickets := map[string]string{}
		for _, secret := range []string{fetchtest.Secret, "of-another-agent"} {
			p.AddCorp("ww1", secret)
			access := wxtoken.New(wxtoken.NewWeComFetcher("ww1", secret, client), cache)
			first := token(t, access)
			assert.Equal(t, p.LatestCorp("ww1", secret), first)
			time.Sleep(time.Minute)
			p.Revoke(first)
			for _, kind := range []string{"jsapi", "agent_config"} {
				ticket := token(t, wxtoken.New(wxtoken.NewTicketFetcher(access, kind, client), cache))
				assert.Equal(t, p.LatestCorpTicket("ww1", secret, kind), ticket)
				assert.True(t, p.TicketHonoured(ticket))
				tickets[secret+kind] = ticket
			}
		}
		assert.Equal(t, tickets[fetchtest.Secret+"jsapi"], tickets["of-another-agentjsapi"], "is the corporation's")
		assert.NotEqual(t, tickets[fetchtest.Secret+"agent_config"], tickets["of-another-agentagent_config"], "is the agent's")

		_, err := wxtoken.New(wxtoken.NewWeComFetcher("ww1", fetchtest.Secret+"x", client), cache).Token(t.Context())
		assert.Equal(t, "denied", outcome(err), err)
		fetchtest.NoLeak(t, err)
	})
}

// described is an Endpoint that works, once WithBaseURL says where.
func described() wxtoken.Endpoint {
	return wxtoken.Endpoint{
		URL: "https://platform.example/oauth/token/?v=2", Token: "access_token", ExpiresIn: "expires_in", Code: "errcode",
		Params: map[string]string{"id": "1", "secret": fetchtest.Secret},
	}
}

func TestBadEndpoints(t *testing.T) {
	base, requests := fetchtest.Serve(t, fetchtest.Answer(200, fetchtest.Good))
	badURL := "Endpoint.URL is not of the form https://host[:port][/path][?query]"
	for name, test := range map[string]struct {
		edit func(*wxtoken.Endpoint)
		want string
	}{
		"no URL":               {func(e *wxtoken.Endpoint) { e.URL = "" }, "Endpoint.URL is empty"},
		"no Token":             {func(e *wxtoken.Endpoint) { e.Token = "" }, "Endpoint.Token is empty"},
		"no ExpiresIn":         {func(e *wxtoken.Endpoint) { e.ExpiresIn = "" }, "Endpoint.ExpiresIn is empty"},
		"OK without Code":      {func(e *wxtoken.Endpoint) { e.OK, e.Code = "1", "" }, "Endpoint.OK needs a Code"},
		"method":               {func(e *wxtoken.Endpoint) { e.Method = "PUT" }, `Endpoint.Method "PUT": use GET or POST`},
		"method in lower case": {func(e *wxtoken.Endpoint) { e.Method = "post" }, `Endpoint.Method "post": use GET or POST`},
		"form with GET":        {func(e *wxtoken.Endpoint) { e.Method, e.Form = "GET", true }, "Endpoint.Form needs the Method POST"},
		"empty param":          {func(e *wxtoken.Endpoint) { e.Params["secret"] = "" }, `Endpoint.Params: "secret" is empty`},
		"param without name":   {func(e *wxtoken.Endpoint) { e.Params[""] = "x" }, "a parameter without a name"},
		"newline":              {func(e *wxtoken.Endpoint) { e.Params["secret"] += "\n" }, `"secret" begins or ends with a space`},
		"space before":         {func(e *wxtoken.Endpoint) { e.Params["secret"] = " " + fetchtest.Secret }, `"secret" begins or ends with a space`},
		"control byte":         {func(e *wxtoken.Endpoint) { e.Params["secret"] += "\x00x" }, `"secret" begins or ends with a space, or holds a control byte`},
		"no scheme":            {func(e *wxtoken.Endpoint) { e.URL = "platform.example/t" }, badURL},
		"relative":             {func(e *wxtoken.Endpoint) { e.URL = "/t" }, badURL},
		"ftp":                  {func(e *wxtoken.Endpoint) { e.URL = "ftp://platform.example/t" }, badURL},
		"no host":              {func(e *wxtoken.Endpoint) { e.URL = "https:///t" }, badURL},
		"password":             {func(e *wxtoken.Endpoint) { e.URL = "https://me:MarkedSecret@platform.example/t" }, badURL},
		"fragment":             {func(e *wxtoken.Endpoint) { e.URL = "https://platform.example/t#MarkedSecret" }, badURL},
		"fragment after query": {func(e *wxtoken.Endpoint) { e.URL = "https://platform.example/t?a=b#MarkedSecret" }, badURL},
		"space":                {func(e *wxtoken.Endpoint) { e.URL = "https://platform.example/t?k=Marked Secret" }, badURL},
		"unreadable":           {func(e *wxtoken.Endpoint) { e.URL = "https://MarkedSecret%zz/t" }, badURL},
	} {
		t.Run(name, func(t *testing.T) {
			e := described()
			test.edit(&e)
			_, err := wxtoken.NewEndpointFetcher("mine", e, wxtoken.WithBaseURL(base)).Fetch(t.Context())
			nothingSent(t, err, test.want)
			assert.ErrorContains(t, err, "wxtoken: NewEndpointFetcher: ")
		})
	}
	_, err := wxtoken.NewEndpointFetcher("", described(), wxtoken.WithBaseURL(base)).Fetch(t.Context())
	assert.EqualError(t, err, "wxtoken: NewEndpointFetcher: key is empty; nothing was sent")
	_, err = wxtoken.NewEndpointFetcher("mine", described(), wxtoken.WithBaseURL("nowhere")).Fetch(t.Context())
	assert.ErrorContains(t, err, "WithBaseURL: URL 1")
	assert.Zero(t, requests.Load())
}

func TestAPIError(t *testing.T) {
	assert.Equal(t, "wxtoken: platform answered errcode 7: what rid: 1", (&wxtoken.APIError{7, "what rid: 1"}).Error())
	assert.Equal(t, "wxtoken: platform answered errcode 40013 (check the appID)", (&wxtoken.APIError{Code: 40013}).Error())
	var temporary, rejected []int
	for code := -1000; code < 100_000; code++ {
		if (&wxtoken.APIError{Code: code}).Temporary() {
			temporary = append(temporary, code)
		}
		if wxtoken.IsTokenRejected(code) {
			rejected = append(rejected, code)
		}
	}
	assert.Equal(t, []int{-1000, -1, 45011}, temporary)
	assert.Equal(t, []int{40001, 40014, 42001}, rejected)
}

// An error says what to do on the platform that sent it, also in a process that
// has it from the record, and holds the *APIError as it was sent.
func TestAdviceOfFetchers(t *testing.T) {
	var answer string
	base, _ := fetchtest.Serve(t, func(w http.ResponseWriter, r *http.Request) { fetchtest.Answer(200, answer)(w, r) })
	opt := wxtoken.WithBaseURL(base)
	denied := func(code int) wxtoken.Fetcher {
		return wxtoken.FetcherFunc("mine", func(context.Context) (wxtoken.Token, error) { return wxtoken.Token{}, &wxtoken.APIError{code, "no"} })
	}
	for _, tc := range []struct {
		fetcher wxtoken.Fetcher
		code    int
		says    string
		not     string
	}{
		{wxtoken.NewFetcher("wx1", "s", opt), 45009, "use NewStableFetcher", "force_refresh"},
		{wxtoken.NewStableFetcher("wx1", "s", opt), 45009, "force_refresh", "NewStableFetcher"},
		{wxtoken.NewWeComFetcher("ww1", "s", opt), 45009, "again and again", "table"},
		{wxtoken.NewWeComFetcher("ww1", "s", opt), 60020, "this machine's IP address", "whitelist"},
		{wxtoken.NewWeComFetcher("ww1", "s", opt), 40013, "check the corpID", "appID"},
		{wxtoken.NewWeComFetcher("ww1", "s", opt), 40001, "check the secret", "another system"},
		{wxtoken.NewFetcher("wx1", "s", opt), 40164, "whitelist", "WeCom"},
		{onPlatform{denied(40013), errcode.ThirdParty}, 40013, "component_appid", "check the appID"},
		{denied(45009), 45009, "quota is spent", "NewStableFetcher"},
		{wxtoken.NewTicketFetcher(wxtoken.New(onPlatform{&countingFetcher{}, errcode.WeCom}, nil), "jsapi", opt), 60020, "this machine's IP address", "whitelist"},
	} {
		answer = fmt.Sprintf(`{"errcode":%d,"errmsg":"no"}`, tc.code)
		cache := wxtoken.NewMemoryCache()
		first, second := wxtoken.New(tc.fetcher, cache), wxtoken.New(tc.fetcher, cache)
		for _, src := range []*wxtoken.Source{first, second} {
			_, err := src.Token(t.Context())
			assert.ErrorContains(t, err, tc.says)
			assert.NotContains(t, err.Error(), tc.not)
			var denied *wxtoken.APIError
			require.ErrorAs(t, err, &denied)
			assert.Equal(t, wxtoken.APIError{tc.code, "no"}, *denied)
		}
	}
}

func TestCooldownError(t *testing.T) {
	denied := &wxtoken.APIError{Code: 40125, Message: "invalid appsecret"}
	err := error(&wxtoken.CooldownError{Until: time.Date(2026, 5, 1, 8, 0, 0, 0, time.FixedZone("", 8*3600)), Err: denied})
	assert.Equal(t, denied.Error()+" (not asked again before 2026-05-01T00:00:00Z)", err.Error())
	assert.ErrorIs(t, err, denied)
}

// A vault is what a function of WithSecretFunc asks.
type vault struct {
	mu     sync.Mutex
	secret string
	asked  int
}

func (v *vault) set(secret string) { v.mu.Lock(); v.secret = secret; v.mu.Unlock() }

func (v *vault) get(context.Context) (string, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.asked++
	return v.secret, nil
}

// withSecretFunc makes one fetcher of each kind that has a secret.
func withSecretFunc(secret string, opts ...wxtoken.FetcherOption) map[string]*wxtoken.HTTPFetcher {
	e := wxtoken.Endpoint{
		URL: "https://platform.example/token", Params: map[string]string{"id": "1", "auth": "Basic {secret}"},
		Token: "access_token", ExpiresIn: "expires_in", Code: "errcode",
	}
	return map[string]*wxtoken.HTTPFetcher{
		"token": wxtoken.NewFetcher("wx1", secret, opts...), "stable": wxtoken.NewStableFetcher("wx1", secret, opts...),
		"QQ": wxtoken.NewQQFetcher("1105", secret, opts...), "wecom": wxtoken.NewWeComFetcher("ww1", secret, opts...),
		"endpoint": wxtoken.NewEndpointFetcher("mine", e, opts...),
	}
}

func TestSecretFunc(t *testing.T) {
	var sent string
	base, requests := fetchtest.Serve(t, func(w http.ResponseWriter, r *http.Request) {
		_ = r.ParseForm()
		body := make([]byte, 1000)
		n, _ := r.Body.Read(body)
		sent = r.Form.Encode() + " " + string(body[:n])
		fetchtest.Answer(200, fetchtest.Good)(w, r)
	})
	for name := range withSecretFunc("") {
		t.Run(name, func(t *testing.T) {
			v := &vault{}
			f := withSecretFunc("argument", wxtoken.WithBaseURL(base), wxtoken.WithSecretFunc(v.get))[name]
			assert.Zero(t, v.asked, "asked before a fetch")
			for _, secret := range []string{"first-secret", "second-secret", "second-secret", "third-secret"} {
				v.set(secret)
				asked := v.asked
				_, err := f.Fetch(t.Context())
				require.NoError(t, err)
				assert.Equal(t, asked+1, v.asked)
				assert.Equal(t, 1, strings.Count(sent, secret), sent)
				assert.NotContains(t, sent, "argument")
				assert.NotContains(t, fmt.Sprintf("%+v %#v", f, *f), secret)
			}
			assert.EqualValues(t, 4, requests.Swap(0))
		})
	}
}

func TestBadSecretFunc(t *testing.T) {
	const long = "0123456789abcdef0123456789abcdef" // as WeChat's secrets are
	sealed := errors.New("vault is sealed")
	type fn = func(context.Context) (string, error)
	returns := func(secret string, err error) fn {
		return func(context.Context) (string, error) { return secret, err }
	}
	for name, test := range map[string]struct {
		fn   fn
		want string
		is   error
		took time.Duration
	}{
		"error":             {returns("", fmt.Errorf("read: %w", sealed)), "no secret from the function of WithSecretFunc; nothing was sent: read: vault is sealed", sealed, 0},
		"error with secret": {returns(fetchtest.Secret, errors.New("lease of "+fetchtest.Secret+" is over")), "lease of *** is over", nil, 0},
		"error in other forms": {returns(fetchtest.Secret, fmt.Errorf("%q %s", fetchtest.Secret, url.QueryEscape(fetchtest.Secret))),
			`"***" ***`, nil, 0},
		"error with URL":     {returns("", &url.Error{Op: "Get", URL: "http://vault/?x=" + fetchtest.Secret, Err: sealed}), "vault is sealed", sealed, 0},
		"error with unknown": {returns("", errors.New("cannot decode "+long)), "cannot decode ***", nil, 0},
		"panic":              {func(context.Context) (string, error) { panic(fetchtest.Secret) }, "panicked with a string", nil, 0},
		"panic with error":   {func(context.Context) (string, error) { panic(errors.New(fetchtest.Secret)) }, "panicked with a *errors.errorString", nil, 0},
		"runtime error":      {func(context.Context) (string, error) { return strings.Fields("")[0], nil }, "index out of range", nil, 0},
		"Goexit":             {func(context.Context) (string, error) { runtime.Goexit(); return "", nil }, "ended its goroutine", nil, 0},
		"empty":              {returns("", nil), "what the function of WithSecretFunc returned is empty", nil, 0},
		"blank":              {returns("  ", nil), "returned holds a space", nil, 0},
		"newline":            {returns(fetchtest.Secret+"\n", nil), "returned holds a space, a control byte", nil, 0},
		"control byte":       {returns("a\x00b", nil), "holds a space, a control byte", nil, 0},
		"not ASCII":          {returns("sécret", nil), "not ASCII", nil, 0},
		"hangs": {func(ctx context.Context) (string, error) { <-ctx.Done(); return "", ctx.Err() },
			"context deadline exceeded", context.DeadlineExceeded, 5 * time.Second},
		"hangs, whatever ctx does": {func(context.Context) (string, error) { time.Sleep(time.Minute); return fetchtest.Secret, nil },
			"did not return in time", context.DeadlineExceeded, 5 * time.Second},
	} {
		bubble(t, name, func(t *testing.T) {
			p := wxtest.NewPlatform(wxtest.WithApp("wx1", fetchtest.Secret))
			for kind, f := range withSecretFunc("argument", wxtoken.WithHTTPClient(p.Client()), wxtoken.WithSecretFunc(test.fn)) {
				start := time.Now()
				tok, err := f.Fetch(t.Context())
				nothingSent(t, err, test.want)
				assert.Equal(t, test.took, time.Since(start), "%s: half of the ten seconds of a fetch", kind)
				assert.Zero(t, tok)
				assert.True(t, test.is == nil || errors.Is(err, test.is), err)
				assert.NotContains(t, err.Error(), long)
			}
			assert.Zero(t, p.Stats().Fetches().Total())
			time.Sleep(time.Minute) // until what hangs is over
		})
	}
}

// A caller learns that the secret is wrong after a look at it, not after a minute
// of looks, however slow they are beside WithLocalAge.
func TestASlowSecretFunc(t *testing.T) {
	for _, c := range []struct {
		takes time.Duration
		opt   wxtoken.Option
	}{
		{100 * time.Millisecond, wxtoken.WithLocalAge(time.Second)},
		{3 * time.Second, wxtoken.WithFetchTimeout(20 * time.Second)},
		{0, wxtoken.WithLocalAge(1)},
	} {
		bubble(t, c.takes.String(), func(t *testing.T) {
			var asked atomic.Int64
			p := wxtest.NewPlatform(wxtest.WithApp("wx1", "right"))
			f := wxtoken.NewFetcher("wx1", "", wxtoken.WithHTTPClient(p.Client()),
				wxtoken.WithSecretFunc(func(context.Context) (string, error) {
					asked.Add(1)
					time.Sleep(c.takes)
					return "wrong", nil
				}))
			src := wxtoken.New(f, nil, c.opt)
			_, err := src.Token(t.Context())
			require.Error(t, err)
			time.Sleep(10 * time.Second)
			before, start := asked.Load(), time.Now()
			_, err = src.Token(t.Context())
			require.ErrorContains(t, err, "40125")
			assert.LessOrEqual(t, time.Since(start), c.takes)
			assert.EqualValues(t, 1, asked.Load()-before)
		})
	}
}

func TestSecretFuncEndsWithContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	f := wxtoken.NewFetcher("wx1", "", wxtoken.WithSecretFunc(func(ctx context.Context) (string, error) {
		cancel()
		<-ctx.Done()
		return "", ctx.Err()
	}))
	for range 2 { // the second time, ctx has ended before
		_, err := f.Fetch(ctx)
		assert.ErrorIs(t, err, context.Canceled)
		assert.Equal(t, "not sent", outcome(err))
	}
}

// A fetcher keeps a fingerprint of the secret, and not the secret: the memory of
// each one is free for others after the fetch.
func TestSecretFuncKeepsNothing(t *testing.T) {
	var freed atomic.Int32
	fn := func(context.Context) (string, error) {
		secret := bytes.Repeat([]byte("s"), 100)
		runtime.AddCleanup(&secret[0], func(int) { freed.Add(1) }, 0)
		return unsafe.String(&secret[0], len(secret)), nil
	}
	base, _ := fetchtest.Serve(t, fetchtest.Answer(200, fetchtest.Good))
	fetchers := withSecretFunc("argument", wxtoken.WithBaseURL(base), wxtoken.WithSecretFunc(fn))
	for name, f := range fetchers {
		_, err := f.Fetch(t.Context())
		require.NoError(t, err, name)
	}
	assert.Eventually(t, func() bool { runtime.GC(); return int(freed.Load()) == len(fetchers) }, 10*time.Second, time.Millisecond)
	runtime.KeepAlive(fetchers)
}

// While no fetch is allowed because the platform denied the secret, the function
// is asked now and then, and another secret is used at once.
func TestANewSecretEndsTheCooldown(t *testing.T) {
	for name := range withSecretFunc("") {
		if name == "endpoint" { // whose host is another one
			continue
		}
		bubble(t, name, func(t *testing.T) {
			p := wxtest.NewPlatform(wxtest.WithApp("wx1", "right"), wxtest.WithApp("1105", "right"))
			p.AddCorp("ww1", "right")
			v := &vault{secret: "wrong"}
			f := withSecretFunc("argument", wxtoken.WithHTTPClient(p.Client()), wxtoken.WithSecretFunc(v.get))[name]
			src := wxtoken.New(f, nil)
			if name == "token" {
				src = wxtoken.New(wxtoken.Repeatable(struct{ *wxtoken.HTTPFetcher }{f}), nil)
			}
			var denied *wxtoken.APIError
			for range 300 { // for 30 s, of the minute that the cooldown lasts at first
				_, err := src.Token(t.Context())
				require.ErrorAs(t, err, &denied)
				time.Sleep(100 * time.Millisecond)
			}
			assert.Equal(t, 1, p.Stats().Fetches().Total(), "the platform was asked again with the same secret")
			assert.LessOrEqual(t, v.asked, 1+30/2, "more than once in 2 s")
			assert.GreaterOrEqual(t, v.asked, 8, "so seldom that a new secret is not noticed")

			for _, secret := range []string{"wrong too", "wrong-too"} { // the first one cannot be sent
				v.set(secret)
				time.Sleep(5 * time.Second)
				_, err := src.Token(t.Context())
				require.ErrorAs(t, err, &denied)
			}
			assert.Equal(t, 2, p.Stats().Fetches().Total())
			v.set("right")
			time.Sleep(5 * time.Second)
			assert.True(t, p.Honoured(token(t, src)))
			assert.Equal(t, 3, p.Stats().Fetches().Total())
		})
	}
}

func TestWrongSecret(t *testing.T) {
	bubble(t, "callers at once make one request, and each learns why it was denied", func(t *testing.T) {
		p := wxtest.NewPlatform(wxtest.WithApp("wx1", "right"))
		src := wxtoken.New(wxtoken.NewFetcher("wx1", "wrong", wxtoken.WithHTTPClient(p.Client())), nil)
		together(50, func(i int) {
			time.Sleep(time.Duration(i/25) * 20 * time.Second)
			_, err := src.Token(t.Context())
			var cool *wxtoken.CooldownError
			var denial *wxtoken.APIError
			assert.True(t, errors.As(err, &cool) && errors.As(err, &denial) && denial.Code == 40125, err)
			assert.ErrorContains(t, err, "invalid appsecret rid: ")
		})
		assert.Equal(t, 1, p.Stats().Fetches().Total())
	})
	// The record holds a fingerprint of the wrong secret, by which each process knows
	// whether the cooldown concerns it.
	for _, kind := range []string{"token", "stable", "QQ", "endpoint, POST", "repeatable", "secret func"} {
		bubble(t, "a process with the corrected secret is not blocked, "+kind, func(t *testing.T) {
			p, cache, scopes := wxtest.NewPlatform(wxtest.WithApp("wx1", "right")), wxtoken.NewMemoryCache(), map[string]bool{}
			for _, prefix := range []string{"a:", "b:"} {
				before := p.Stats().Fetches().Total()
				source := func(secret string) *wxtoken.Source {
					kinds := fetcherKinds(secret, wxtoken.WithHTTPClient(p.Client()))
					f := wxtoken.Fetcher(kinds[kind])
					switch kind {
					case "repeatable":
						f = wxtoken.Repeatable(struct{ *wxtoken.HTTPFetcher }{kinds["token"]})
					case "secret func":
						f = wxtoken.NewFetcher("wx1", "", wxtoken.WithHTTPClient(p.Client()), wxtoken.WithSecretFunc((&vault{secret: secret}).get))
					}
					return wxtoken.New(f, cache, wxtoken.WithKeyPrefix(prefix))
				}
				for range 3 {
					_, err := source("wrong").Token(t.Context())
					assert.ErrorContains(t, err, "errcode 40")
				}
				assert.Equal(t, before+1, p.Stats().Fetches().Total(), "three processes with the same wrong secret")
				key := regexp.MustCompile(`\((.*)\)`).FindStringSubmatch(fmt.Sprint(source("right")))[1]
				raw, err := cache.Get(t.Context(), key)
				require.NoError(t, err)
				scopes[regexp.MustCompile(`"scope":"[0-9a-f]{16}"`).FindString(string(raw))] = true
				token(t, source("right"))
				assert.Equal(t, before+2, p.Stats().Fetches().Total())
				token(t, source("wrong")) // the shared token serves it
			}
			assert.Len(t, scopes, 2, "one fingerprint for each key")
			assert.NotContains(t, scopes, "", "no fingerprint")
		})
	}
}

// The key tells the apps of a corporation apart, by their secrets or, where a
// function has those, by the argument: the secret may change, the record may not.
func TestWeComKeys(t *testing.T) {
	v := &vault{secret: "of-today"}
	for _, opts := range [][]wxtoken.FetcherOption{nil, {wxtoken.WithSecretFunc(v.get)}} {
		a, b := wxtoken.NewWeComFetcher("ww1", fetchtest.Secret, opts...), wxtoken.NewWeComFetcher("ww1", "of another app", opts...)
		assert.NotEqual(t, a.Key(), b.Key(), "two apps of a corporation share a key")
		assert.Equal(t, wxtoken.NewWeComFetcher("ww1", fetchtest.Secret).Key(), a.Key())
		assert.NotContains(t, a.Key(), "Marked")
	}
}
