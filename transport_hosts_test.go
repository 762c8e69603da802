package wxtoken_test

import (
	"context"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/wxtoken/wxtoken"
	"github.com/wxtoken/wxtoken/internal/errcode"
	"github.com/wxtoken/wxtoken/wxtest"
)

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
