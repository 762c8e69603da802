package wxtoken_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/wxtoken/wxtoken"
	"github.com/wxtoken/wxtoken/wxtest"
)

// A caller's httptrace hooks, as tracing libraries put into its ctx, are for the
// caller's own request; by HTTP/2 they are shown the path with the secret.
func TestTraceOfACallerSeesNothingOfTheFetch(t *testing.T) {
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		assert.Equal(t, 2, r.ProtoMajor)
		_, _ = io.WriteString(w, `{"access_token":"token-1","expires_in":7200}`)
	}))
	srv.EnableHTTP2 = true
	srv.StartTLS()
	defer srv.Close()
	ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
		GotConn:          func(httptrace.GotConnInfo) { t.Error("the caller's trace has a connection of the fetch") },
		WroteHeaderField: func(name string, value []string) { t.Error("the caller's trace has", name, value) },
	})
	f := wxtoken.NewFetcher("wx1", "s3cret", wxtoken.WithBaseURL(srv.URL), wxtoken.WithHTTPClient(srv.Client()))
	tok, err := wxtoken.New(f, nil).Token(ctx)
	require.NoError(t, err)
	assert.Equal(t, "token-1", tok.Value)
}

// The query of the URL may hold a secret, too.
func TestEndpointShowsNoSecret(t *testing.T) {
	e := described()
	e.URL = "https://me:MarkedSecret@platform.example/t?key=MarkedSecret"
	text := printed(t, e, &e, []wxtoken.Endpoint{e}, map[string]any{"e": e}, struct{ E wxtoken.Endpoint }{e})
	b, err := xml.Marshal(e)
	require.NoError(t, err)
	text += string(b)
	assert.NotContains(t, text, "Marked")
	assert.NotContains(t, text, fmt.Sprintf("%x", "Marked"))
	assert.Equal(t, "Endpoint(https://platform.example/t, 2 params)", e.String())
	assert.Equal(t, "Endpoint(URL unreadable)", wxtoken.Endpoint{URL: "https://MarkedSecret%zz"}.String())
	assert.Equal(t, "Endpoint(, 0 params)", wxtoken.Endpoint{}.String())

	// It can be read from a configuration all the same.
	var read wxtoken.Endpoint
	require.NoError(t, json.Unmarshal([]byte(`{"url":"https://h/t","method":"POST","params":{"a":"b"},"token":"t"}`), &read))
	assert.Equal(t, wxtoken.Endpoint{URL: "https://h/t", Method: "POST", Params: map[string]string{"a": "b"}, Token: "t"}, read)
}

// printed returns every printed form of values, and of the errors that they wrap.
func printed(t *testing.T, values ...any) string {
	t.Helper()
	var text bytes.Buffer
	for _, v := range values {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
			fmt.Fprintf(&text, verb+"\n", v)
		}
		if b, err := json.Marshal(v); err == nil {
			text.Write(b)
		}
		slog.New(slog.NewTextHandler(&text, nil)).Info("m", "v", v)
		slog.New(slog.NewJSONHandler(&text, nil)).Info("m", "v", v)
		if err, ok := v.(error); ok {
			for err = errors.Unwrap(err); err != nil; err = errors.Unwrap(err) {
				fmt.Fprintf(&text, "%+v %#v\n", err, err)
			}
		}
	}
	return text.String()
}

const markedSecret = "markedsecret0123456789markedsecr"

// A witness sees all that a program could print, and looks for secrets in it.
type witness struct {
	mu     sync.Mutex
	t      *testing.T
	latest []func() string
	seen   int
	tokens []string
}

// endpoints describes cgi-bin/token and cgi-bin/stable_token.
func endpoints(secret string) (get, post wxtoken.Endpoint) {
	get = wxtoken.Endpoint{
		URL:   "https://api.weixin.qq.com/cgi-bin/token?secret=" + url.QueryEscape(secret),
		Token: "access_token", ExpiresIn: "expires_in", Code: "errcode", Message: "errmsg",
		Params: map[string]string{"grant_type": "client_credential", "appid": "wx1"},
	}
	post = get
	post.URL, post.Method, post.Repeatable = "https://api.weixin.qq.com/cgi-bin/stable_token", "POST", true
	post.Params = map[string]string{"grant_type": "client_credential", "appid": "wx1", "secret": secret}
	return get, post
}

// fetcherKinds makes one Fetcher of each kind that there is.
func fetcherKinds(secret string, opt wxtoken.FetcherOption) map[string]*wxtoken.HTTPFetcher {
	plain, weCom := wxtoken.NewFetcher("wx1", secret, opt), wxtoken.NewWeComFetcher("ww1", secret, opt)
	get, post := endpoints(secret)
	asked := 0
	return map[string]*wxtoken.HTTPFetcher{
		"token": plain, "WeCom": weCom,
		"stable":         wxtoken.NewStableFetcher("wx1", secret, opt),
		"QQ":             wxtoken.NewQQFetcher("wx1", secret, opt),
		"ticket":         wxtoken.NewTicketFetcher(wxtoken.New(plain, nil), "jsapi", opt),
		"WeCom's ticket": wxtoken.NewTicketFetcher(wxtoken.New(weCom, nil), "agent_config", opt),
		"endpoint, GET":  wxtoken.NewEndpointFetcher("mine", get, opt),
		"endpoint, POST": wxtoken.NewEndpointFetcher("mine", post, opt),
		"function": wxtoken.NewFetcher("wx1", "", opt, wxtoken.WithSecretFunc(func(context.Context) (string, error) {
			switch asked++; asked {
			case 1, 5:
				return secret, fmt.Errorf("no lease for %q", secret)
			case 2, 6:
				panic(secret)
			case 3, 7:
				return secret + "\n", nil
			}
			return secret, nil
		})),
	}
}

func (w *witness) look(what string, values ...any) {
	w.t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, latest := range w.latest {
		w.tokens = append(w.tokens, latest())
	}
	w.search(what, printed(w.t, values...))
}

func (w *witness) search(what, text string) {
	w.t.Helper()
	w.seen += len(text)
	for _, secret := range append([]string{markedSecret, "marked token"}, w.tokens...) {
		if secret == "" {
			continue
		}
		for _, form := range []string{secret, fmt.Sprintf("%x", secret)} {
			assert.NotContains(w.t, text, form, what)
		}
	}
}

func TestNothingShowsTheSecretOrAToken(t *testing.T) {
	faults := map[string]wxtest.Fault{
		"none": wxtest.Latency(0), "busy": wxtest.Busy(), "portal": wxtest.CaptivePortal(), "empty": wxtest.EmptyBody(),
		"lost reply": wxtest.LostReply(), "5xx": wxtest.ServerError(502), "truncated": wxtest.Truncated(),
		"denied": wxtest.Denial(40125), "whitelist": wxtest.Denial(40164), "slow": wxtest.Latency(time.Minute),
		"echo":           wxtest.Answer(200, "text/html", "<p>no such page: /cgi-bin/token?secret="+markedSecret+"</p>"),
		"echo in errmsg": wxtest.Answer(200, "application/json", `{"errcode":40013,"errmsg":"bad secret `+markedSecret+`"}`),
		"bad lifetime":   wxtest.Answer(200, "", `{"access_token":"`+strings.Repeat("m", 136)+`","expires_in":-1}`),
		"status":         wxtest.Answer(302, "", markedSecret),
	}
	for name, fault := range faults {
		for kind := range fetcherKinds("", wxtoken.WithHTTPClient(nil)) {
			bubbles(t, name+", "+kind, func(t *testing.T) {
				p := wxtest.NewPlatform(wxtest.WithApp("wx1", markedSecret))
				p.AddCorp("ww1", markedSecret)
				w := &witness{t: t, latest: []func() string{
					func() string { return p.Latest("wx1") }, func() string { return p.LatestStable("wx1") },
					func() string { return p.LatestCorp("ww1", markedSecret) },
					func() string { return p.LatestTicket("wx1", "jsapi") },
					func() string { return p.LatestCorpTicket("ww1", markedSecret, "agent_config") },
				}}
				var logs bytes.Buffer
				f := fetcherKinds(markedSecret, wxtoken.WithHTTPClient(p.Client()))[kind]
				cache := &faultyCache{Cache: wxtoken.NewMemoryCache()}
				src := wxtoken.New(f, cache,
					wxtoken.WithObserver(func(e wxtoken.Event) { w.look("event", e, e.Err) }),
					wxtoken.WithLogger(slog.New(slog.NewTextHandler(&logs, &slog.HandlerOptions{Level: slog.LevelDebug}))))
				ask := func() {
					tok, err := src.Token(t.Context())
					w.look("answer", tok, &tok, []any{tok}, err)
					w.look("source", src, f, *f)
				}
				lift := p.Inject(fault)
				for range 3 {
					ask()
					time.Sleep(20 * time.Second)
				}
				lift()
				ask()
				time.Sleep(time.Minute)
				p.Revoke(p.Latest("wx1"))
				tok, _ := src.Token(t.Context())
				w.look("invalidate", src.Invalidate(t.Context(), tok.Value), src.Invalidate(t.Context(), tok.Value))
				ask()
				w.look("too young", src.Invalidate(t.Context(), p.Latest("wx1")))

				client := &http.Client{Transport: &wxtoken.Transport{Source: src, Base: p.Transport()}}
				resp, err := client.Get("https://api.weixin.qq.com/cgi-bin/get_api_domain_ip")
				w.look("transport", err)
				if err == nil {
					w.look("response", resp.Request.URL.String())
					_ = resp.Body.Close()
				}

				synctest.Wait()
				cache.get = func(context.Context) error { return errDown }
				cache.swap = cache.get
				time.Sleep(3 * time.Hour)
				ask()
				synctest.Wait()
				cache.get = func(context.Context) error { panic(errors.New("marked token " + markedSecret)) }
				time.Sleep(time.Minute)
				ask()

				raw, err := cache.Cache.Get(t.Context(), "wxtoken:"+f.Key())
				assert.NotContains(t, string(raw), markedSecret)
				w.look("key", f.Key(), err)
				synctest.Wait()
				w.search("log", logs.String())
				assert.Greater(t, w.seen, 10_000)
			})
		}
	}
}

// A gossipingCache has the record in every error, once say is set.
type gossipingCache struct {
	wxtoken.Cache
	say func(record string) error // nil: nothing
}

func (g *gossipingCache) Get(ctx context.Context, key string) ([]byte, error) {
	record, err := g.Cache.Get(ctx, key)
	if g.say != nil {
		return nil, g.say(string(record))
	}
	return record, err
}

func (g *gossipingCache) CompareAndSwap(ctx context.Context, key string, old, new []byte, ttl time.Duration) (bool, error) {
	stored, err := g.Cache.CompareAndSwap(ctx, key, old, new, ttl)
	if g.say != nil {
		return false, g.say(string(old) + string(new))
	}
	return stored, err
}

// storeFault is an error of a store's client, by a type of its own.
type storeFault struct{ Reply string }

func (f *storeFault) Error() string { return "unexpected reply " + f.Reply }

// Whatever a store says, of any Cache, no record shows in an error of Token and
// Invalidate, in an Event or in a log; what the error is can still be asked.
func TestErrorsOfAStoreShowNoRecord(t *testing.T) {
	for name, say := range map[string]func(record string) error{
		"text": func(r string) error {
			return fmt.Errorf("ERR unknown command 'EVALSHA', with args beginning with: '%s'", r)
		},
		"quoted":     func(r string) error { return fmt.Errorf("redis: can't parse %.100q", r) },
		"cut":        func(r string) error { return errors.New(r[min(len(r), 60):]) },
		"typed":      func(r string) error { return fmt.Errorf("store: %w", &storeFault{r}) },
		"joined":     func(r string) error { return errors.Join(wxtoken.ErrCacheMiss, &storeFault{r}) },
		"a miss too": func(r string) error { return fmt.Errorf("%w: %s", errors.Join(wxtoken.ErrCacheMiss), r) },
	} {
		bubble(t, name, func(t *testing.T) {
			p := wxtest.NewPlatform(wxtest.WithApp("wx1", markedSecret))
			w := &witness{t: t, latest: []func() string{func() string { return p.Latest("wx1") }}}
			cache := &gossipingCache{Cache: wxtoken.NewMemoryCache()}
			var logs bytes.Buffer
			var last atomic.Pointer[wxtoken.Event]
			src := wxtoken.New(wxtoken.NewFetcher("wx1", markedSecret, wxtoken.WithHTTPClient(p.Client())), cache,
				wxtoken.WithLogger(slog.New(slog.NewTextHandler(&logs, &slog.HandlerOptions{Level: slog.LevelDebug}))),
				wxtoken.WithObserver(func(e wxtoken.Event) {
					if e.Kind == wxtoken.EventCacheError {
						last.Store(&e)
					}
					w.look("event", e, e.Err)
				}))
			first := token(t, src)
			cache.say = say
			for range 8 {
				time.Sleep(20 * time.Minute)
				tok, err := src.Token(t.Context())
				w.look("answer", tok, err)
				w.look("invalidate", src.Invalidate(t.Context(), first))
			}
			synctest.Wait()
			require.NotNil(t, last.Load())
			assert.NotErrorIs(t, last.Load().Err, wxtoken.ErrCacheMiss)
			var fault *storeFault
			assert.Equal(t, name == "typed" || name == "joined", errors.As(last.Load().Err, &fault))
			w.search("log", logs.String())
			record, err := cache.Cache.Get(t.Context(), "wxtoken:token:wx1")
			if err == nil {
				assert.NotContains(t, logs.String(), string(record[:20]))
			}
		})
	}
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

// A Base may repeat the request's URL in its errors, in any spelling.
func TestErrorsOfABaseShowNoToken(t *testing.T) {
	const value = "MARKED/tok+en"
	for _, query := range []string{"", "?access_token=%4DARKED%2Ftok%2Ben"} {
		for _, spelled := range []string{value, url.QueryEscape(value), url.PathEscape(value), "%4DARKED%2Ftok%2Ben"} {
			if query == "" && spelled[0] == '%' {
				continue // not as it was sent
			}
			for i, err := range []error{
				&url.Error{Op: "Get", URL: apiURL, Err: fmt.Errorf("GET %q: %w", spelled, errDown)},
				&url.Error{Op: "Get", URL: apiURL + "?access_token=" + spelled, Err: errDown},
			} {
				tr := &wxtoken.Transport{Source: &rotatingSource{first: value}, Base: &platform{err: err}}
				_, err = tr.RoundTrip(get(t, apiURL+query))
				assert.Equal(t, i == 1, errors.Is(err, errDown), "an error is kept if it does not show the token itself")
				for _, verb := range []string{"%v", "%+v", "%#v", "%q"} {
					assert.NotContains(t, fmt.Sprintf(verb, err), spelled)
				}
			}
		}
	}
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
