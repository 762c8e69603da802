package wxtoken_test

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/wxtoken/wxtoken"
	"github.com/wxtoken/wxtoken/internal/errcode"
	"github.com/wxtoken/wxtoken/internal/fetchtest"
	"github.com/wxtoken/wxtoken/wxtest"
)

const (
	rejection = `{"errcode":40001,"errmsg":"invalid credential, access_token is invalid or not latest rid: 1-2-3"}`
	apiURL    = "https://api.weixin.qq.com/cgi-bin/get_api_domain_ip"
)

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
		{"a=1", "a=1&access_token=a%26b%3D%C3%BC%2B", "a=1&access_token=token-2", "a&b=ü+"},
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

func TestTransportReplaysBodies(t *testing.T) {
	text, once := strings.NewReader("hello"), func() io.Reader { return io.MultiReader(strings.NewReader("hello")) }
	gone := func() (io.ReadCloser, error) { return nil, errors.New("file is gone") }
	for name, test := range map[string]struct {
		body    io.Reader
		getBody func() (io.ReadCloser, error) // nil: as http.NewRequest has it
		sent    []string
	}{
		"none":           {nil, nil, []string{"", ""}},
		"NoBody":         {http.NoBody, nil, []string{"", ""}},
		"text":           {text, nil, []string{"hello", "hello"}}, // never more than one replay
		"not replayable": {once(), nil, []string{"hello"}},
		"GetBody fails":  {once(), gone, []string{"hello"}},
	} {
		t.Run(name, func(t *testing.T) {
			base, src := &platform{answers: []string{rejection}}, &rotatingSource{}
			tr := &wxtoken.Transport{Source: src, Base: base}
			req, err := http.NewRequest(http.MethodPost, apiURL, test.body)
			require.NoError(t, err)
			if test.getBody != nil {
				req.GetBody = test.getBody
			}
			assert.Equal(t, rejection, send(t, tr, req), "the last rejection is the caller's")
			assert.Equal(t, test.sent, base.bodies)
			assert.Equal(t, []string{"token-1"}, src.rejected)
			base.answers = []string{"{}"}
			send(t, tr, get(t, apiURL))
			assert.Equal(t, "access_token=token-2", base.queries()[len(test.sent)], "the next call is good")
		})
	}
}

func TestTransportSource(t *testing.T) {
	plain := tokenFunc(func(context.Context) (wxtoken.Token, error) { return wxtoken.Token{Value: "token-1"}, nil })
	for name, tc := range map[string]struct {
		src    wxtoken.TokenSource
		query  string // of the request
		sent   []string
		answer string
		closed bool // the first answer, before the caller reads it
	}{
		"a user's token was rejected, not the Source's": {&rotatingSource{}, "", []string{"access_token=token-1"}, `{"errcode":42007}`, false},
		"flapping: the same token is tried again": {&rotatingSource{invalidateErr: errors.New("cache down")}, "",
			[]string{"access_token=token-1", "access_token=token-1"}, "{}", true},
		"no fresh token: the rejection is returned as it came": {&rotatingSource{failFrom: 2}, "", []string{"access_token=token-1"}, rejection, false},
		"without Invalidate: nothing is looked into":           {plain, "", []string{"access_token=token-1"}, rejection, false},
		"with a token of the caller's: not asked":              {&rotatingSource{failFrom: 1}, "access_token=mine", []string{"access_token=mine"}, rejection, false},
	} {
		t.Run(name, func(t *testing.T) {
			base, req := &platform{answers: []string{rejection, "{}"}}, get(t, apiURL+"?"+tc.query)
			if !tc.closed { // it is the answer
				base.answers[0] = tc.answer
			}
			resp, err := (&wxtoken.Transport{Source: tc.src, Base: base}).RoundTrip(req)
			require.NoError(t, err)
			assert.Equal(t, tc.closed, base.closed[0])
			if strings.HasPrefix(name, "without") {
				assert.IsType(t, &closeSpy{}, resp.Body)
			}
			assert.Equal(t, tc.answer, readAll(t, resp))
			assert.Equal(t, tc.sent, base.queries())
		})
	}
}

// unsent has tr send a request with a body, which must fail before it is sent.
func unsent(t *testing.T, tr *wxtoken.Transport, url string) error {
	t.Helper()
	base, closed := &platform{answers: []string{"{}"}}, false
	tr.Base = base
	req := get(t, url)
	req.Body = &closeSpy{strings.NewReader("x"), func() { closed = true }}
	_, err := tr.RoundTrip(req)
	require.Error(t, err)
	assert.True(t, closed, "request body")
	assert.Empty(t, base.sent)
	return err
}

func TestTransportErrors(t *testing.T) {
	cause := errors.New("no luck")
	const none = "wxtoken: Transport has no Source; set its field to the result of New"
	returns := func(tok wxtoken.Token, err error) wxtoken.TokenSource {
		return tokenFunc(func(context.Context) (wxtoken.Token, error) { return tok, err })
	}
	for name, tc := range map[string]struct {
		src         wxtoken.TokenSource
		query, want string
		is          error
	}{
		"nil Source":                   {nil, "", none, nil},
		"nil Source, a token is there": {nil, "&access_token=mine", none, nil},
		"error":                        {returns(wxtoken.Token{}, cause), "", "wxtoken: request not sent, the Transport's Source returned no token: no luck", cause},
		"empty":                        {returns(wxtoken.Token{}, nil), "", "wxtoken: request not sent, the Transport's Source returned no token: its Token is empty", nil},
		"timeout": {returns(wxtoken.Token{}, context.DeadlineExceeded), "",
			"wxtoken: request not sent, the Transport's Source returned no token: context deadline exceeded", context.DeadlineExceeded},
	} {
		t.Run(name, func(t *testing.T) {
			err := unsent(t, &wxtoken.Transport{Source: tc.src}, apiURL+"?secret=1"+tc.query)
			assert.EqualError(t, err, tc.want)
			assert.True(t, tc.is == nil || errors.Is(err, tc.is))
			assert.Equal(t, name == "timeout", os.IsTimeout(err))
		})
	}
	t.Run("zero value, other host", func(t *testing.T) {
		srv := httptest.NewServer(fetchtest.Answer(200, "hi"))
		defer srv.Close()
		assert.Equal(t, "hi", send(t, new(wxtoken.Transport), get(t, srv.URL)))
	})
	t.Run("no URL, no answer, no body", func(t *testing.T) {
		tr := &wxtoken.Transport{Source: &rotatingSource{}}
		_, err := tr.RoundTrip(&http.Request{})
		assert.Error(t, err)
		tr.Base = baseFunc(func(*http.Request) (*http.Response, error) { return nil, nil })
		_, err = (&http.Client{Transport: tr}).Get(apiURL)
		assert.Error(t, err)
		tr.Base = baseFunc(func(*http.Request) (*http.Response, error) { return &http.Response{StatusCode: 204}, nil })
		send(t, tr, get(t, apiURL))
	})
}

// Client.Timeout and the request's ctx end a wait for the Source.
func TestTransportContext(t *testing.T) {
	for _, blockAt := range []int{1, 2} {
		bubble(t, fmt.Sprintf("call %d of Token blocks", blockAt), func(t *testing.T) {
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
			send(t, tr, req)
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

// Without Hosts, a token goes to the hosts of its platform, whatever the Fetcher is
// made of, and to no other.
func TestTransportHostsOfThePlatform(t *testing.T) {
	p := wxtest.NewPlatform(wxtest.WithApp("wx1", "s"))
	p.AddCorp("ww1", "s")
	client, weChat := wxtoken.WithHTTPClient(p.Client()), "api api2 sh.api sz.api hk.api"
	goesTo := func(src wxtoken.TokenSource, hosts, what string) {
		for _, host := range strings.Fields(weChat + " qyapi mp api.q.qq.com q.qq.com") {
			wanted := slices.Contains(strings.Fields(hosts), host)
			if !strings.HasSuffix(host, ".com") {
				host += ".weixin.qq.com"
			}
			base := &platform{answers: []string{"{}"}}
			send(t, &wxtoken.Transport{Source: src, Base: base}, get(t, "https://"+host+"/cgi-bin/x"))
			assert.Equal(t, wanted, base.queries()[0] != "", "%s to %s", what, host)
		}
	}
	goesTo(&rotatingSource{}, weChat, "any TokenSource")
	goesTo(wxtoken.New(onPlatform{&countingFetcher{}, errcode.ThirdParty}, nil), weChat, "third party")
	for f, hosts := range map[*wxtoken.HTTPFetcher]string{
		wxtoken.NewFetcher("wx1", "s", client):       weChat,
		wxtoken.NewStableFetcher("wx1", "s", client): weChat,
		wxtoken.NewWeComFetcher("ww1", "s", client):  "qyapi",
		wxtoken.NewQQFetcher("wx1", "s", client):     "api.q.qq.com",
	} {
		for how, f := range map[string]wxtoken.Fetcher{
			"plain": f, "embedded": struct{ *wxtoken.HTTPFetcher }{f}, "hidden": struct{ wxtoken.Fetcher }{f},
			"repeatable": wxtoken.Repeatable(f), "hidden and repeatable": wxtoken.Repeatable(struct{ wxtoken.Fetcher }{f}),
		} {
			goesTo(struct{ *wxtoken.Source }{wxtoken.New(f, nil)}, hosts, f.Key()+", "+how)
		}
	}
}

// A renamed fetcher has all that a Source knows of it, but the Key.
type renamed struct{ *wxtoken.HTTPFetcher }

func (renamed) Key() string { return "renamed" }

// Fields that cannot be used are an error of every request, and nothing is sent.
func TestTransportFields(t *testing.T) {
	mine := wxtoken.FetcherFunc("wecom:mine", new(countingFetcher).Fetch)
	ticket := wxtoken.NewTicketFetcher(wxtoken.New(wxtoken.NewFetcher("wx1", "s"), nil), "jsapi")
	good := &rotatingSource{}
	type transport = wxtoken.Transport
	invalid := map[*transport]string{
		{Source: (*wxtoken.Source)(nil)}:                                                  "Transport.Source is nil",
		{Source: good, Others: []wxtoken.TokenSource{good, nil}}:                          "Transport.Others[1] is nil",
		{Source: good, Others: []wxtoken.TokenSource{(*wxtoken.Source)(nil)}}:             "Transport.Others[0] is nil",
		{Source: wxtoken.New(ticket, nil), Hosts: []string{"api.weixin.qq.com"}}:          "keeps tickets",
		{Source: good, Hosts: []string{"api.weixin.qq.com", "https://api.weixin.qq.com"}}: "Transport.Hosts[1] is not",
	}
	for _, f := range []wxtoken.Fetcher{mine, wxtoken.Repeatable(mine), struct{ wxtoken.Fetcher }{wxtoken.FetcherFunc("mine", mine.Fetch)},
		wxtoken.NewEndpointFetcher("wecom:1", wxtoken.Endpoint{URL: "https://open.douyin.com/oauth/client_token/"})} {
		invalid[&transport{Source: wxtoken.New(f, nil)}] = "set Transport.Hosts"
	}
	for _, f := range []wxtoken.Fetcher{ticket, struct{ wxtoken.Fetcher }{ticket}, wxtoken.Repeatable(renamed{ticket})} {
		invalid[&transport{Source: wxtoken.New(f, nil)}] = "keeps tickets"
	}
	for _, host := range []string{"me:password@api.weixin.qq.com", "api.weixin.qq.com/cgi-bin", "", ":443", "api.weixin.qq.com:https",
		"api.weixin.qq.com:0", "*.weixin.qq.com", "api.weixin.qq.com ", "[::1]"} {
		invalid[&transport{Source: good, Hosts: []string{host}}] = "Transport.Hosts[0] is not"
	}
	for tr, want := range invalid {
		for _, target := range []string{apiURL, apiURL + "?access_token=mine", "https://other.example/"} {
			err := unsent(t, tr, target)
			assert.ErrorContains(t, err, "wxtoken: request not sent: ")
			assert.ErrorContains(t, err, want)
			assert.NotContains(t, err.Error(), "password")
		}
	}
	assert.Zero(t, good.asked)

	base := &platform{answers: []string{"{}"}}
	send(t, &transport{Source: wxtoken.New(mine, nil), Hosts: []string{"api.example"}, Base: base}, get(t, "https://api.example/x"))
	assert.Equal(t, []string{"access_token=token-1"}, base.queries())
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
// what it got, and asks those that take a report of a rejection what they have.
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
		{"takes no report", "plain-1", "plain-1", []wxtoken.TokenSource{plain}},
		{"not its token", "stranger", "stranger", []wxtoken.TokenSource{away, plain}},
		{"one has no token", "other-1", "other-1 token-2", []wxtoken.TokenSource{away, &rotatingSource{first: "other-1"}}},
		{"one does not answer", "stranger", "stranger", []wxtoken.TokenSource{stuck}},
	} {
		bubble(t, tc.name, func(t *testing.T) {
			base := &platform{answers: []string{"{}", rejection, rejection}}
			tr := &wxtoken.Transport{Source: &rotatingSource{}, Others: tc.others, Base: base}
			send(t, tr, get(t, apiURL))
			start := time.Now()
			assert.Equal(t, rejection, send(t, tr, get(t, apiURL+"?access_token="+tc.value)))
			assert.LessOrEqual(t, time.Since(start), time.Second)
			want := "access_token=" + strings.ReplaceAll(tc.sent, " ", " access_token=")
			assert.Equal(t, strings.Fields(want), base.queries()[1:])
		})
	}
}

// Of a source that cannot say what it handed out, the last 16 values are known, also
// when they are no longer the current ones.
func TestTransportRemembersSixteenTokens(t *testing.T) {
	base, src := &platform{answers: []string{"{}"}}, &rotatingSource{}
	tr := &wxtoken.Transport{Source: src, Base: base}
	for n := range 40 {
		for range 2 { // again and again, as callers ask
			send(t, tr, get(t, apiURL))
		}
		require.NoError(t, src.Invalidate(t.Context(), fmt.Sprint("token-", n+1)))
	}
	base.answers = []string{rejection}
	for n := range 40 {
		before := len(base.sent)
		send(t, tr, get(t, fmt.Sprint(apiURL, "?access_token=token-", n+1)))
		assert.Equal(t, n+1 > 41-16, len(base.sent)-before == 2, "token %d, of 41 with the one it was asked for just now", n+1)
	}
}

// A request can bear a token that another process handed out, as after a restart:
// a Source knows those of the record.
func TestTransportKnowsTheTokensOfTheRecord(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f, cache := &countingFetcher{lifetime: time.Hour}, wxtoken.NewMemoryCache()
		use(t, 9*time.Hour, time.Hour, wxtoken.New(f, cache))
		for n := 1; n <= 9; n++ {
			after, base := wxtoken.New(f, &swapsBy{Cache: cache}), &platform{answers: []string{rejection}}
			token(t, after)
			send(t, &wxtoken.Transport{Source: after, Hosts: []string{"api.weixin.qq.com"}, Base: base}, get(t, fmt.Sprint(apiURL, "?access_token=token-", n)))
			assert.Equal(t, n >= 4, len(base.sent) == 2, "token-%d", n)
		}
	})
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
			assert.Equal(t, rejection, send(t, &wxtoken.Transport{Source: src, Base: base}, req))
			require.Len(t, base.sent, 1)
			assert.Same(t, req, base.sent[0], "passed on untouched")
			assert.Equal(t, []string{body}, base.bodies)
			assert.Zero(t, src.asked)
			assert.Empty(t, src.rejected)
		})
	}
	opaque := get(t, apiURL)
	opaque.URL.Path, opaque.URL.Opaque = "", "//api.weixin.qq.com/sns/user%69nfo"
	send(t, &wxtoken.Transport{Source: &rotatingSource{failFrom: 1}, Base: &platform{answers: []string{"{}"}}}, opaque)
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
			send(t, &wxtoken.Transport{Source: &rotatingSource{}, Base: base}, get(t, "https://api.weixin.qq.com"+target))
			require.Len(t, base.sent, 2)
			assert.Equal(t, "token-1", base.sent[0].URL.Query().Get("access_token"))
			assert.Equal(t, "token-2", base.sent[1].URL.Query().Get("access_token"))
		})
	}
}

// The second half of the upload is written only when the server has the first.
func TestTransportStreamsUploads(t *testing.T) {
	halfway := make(chan struct{})
	client, url, src := serve(t, func(w http.ResponseWriter, r *http.Request) {
		half := make([]byte, 5)
		_, _ = io.ReadFull(r.Body, half)
		close(halfway)
		rest, _ := io.ReadAll(r.Body)
		_, _ = fmt.Fprintf(w, `{"media":%q}`, string(half)+string(rest))
	})
	r, w := io.Pipe()
	go func() {
		_, _ = io.WriteString(w, "first")
		<-halfway
		_, _ = io.WriteString(w, "second")
		_ = w.Close()
	}()
	resp, err := client.Post(url, "image/jpeg", r)
	require.NoError(t, err)
	assert.Equal(t, `{"media":"firstsecond"}`, readAll(t, resp))
	assert.Empty(t, src.rejected)
}

func TestTransportCompressed(t *testing.T) {
	zipped := func(text string) string {
		var b bytes.Buffer
		z := gzip.NewWriter(&b)
		_, _ = io.WriteString(z, text)
		_ = z.Close()
		return b.String()
	}
	client, url, src := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Encoding", "gzip")
		answer := `{"ok":1}`
		if r.FormValue("access_token") == "token-1" {
			answer = rejection
		}
		_, _ = io.WriteString(w, zipped(answer))
	})
	req := get(t, url)
	req.Header.Set("Accept-Encoding", "gzip")
	assert.Equal(t, zipped(rejection), send(t, client.Transport, req), "compressed for the caller: not looked into")
	assert.Equal(t, `{"ok":1}`, send(t, client.Transport, get(t, url)))
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

	assert.Empty(t, send(t, client.Transport, get(t, url+"/204")))
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
	send(t, client.Transport, get(t, url))
	require.Len(t, remotes, 2)
	assert.Equal(t, remotes[0], remotes[1])
}

func TestTransportParallel(t *testing.T) {
	var good atomic.Pointer[string]
	client, url, src := serve(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if r.URL.Query().Get("access_token") != *good.Load() {
			body = []byte(rejection)
		}
		_, _ = w.Write(body)
	})
	for round := range 5 {
		value := "token-" + strconv.Itoa(round+1)
		good.Store(&value)
		together(8, func(g int) {
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
	assert.Equal(t, 4, src.rotations, "one per change of the token")
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

// A rejection that stalls holds up RoundTrip for a second, and the caller gets what
// there is of it. How bodies are read is tested in internal/errcode.
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
		bubble(t, name, func(t *testing.T) {
			sent, closed := 0, 0
			base := baseFunc(func(*http.Request) (*http.Response, error) {
				sent++
				r, w := io.Pipe()
				go io.WriteString(w, begun)
				body := &closeSpy{r, func() { closed++; _ = r.Close() }}
				return &http.Response{StatusCode: 200, Header: http.Header{"Content-Length": {"100"}}, ContentLength: 100, Body: body}, nil
			})
			start := time.Now()
			resp, err := (&wxtoken.Transport{Source: tc.src, Base: base}).RoundTrip(get(t, tc.url))
			require.NoError(t, err)
			assert.Equal(t, begun, readAll(t, resp))
			assert.EqualValues(t, -1, resp.ContentLength)
			assert.Empty(t, resp.Header.Get("Content-Length"))
			assert.Equal(t, time.Duration(tc.n)*time.Second, time.Since(start))
			assert.Equal(t, []int{tc.n, tc.n}, []int{sent, min(closed, tc.n)})
		})
	}
}

// The same with sockets, where Close must end a Read that is under way.
func TestTransportStalledConnection(t *testing.T) {
	t.Parallel()
	client, url, src := serve(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, `{"errcode":40001,"errmsg":"`)
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, io.MultiReader(strings.NewReader("x")))
	require.NoError(t, err)
	resp, err := client.Do(req)
	require.NoError(t, err)
	assert.Equal(t, `{"errcode":40001,"errmsg":"`, readAll(t, resp))
	assert.NoError(t, ctx.Err())
	assert.Equal(t, []string{"token-1"}, src.rejected)
}

// Whatever the query: the server reads the token that Invalidate is called with,
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
		own, rest, other := readQuery(query)
		if token == "" || own == token {
			return
		}
		base, src := &platform{answers: []string{rejection}}, &rotatingSource{first: token, next: token}
		if handedOut && own != "" {
			src.first = own
		}
		req := get(t, apiURL)
		req.URL.RawQuery = query
		send(t, &wxtoken.Transport{Source: src, Base: base}, req)
		require.Equal(t, query, req.URL.RawQuery)

		queries := base.queries()
		if other || own != "" && !handedOut {
			require.Equal(t, []string{query}, queries)
			require.Empty(t, src.rejected)
			return
		}
		require.Len(t, queries, 2)
		require.True(t, own == "" || queries[0] == query)
		require.Equal(t, []string{cmp.Or(own, token)}, src.rejected)
		for i, want := range []string{cmp.Or(own, token), token} {
			sent, sentRest, _ := readQuery(queries[i])
			require.Equal(t, want, sent)
			require.Equal(t, rest, sentRest)
		}
	})
}

// readQuery returns the first access_token of a raw query that is not empty, the
// other parameters as they are written, and whether one of them is another credential.
func readQuery(query string) (token, rest string, other bool) {
	for part := range strings.SplitSeq(query, "&") {
		key, value, _ := strings.Cut(part, "=")
		name, _ := url.QueryUnescape(key)
		switch {
		case name == "access_token" && token == "":
			token = value
			if plain, err := url.QueryUnescape(value); err == nil {
				token = plain
			}
		case name != "access_token" && part != "":
			rest += "&" + part
			other = other || slices.Contains([]string{"component_access_token", "suite_access_token", "provider_access_token", "cloudbase_access_token"}, name)
		}
	}
	return token, rest, other
}

// tokenFunc is a TokenSource without Invalidate.
type tokenFunc func(context.Context) (wxtoken.Token, error)

func (f tokenFunc) Token(ctx context.Context) (wxtoken.Token, error) { return f(ctx) }
