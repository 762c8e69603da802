package wxtoken_test

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
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
	var text bytes.Buffer
	for _, v := range []any{e, &e, []wxtoken.Endpoint{e}, map[string]any{"e": e}, struct{ E wxtoken.Endpoint }{e}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
			fmt.Fprintf(&text, verb+"\n", v)
		}
		b, err := json.Marshal(v)
		require.NoError(t, err)
		text.Write(b)
		slog.New(slog.NewTextHandler(&text, nil)).Info("m", "v", v)
		slog.New(slog.NewJSONHandler(&text, nil)).Info("m", "v", v)
	}
	b, err := xml.Marshal(e)
	require.NoError(t, err)
	text.Write(b)
	assert.NotContains(t, text.String(), "Marked")
	assert.NotContains(t, text.String(), fmt.Sprintf("%x", "Marked"))
	assert.Equal(t, "Endpoint(https://platform.example/t, 2 params)", e.String())
	assert.Equal(t, "Endpoint(URL unreadable)", wxtoken.Endpoint{URL: "https://MarkedSecret%zz"}.String())
	assert.Equal(t, "Endpoint(, 0 params)", wxtoken.Endpoint{}.String())

	// It can be read from a configuration all the same.
	var read wxtoken.Endpoint
	require.NoError(t, json.Unmarshal([]byte(`{"url":"https://h/t","method":"POST","params":{"a":"b"},"token":"t"}`), &read))
	assert.Equal(t, wxtoken.Endpoint{URL: "https://h/t", Method: "POST", Params: map[string]string{"a": "b"}, Token: "t"}, read)
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

// fetcherKinds makes each kind of Fetcher that there is.
var fetcherKinds = map[string]func(opt wxtoken.FetcherOption) *wxtoken.HTTPFetcher{
	"token": func(opt wxtoken.FetcherOption) *wxtoken.HTTPFetcher {
		return wxtoken.NewFetcher("wx1", markedSecret, opt)
	},
	"stable": func(opt wxtoken.FetcherOption) *wxtoken.HTTPFetcher {
		return wxtoken.NewStableFetcher("wx1", markedSecret, opt)
	},
	"QQ": func(opt wxtoken.FetcherOption) *wxtoken.HTTPFetcher {
		return wxtoken.NewQQFetcher("wx1", markedSecret, opt)
	},
	"WeCom": func(opt wxtoken.FetcherOption) *wxtoken.HTTPFetcher {
		return wxtoken.NewWeComFetcher("ww1", markedSecret, opt)
	},
	"ticket": func(opt wxtoken.FetcherOption) *wxtoken.HTTPFetcher {
		return wxtoken.NewTicketFetcher(wxtoken.New(wxtoken.NewFetcher("wx1", markedSecret, opt), nil), "jsapi", opt)
	},
	"WeCom's ticket": func(opt wxtoken.FetcherOption) *wxtoken.HTTPFetcher {
		return wxtoken.NewTicketFetcher(wxtoken.New(wxtoken.NewWeComFetcher("ww1", markedSecret, opt), nil), "agent_config", opt)
	},
	"endpoint, GET": func(opt wxtoken.FetcherOption) *wxtoken.HTTPFetcher {
		return wxtoken.NewEndpointFetcher("mine", wxtoken.Endpoint{
			URL:   "https://api.weixin.qq.com/cgi-bin/token?secret=" + markedSecret,
			Token: "access_token", ExpiresIn: "expires_in", Code: "errcode", Message: "errmsg",
			Params: map[string]string{"grant_type": "client_credential", "appid": "wx1"},
		}, opt)
	},
	"endpoint, POST": func(opt wxtoken.FetcherOption) *wxtoken.HTTPFetcher {
		return wxtoken.NewEndpointFetcher("mine", wxtoken.Endpoint{
			URL: "https://api.weixin.qq.com/cgi-bin/stable_token", Method: "POST", Repeatable: true,
			Token: "access_token", ExpiresIn: "expires_in", Code: "errcode", Message: "errmsg",
			Params: map[string]string{"grant_type": "client_credential", "appid": "wx1", "secret": markedSecret},
		}, opt)
	},
	"function": func(opt wxtoken.FetcherOption) *wxtoken.HTTPFetcher {
		asked := 0
		return wxtoken.NewFetcher("wx1", "", opt, wxtoken.WithSecretFunc(func(context.Context) (string, error) {
			switch asked++; asked {
			case 1, 5:
				return markedSecret, fmt.Errorf("no lease for %q", markedSecret)
			case 2, 6:
				panic(markedSecret)
			case 3, 7:
				return markedSecret + "\n", nil
			}
			return markedSecret, nil
		}))
	},
}

func (w *witness) look(what string, values ...any) {
	w.t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, latest := range w.latest {
		w.tokens = append(w.tokens, latest())
	}
	for _, v := range values {
		var text bytes.Buffer
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
		w.search(what, text.String())
	}
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
		"refused": wxtest.Denial(40125), "whitelist": wxtest.Denial(40164), "slow": wxtest.Latency(time.Minute),
		"echo":           wxtest.Answer(200, "text/html", "<p>no such page: /cgi-bin/token?secret="+markedSecret+"</p>"),
		"echo in errmsg": wxtest.Answer(200, "application/json", `{"errcode":40013,"errmsg":"bad secret `+markedSecret+`"}`),
		"bad lifetime":   wxtest.Answer(200, "", `{"access_token":"`+strings.Repeat("m", 136)+`","expires_in":-1}`),
		"status":         wxtest.Answer(302, "", markedSecret),
	}
	for name, fault := range faults {
		for kind, newFetcher := range fetcherKinds {
			bubble(t, name+", "+kind, func(t *testing.T) {
				p := wxtest.NewPlatform(wxtest.WithApp("wx1", markedSecret))
				p.AddCorp("ww1", markedSecret)
				w := &witness{t: t, latest: []func() string{
					func() string { return p.Latest("wx1") }, func() string { return p.LatestStable("wx1") },
					func() string { return p.LatestCorp("ww1", markedSecret) },
					func() string { return p.LatestTicket("wx1", "jsapi") },
					func() string { return p.LatestCorpTicket("ww1", markedSecret, "agent_config") },
				}}
				var logs bytes.Buffer
				f := newFetcher(wxtoken.WithHTTPClient(p.Client()))
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

// A gossipingCache has the record in every error, once it is told to.
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
