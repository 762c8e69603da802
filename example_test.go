package wxtoken_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/bradfitz/gomemcache/memcache"
	"github.com/redis/go-redis/v9"

	"github.com/wxtoken/wxtoken"
	"github.com/wxtoken/wxtoken/wxtest"
)

// In an application, leave out everything that has to do with the platform: the
// real one is asked then.
func Example() {
	platform := wxtest.NewPlatform(wxtest.WithApp("wx1", "secret"))
	fetcher := wxtoken.NewFetcher("wx1", "secret", wxtoken.WithHTTPClient(platform.Client()))

	src := wxtoken.New(fetcher, wxtoken.NewMemoryCache()) // or NewRedisCache(rdb)
	tok, err := src.Token(context.Background())           // tok.Value goes into ?access_token=
	fmt.Println(platform.Honoured(tok.Value), err)

	// Or let a Transport put it there.
	client := &http.Client{Transport: &wxtoken.Transport{Source: src, Base: platform.Transport()}}
	resp, err := client.Get("https://api.weixin.qq.com/cgi-bin/get_api_domain_ip")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer resp.Body.Close()
	fmt.Println(resp.Status, platform.Stats().Fetches().Total(), "fetch")
	// Output:
	// true <nil>
	// 200 OK 1 fetch
}

// Two Sources on one cache stand for two processes.
func ExampleNew() {
	platform := wxtest.NewPlatform(wxtest.WithApp("wx1", "secret"))
	fetcher := wxtoken.NewFetcher("wx1", "secret", wxtoken.WithHTTPClient(platform.Client()))
	cache := wxtoken.NewMemoryCache()

	// All processes are given the same options. These are the defaults.
	newSource := func() *wxtoken.Source {
		return wxtoken.New(fetcher, cache,
			wxtoken.WithKeyPrefix("wxtoken:"),
			wxtoken.WithFetchTimeout(10*time.Second),
			wxtoken.WithRefreshAhead(5*time.Minute),
			wxtoken.WithLocalAge(45*time.Second),
		)
	}
	one, _ := newSource().Token(context.Background())
	two, _ := newSource().Token(context.Background())
	fmt.Println(one.Value == two.Value, platform.Stats().Fetches().Total(), "fetch")
	// Output: true 1 fetch
}

// No way of printing a token shows it.
func ExampleToken() {
	tok := wxtoken.Token{Value: "78_the-token", ExpiresAt: time.Date(2100, 1, 1, 2, 0, 0, 0, time.UTC)}
	fmt.Println(tok.Valid())
	fmt.Println(tok)
	fmt.Printf("%+v %q\n", tok, tok)
	// Output:
	// true
	// Token(redacted, expires 2100-01-01T02:00:00Z)
	// Token(redacted, expires 2100-01-01T02:00:00Z) Token(redacted, expires 2100-01-01T02:00:00Z)
}

type fixedToken string

func (f fixedToken) Token(context.Context) (wxtoken.Token, error) {
	return wxtoken.Token{Value: string(f), ExpiresAt: time.Now().Add(time.Hour)}, nil
}

// Code that needs a token takes a TokenSource, and gets another one in its tests.
func ExampleTokenSource() {
	apiURL := func(src wxtoken.TokenSource) (string, error) {
		tok, err := src.Token(context.Background())
		return "https://api.weixin.qq.com/cgi-bin/menu/get?access_token=" + tok.Value, err
	}
	fmt.Println(apiURL(fixedToken("t1")))
	// Output: https://api.weixin.qq.com/cgi-bin/menu/get?access_token=t1 <nil>
}

// fetchedAnHourAgo is the cache that another process has put a token into.
func fetchedAnHourAgo(token string) wxtoken.Cache {
	now := time.Now()
	record := fmt.Sprintf(`{"v":1,"epoch":"e","seq":1,"token":%q,"issued_at":%d,"expires_at":%d}`,
		token, now.Add(-time.Hour).UnixMilli(), now.Add(time.Hour).UnixMilli())
	cache := wxtoken.NewMemoryCache()
	_, _ = cache.CompareAndSwap(context.Background(), "wxtoken:token:wx1", nil, []byte(record), time.Hour)
	return cache
}

// A program that sends requests without a Transport reports a rejected token, asks
// again and tries once more.
func ExampleSource_Invalidate() {
	ctx := context.Background()
	platform := wxtest.NewPlatform(wxtest.WithApp("wx1", "secret"))
	fetcher := wxtoken.NewFetcher("wx1", "secret", wxtoken.WithHTTPClient(platform.Client()))
	src := wxtoken.New(fetcher, fetchedAnHourAgo("dead-token"))

	tok, _ := src.Token(ctx)
	fmt.Println("use", tok.Value)

	if errcode := 40001; wxtoken.IsTokenRejected(errcode) { // from the API's answer
		fmt.Println("invalidate:", src.Invalidate(ctx, tok.Value))
		tok, err := src.Token(ctx)
		fmt.Println("use another:", platform.Honoured(tok.Value), err)
	}

	// Others may report the old one later: that has no effect. And the rejection of
	// so young a token is not believed, as the platform is known to misbehave.
	fmt.Println("again:", src.Invalidate(ctx, "dead-token"))
	tok, _ = src.Token(ctx)
	fmt.Println("young:", src.Invalidate(ctx, tok.Value) != nil, platform.Stats().Fetches().Total(), "fetch")
	// Output:
	// use dead-token
	// invalidate: <nil>
	// use another: true <nil>
	// again: <nil>
	// young: true 1 fetch
}

// A central server keeps the token fresh although nobody asks for it.
func ExampleSource_Run() {
	platform := wxtest.NewPlatform(wxtest.WithApp("wx1", "secret"))
	fetcher := wxtoken.NewFetcher("wx1", "secret", wxtoken.WithHTTPClient(platform.Client()))
	fetched := make(chan struct{})
	src := wxtoken.New(fetcher, nil, wxtoken.WithObserver(func(e wxtoken.Event) {
		if e.Kind == wxtoken.EventFetch {
			close(fetched)
		}
	}))

	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- src.Run(ctx) }()
	<-fetched
	fmt.Println(platform.Honoured(platform.Latest("wx1")))
	stop() // at shutdown
	fmt.Println(<-ended)
	// Output:
	// true
	// context canceled
}

// A program that runs for a moment, a cron job say, waits for what it began: one
// that returns from main in the middle of a fetch leaves the others to find out
// what came of it. It waits no longer than its own deadline.
func ExampleSource_Wait() {
	platform := wxtest.NewPlatform(wxtest.WithApp("wx1", "secret"))
	fetcher := wxtoken.NewFetcher("wx1", "secret", wxtoken.WithHTTPClient(platform.Client()))
	cache := wxtoken.NewMemoryCache() // in a cron job, one that all processes share

	job := func() error { // as main would
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		src := wxtoken.New(fetcher, cache)
		defer src.Wait(ctx)

		tok, err := src.Token(ctx)
		if err != nil {
			return err
		}
		fmt.Println("send the report:", platform.Honoured(tok.Value))
		return nil
	}
	fmt.Println(job(), job(), platform.Stats().Fetches().Total(), "fetch")
	// Output:
	// send the report: true
	// send the report: true
	// <nil> <nil> 1 fetch
}

// A readiness handler asks at any rate, waits for nothing, and causes nothing.
func ExampleSource_Peek() {
	platform := wxtest.NewPlatform(wxtest.WithApp("wx1", "secret"))
	fetcher := wxtoken.NewFetcher("wx1", "secret", wxtoken.WithHTTPClient(platform.Client()))
	src := wxtoken.New(fetcher, nil)

	ready := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if _, ok := src.Peek(); !ok {
			http.Error(w, "no access_token yet", http.StatusServiceUnavailable)
		}
	})
	ask := func() int {
		w := httptest.NewRecorder()
		ready.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/ready", nil))
		return w.Code
	}
	fmt.Println(ask(), platform.Stats().Fetches().Total(), "fetches")
	_, _ = src.Token(context.Background()) // or src.Run, in the background
	fmt.Println(ask(), platform.Stats().Fetches().Total(), "fetch")
	// Output:
	// 503 0 fetches
	// 200 1 fetch
}

func ExampleIsTokenRejected() {
	for _, errcode := range []int{0, 40001, 40014, 41001, 42001, 42007} {
		fmt.Println(errcode, wxtoken.IsTokenRejected(errcode))
	}
	// Output:
	// 0 false
	// 40001 true
	// 40014 true
	// 41001 false
	// 42001 true
	// 42007 false
}

// Once the platform has denied a request, it is not asked again for a while. Every error
// says why.
func ExampleCooldownError() {
	platform := wxtest.NewPlatform(wxtest.WithApp("wx1", "secret"))
	fetcher := wxtoken.NewFetcher("wx1", "reset-last-week", wxtoken.WithHTTPClient(platform.Client()))
	src := wxtoken.New(fetcher, nil)

	var err error
	for range 100 {
		_, err = src.Token(context.Background())
	}
	var cooling *wxtoken.CooldownError
	var denied *wxtoken.APIError
	if errors.As(err, &cooling) && errors.As(err, &denied) {
		fmt.Println("errcode", denied.Code, "and a wait of at most", time.Until(cooling.Until).Round(time.Minute))
	}
	fmt.Println(platform.Stats().Fetches().Total(), "request")
	// Output:
	// errcode 40125 and a wait of at most 1m0s
	// 1 request
}

// Programs that have nothing to do with each other can share a store: each has
// a prefix. All processes of the same app must have the same one.
func ExampleWithKeyPrefix() {
	platform := wxtest.NewPlatform(wxtest.WithApp("wx1", "secret"))
	fetcher := wxtoken.NewFetcher("wx1", "secret", wxtoken.WithHTTPClient(platform.Client()))
	cache := wxtoken.NewMemoryCache()
	src := wxtoken.New(fetcher, cache, wxtoken.WithKeyPrefix("shop:"))

	_, _ = src.Token(context.Background())
	_, err := cache.Get(context.Background(), "shop:token:wx1")
	fmt.Println(src, err)
	// Output: wxtoken.Source(shop:token:wx1) <nil>
}

// withoutTimes leaves out what differs each time. In an application, use nil.
var withoutTimes = &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
	if a.Key == "time" || a.Key == "duration_ms" || a.Key == "expires_at" {
		return slog.Attr{}
	}
	return a
}}

// The Events are what metrics are made of: see examples/metrics. Here they go into
// log/slog with attributes of your own. WithLogger does the same without them, and
// logs an outage of the cache once.
func ExampleWithObserver() {
	platform := wxtest.NewPlatform(wxtest.WithApp("wx1", "secret"))
	fetcher := wxtoken.NewFetcher("wx1", "wrong", wxtoken.WithHTTPClient(platform.Client()))

	logger := slog.New(slog.NewTextHandler(os.Stdout, withoutTimes))
	src := wxtoken.New(fetcher, nil, wxtoken.WithObserver(func(e wxtoken.Event) {
		attrs := []slog.Attr{slog.String("kind", string(e.Kind)), slog.String("team", "payments")}
		var denial *wxtoken.APIError
		if errors.As(e.Err, &denial) {
			attrs = append(attrs, slog.Int("errcode", denial.Code))
		}
		logger.LogAttrs(context.Background(), e.Level(), "access_token", attrs...)
	}))
	_, _ = src.Token(context.Background())

	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = src.Wait(ctx) // until the Event is delivered
	// Output: level=ERROR msg=access_token kind=fetch team=payments errcode=40125
}

// lines is a writer that hands on what is written.
type lines chan string

func (l lines) Write(line []byte) (int, error) {
	l <- string(line)
	return len(line), nil
}

func ExampleWithLogger() {
	platform := wxtest.NewPlatform(wxtest.WithApp("wx1", "secret"))
	fetcher := wxtoken.NewFetcher("wx1", "secret", wxtoken.WithHTTPClient(platform.Client()))

	out := make(lines, 10) // in an application, os.Stderr
	logger := slog.New(slog.NewTextHandler(out, withoutTimes))
	src := wxtoken.New(fetcher, nil, wxtoken.WithLogger(logger))
	_, _ = src.Token(context.Background())
	fmt.Print(<-out)
	// Output: level=INFO msg="wxtoken: fetch" key=wxtoken:token:wx1
}

// The first key seals, and each one opens, so that keys can be rotated. A
// process without the key gets an error, and harms nothing.
func ExampleWithEncryption() {
	ctx := context.Background()
	platform := wxtest.NewPlatform(wxtest.WithApp("wx1", "secret"))
	fetcher := wxtoken.NewFetcher("wx1", "secret", wxtoken.WithHTTPClient(platform.Client()))
	cache := wxtoken.NewMemoryCache()

	var before, after [32]byte // from your store of secrets
	_, _ = rand.Read(before[:])
	_, _ = rand.Read(after[:])

	one, _ := wxtoken.New(fetcher, cache, wxtoken.WithEncryption(before)).Token(ctx)
	two, _ := wxtoken.New(fetcher, cache, wxtoken.WithEncryption(after, before)).Token(ctx)
	fmt.Println(one.Value == two.Value)

	record, _ := cache.Get(ctx, "wxtoken:token:wx1")
	fmt.Println("plain in the cache:", bytes.Contains(record, []byte(one.Value)))

	_, err := wxtoken.New(fetcher, cache).Token(ctx)
	fmt.Println(err)
	// Output:
	// true
	// plain in the cache: false
	// wxtoken: the record in the cache is sealed and no key of this process opens it; give WithEncryption the key that sealed it
}

// Another host is tried where no connection can be made. These are the hosts
// of a test; the default is WeChat's five.
func ExampleWithBaseURL() {
	gone := wxtest.NewServer()
	gone.Close()
	platform := wxtest.NewServer(wxtest.WithApp("wx1", "secret"))
	defer platform.Close()

	fetcher := wxtoken.NewFetcher("wx1", "secret", wxtoken.WithBaseURL(gone.URL, platform.URL))
	tok, err := wxtoken.New(fetcher, nil).Token(context.Background())
	fmt.Println(platform.Honoured(tok.Value), err)
	// Output: true <nil>
}

// mapCache is a Cache of your own, over any store that can compare and set. This
// one is a map. Package cachetest tests that such a Cache keeps the contract.
type mapCache struct {
	mu    sync.Mutex
	items map[string]item
}

type item struct {
	value string
	until time.Time
}

func (m *mapCache) get(key string) (value string, found bool) {
	it, found := m.items[key]
	return it.value, found && time.Now().Before(it.until)
}

// Get tells a key that is not there from a store that does not answer.
func (m *mapCache) Get(ctx context.Context, key string) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	value, found := m.get(key)
	if !found {
		return nil, wxtoken.ErrCacheMiss
	}
	return []byte(value), ctx.Err()
}

// CompareAndSwap compares and writes in one step of the store.
func (m *mapCache) CompareAndSwap(ctx context.Context, key string, old, new []byte, ttl time.Duration) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	value, found := m.get(key)
	if err := ctx.Err(); err != nil || found != (old != nil) || value != string(old) && found {
		return false, err
	}
	m.items[key] = item{string(new), time.Now().Add(ttl)}
	return true, nil
}

func ExampleCache() {
	platform := wxtest.NewPlatform(wxtest.WithApp("wx1", "secret"))
	fetcher := wxtoken.NewFetcher("wx1", "secret", wxtoken.WithHTTPClient(platform.Client()))

	var cache wxtoken.Cache = &mapCache{items: map[string]item{}}
	tok, err := wxtoken.New(fetcher, cache).Token(context.Background())
	fmt.Println(platform.Honoured(tok.Value), err)
	// Output: true <nil>
}

type deadCache struct{}

func (deadCache) Get(context.Context, string) ([]byte, error) {
	return nil, errors.New("connection refused")
}

func (deadCache) CompareAndSwap(context.Context, string, []byte, []byte, time.Duration) (bool, error) {
	return false, errors.New("connection refused")
}

// A process that starts while the cache is down fetches nothing: that could
// supersede the token that all others use. The fetcher of stable_token does, as its
// fetches supersede nothing.
func Example_cacheDown() {
	platform := wxtest.NewPlatform(wxtest.WithApp("wx1", "secret"))
	client := wxtoken.WithHTTPClient(platform.Client())

	_, err := wxtoken.New(wxtoken.NewFetcher("wx1", "secret", client), deadCache{}).Token(context.Background())
	fmt.Println(errors.Is(err, wxtoken.ErrCacheUnavailable), platform.Stats().Fetches().Total(), "requests")

	tok, err := wxtoken.New(wxtoken.NewStableFetcher("wx1", "secret", client), deadCache{}).Token(context.Background())
	fmt.Println(platform.Honoured(tok.Value), err)
	// Output:
	// true 0 requests
	// true <nil>
}

// An app of one process. The platform is a fake here; leave WithHTTPClient out
// to ask the real one.
func ExampleNewMemoryCache() {
	platform := wxtest.NewPlatform(wxtest.WithApp("wx0123456789abcdef", "secret"))
	fetcher := wxtoken.NewFetcher("wx0123456789abcdef", "secret", wxtoken.WithHTTPClient(platform.Client()))
	src := wxtoken.New(fetcher, wxtoken.NewMemoryCache())

	for range 1000 {
		if _, err := src.Token(context.Background()); err != nil {
			fmt.Println(err)
		}
	}
	fmt.Println("fetches:", platform.Stats().Fetches().Total())
	// Output: fetches: 1
}

// The processes of one machine, a web process and a cron job say, share a
// directory. The platform is a fake here, as above.
func ExampleNewFileCache() {
	dir, err := os.MkdirTemp("", "wxtoken-example-") // in production one that stays, such as /var/lib/myapp/wxtoken
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	platform := wxtest.NewPlatform(wxtest.WithApp("wx0123456789abcdef", "secret"))
	fetcher := wxtoken.NewFetcher("wx0123456789abcdef", "secret", wxtoken.WithHTTPClient(platform.Client()))

	for range 3 { // as three processes would
		src := wxtoken.New(fetcher, wxtoken.NewFileCache(dir))
		if _, err := src.Token(context.Background()); err != nil {
			fmt.Println(err)
		}
	}
	fmt.Println("fetches:", platform.Stats().Fetches().Total())
	// Output: fetches: 1
}

// Processes that share an app are given the same Redis. The URL holds user,
// password and database number; rediss:// speaks TLS. For Sentinel and Cluster,
// use redis.NewFailoverClient and redis.NewClusterClient.
func ExampleNewRedisCache() {
	opts, err := redis.ParseURL(os.Getenv("REDIS_URL")) // redis://user:password@redis.internal:6379/0
	if err != nil {
		fmt.Println(err)
		return
	}
	opts.ContextTimeoutEnabled = true // a slow server is waited for no longer than ctx says
	rdb := redis.NewClient(opts)
	defer rdb.Close()

	src := wxtoken.New(wxtoken.NewFetcher("wx0123456789abcdef", os.Getenv("WX_SECRET")), wxtoken.NewRedisCache(rdb))
	tok, err := src.Token(context.Background())
	fmt.Println(tok, err)
}

// Every process lists the same Memcached servers in the same order. One that is
// listed twice gets twice the share of the keys.
func ExampleNewMemcachedCache() {
	mc := memcache.New("10.0.0.1:11211", "10.0.0.2:11211", "10.0.0.2:11211")
	mc.Timeout = time.Second
	defer mc.Close()

	src := wxtoken.New(wxtoken.NewFetcher("wx0123456789abcdef", os.Getenv("WX_SECRET")), wxtoken.NewMemcachedCache(mc))
	tok, err := src.Token(context.Background())
	fmt.Println(tok, err)
}

// answer returns how the answer of an API begins.
func answer(client *http.Client, url string) string {
	resp, err := client.Get(url)
	if err != nil {
		return err.Error()
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return fmt.Sprintf("%.47s %v", body, err)
}

// A client that adds the token by itself, and replaces one that an API rejects,
// also where other code has put it into the request.
func ExampleTransport() {
	platform := wxtest.NewServer(wxtest.WithApp("wx1", "secret")) // in an application, the real one
	defer platform.Close()

	fetcher := wxtoken.NewFetcher("wx1", "secret", wxtoken.WithBaseURL(platform.URL))
	src := wxtoken.New(fetcher, fetchedAnHourAgo("dead-token"))
	client := &http.Client{Transport: &wxtoken.Transport{
		Source: src,
		Hosts:  []string{strings.TrimPrefix(platform.URL, "http://")}, // nil for the real platform
	}}

	for _, query := range []string{
		"",                                // gets the dead token, and then the next one
		"?access_token=dead-token",        // kept by other code that got it from src
		"?access_token=the-token-of-user", // is not src's
	} {
		fmt.Println(answer(client, platform.URL+"/cgi-bin/get_api_domain_ip"+query))
	}
	fmt.Println("calls by errcode:", platform.Stats().Calls())
	fmt.Println("tokens fetched:", platform.Stats().Fetches().Total())
	// Output:
	// {"ip_list":["101.226.233.128","58.246.220.31"]} <nil>
	// {"ip_list":["101.226.233.128","58.246.220.31"]} <nil>
	// {"errcode":40014,"errmsg":"invalid access_token <nil>
	// calls by errcode: map[0:2 40014:3]
	// tokens fetched: 1
}

// Two apps behind the one HTTP client of an SDK that adds the tokens by itself:
// each rejected token is replaced by one of the same app.
func ExampleTransport_others() {
	platform := wxtest.NewPlatform(wxtest.WithApp("wx1", "secret"), wxtest.WithApp("wx2", "secret"))
	fetcher := func(appID string) wxtoken.Fetcher {
		return wxtoken.NewFetcher(appID, "secret", wxtoken.WithHTTPClient(platform.Client()))
	}
	official := wxtoken.New(fetcher("wx2"), nil)
	mini := wxtoken.New(fetcher("wx1"), fetchedAnHourAgo("dead-token"))
	client := &http.Client{Transport: &wxtoken.Transport{
		Source: official,
		Others: []wxtoken.TokenSource{mini},
		Base:   platform.Transport(), // nil for the real platform
	}}

	for _, src := range []*wxtoken.Source{official, mini} {
		tok, _ := src.Token(context.Background()) // as the SDK does, by its adapter
		fmt.Println(answer(client, "https://api.weixin.qq.com/cgi-bin/get_api_domain_ip?access_token="+tok.Value))
	}
	fmt.Println("calls by errcode:", platform.Stats().Calls())
	// Output:
	// {"ip_list":["101.226.233.128","58.246.220.31"]} <nil>
	// {"ip_list":["101.226.233.128","58.246.220.31"]} <nil>
	// calls by errcode: map[0:2 40014:1]
}

func ExampleNewFetcher() {
	platform := wxtest.NewServer(wxtest.WithApp("wx1", "s3cret"))
	defer platform.Close()

	// Against the real platform there is no need for options.
	src := wxtoken.New(wxtoken.NewFetcher("wx1", "s3cret", wxtoken.WithBaseURL(platform.URL)), nil)
	tok, err := src.Token(context.Background())
	fmt.Println(tok.Value == platform.Latest("wx1"), err)
	// Output: true <nil>
}

func ExampleNewStableFetcher() {
	platform := wxtest.NewServer(wxtest.WithApp("wx1", "s3cret"))
	defer platform.Close()

	f := wxtoken.NewStableFetcher("wx1", "s3cret", wxtoken.WithBaseURL(platform.URL))
	first, _ := f.Fetch(context.Background())
	again, err := f.Fetch(context.Background())
	fmt.Println(f.Key(), first.Value == again.Value, err)
	// Output: stable:wx1 true <nil>
}

func ExampleNewQQFetcher() {
	platform := wxtest.NewServer(wxtest.WithApp("1105", "s3cret"))
	defer platform.Close()

	src := wxtoken.New(wxtoken.NewQQFetcher("1105", "s3cret", wxtoken.WithBaseURL(platform.URL)), nil)
	tok, err := src.Token(context.Background())
	fmt.Println(tok.Value == platform.Latest("1105"), err)
	// Output: true <nil>
}

// A token that comes from somewhere else, a program of your own for example, is
// kept in the same way. An *APIError says that none was issued.
func ExampleFetcherFunc() {
	f := wxtoken.FetcherFunc("mine:1105", func(ctx context.Context) (wxtoken.Token, error) {
		asked := time.Now() // before the request: the token's time runs from then
		value, seconds := "a-token", 7200
		return wxtoken.Token{Value: value, ExpiresAt: asked.Add(time.Duration(seconds) * time.Second)}, nil
	})
	tok, err := wxtoken.New(f, nil).Token(context.Background())
	fmt.Println(tok.Valid(), err)
	// Output: true <nil>
}

// The signature of a page in the WeChat browser needs a ticket, which is fetched with
// the app's access token: one Source for each. WeCom has two tickets: the
// corporation's, for wx.config, and that of the app whose access token is used, for
// wx.agentConfig.
func ExampleNewTicketFetcher() {
	ctx := context.Background()
	platform := wxtest.NewServer(wxtest.WithApp("wx1", "s3cret"))
	defer platform.Close()
	platform.AddCorp("ww1", "s3cret-of-one-app")
	opt, cache := wxtoken.WithBaseURL(platform.URL), wxtoken.NewMemoryCache()

	weChat := wxtoken.New(wxtoken.NewFetcher("wx1", "s3cret", opt), cache)
	tickets := wxtoken.New(wxtoken.NewTicketFetcher(weChat, "jsapi", opt), cache)
	ticket, err := tickets.Token(ctx)
	fmt.Println(ticket.Value == platform.LatestTicket("wx1", "jsapi"), err)

	weCom := wxtoken.New(wxtoken.NewWeComFetcher("ww1", "s3cret-of-one-app", opt), cache)
	for _, kind := range []string{"jsapi", "agent_config"} {
		tickets := wxtoken.New(wxtoken.NewTicketFetcher(weCom, kind, opt), cache)
		ticket, err := tickets.Token(ctx)
		fmt.Println(ticket.Value == platform.LatestCorpTicket("ww1", "s3cret-of-one-app", kind), err)
	}
	// Output:
	// true <nil>
	// true <nil>
	// true <nil>
}

func ExampleNewWeComFetcher() {
	platform := wxtest.NewServer()
	defer platform.Close()
	platform.AddCorp("ww1", "s3cret-of-one-app")

	src := wxtoken.New(wxtoken.NewWeComFetcher("ww1", "s3cret-of-one-app", wxtoken.WithBaseURL(platform.URL)), nil)
	tok, err := src.Token(context.Background())
	fmt.Println(tok.Valid(), err)
	// Output: true <nil>
}

// A token server of your own hands out the same token to everybody: to ask it
// twice is harmless, even while the cache is unavailable.
func ExampleRepeatable() {
	fromOurServer := wxtoken.FetcherFunc("ours:wx1", func(ctx context.Context) (wxtoken.Token, error) {
		return wxtoken.Token{Value: "a-token", ExpiresAt: time.Now().Add(time.Hour)}, nil
	})
	tok, err := wxtoken.New(wxtoken.Repeatable(fromOurServer), deadCache{}).Token(context.Background())
	fmt.Println(tok.Valid(), err)
	// Output: true <nil>
}

// A secret in a file that is replaced when it is rotated, as Kubernetes does. For a
// secret in Vault, the function returns what client.KVv2("secret").Get(ctx, path) has.
func ExampleWithSecretFunc() {
	ctx := context.Background()
	platform := wxtest.NewServer(wxtest.WithApp("wx1", "first-secret"))
	defer platform.Close()
	dir, _ := os.MkdirTemp("", "")
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "secret")
	_ = os.WriteFile(path, []byte("first-secret\n"), 0o600)

	fromFile := func(context.Context) (string, error) {
		secret, err := os.ReadFile(path)
		return strings.TrimSpace(string(secret)), err
	}
	f := wxtoken.NewFetcher("wx1", "", wxtoken.WithSecretFunc(fromFile), wxtoken.WithBaseURL(platform.URL))
	tok, err := f.Fetch(ctx)
	fmt.Println(platform.Honoured(tok.Value), err)

	platform.SetSecret("wx1", "second-secret")
	_ = os.WriteFile(path, []byte("second-secret\n"), 0o600)
	tok, err = f.Fetch(ctx)
	fmt.Println(platform.Honoured(tok.Value), err)
	// Output:
	// true <nil>
	// true <nil>
}

func ExampleAPIError() {
	platform := wxtest.NewServer(wxtest.WithApp("wx1", "s3cret"))
	defer platform.Close()

	src := wxtoken.New(wxtoken.NewFetcher("wx1", "not-it", wxtoken.WithBaseURL(platform.URL)), nil)
	_, err := src.Token(context.Background())
	var denied *wxtoken.APIError
	if errors.As(err, &denied) {
		fmt.Println(denied.Code, denied.Temporary())
	}
	// Output: 40125 false
}

// An application that logs by zap, zerolog, logrus or the like hands Events on, each at
// its level. WithLogger is for log/slog.
func ExampleEvent_Level() {
	platform := wxtest.NewPlatform(wxtest.WithApp("wx1", "secret"))
	fetcher := wxtoken.NewFetcher("wx1", "secret", wxtoken.WithHTTPClient(platform.Client()))

	logged := make(chan string, 10)
	logw := func(level int, msg string, keysAndValues ...any) {
		logged <- fmt.Sprintln(append([]any{level, msg}, keysAndValues...)...)
	}
	observer := wxtoken.WithObserver(func(e wxtoken.Event) {
		fields := []any{"key", e.Key, "count", e.Count}
		if e.Err != nil {
			fields = append(fields, "error", e.Err)
		}
		// In an application, with zap:
		//	zap.S().Logw(zapcore.Level(e.Level()/4), msg, fields...)
		// with zerolog:
		//	log.WithLevel(zerolog.Level(e.Level()/4 + 1)).Fields(fields).Msg(msg)
		// with logrus, whose fields are a map:
		//	logrus.WithFields(fields).Log(logrus.Level(4-e.Level()/4), msg)
		logw(int(e.Level()/4), "wxtoken: "+string(e.Kind), fields...)
	})
	_, _ = wxtoken.New(fetcher, nil, observer).Token(context.Background())
	fmt.Print(<-logged)
	_, _ = wxtoken.New(fetcher, deadCache{}, observer).Token(context.Background())
	fmt.Print(<-logged)
	// Output:
	// 0 wxtoken: fetch key wxtoken:token:wx1 count 1
	// 2 wxtoken: cache_error key wxtoken:token:wx1 count 1 error connection refused
}

// Encryption is switched on while some processes have no key yet.
func ExampleWithPlainRecords() {
	ctx := context.Background()
	platform := wxtest.NewPlatform(wxtest.WithApp("wx1", "secret"))
	fetcher := wxtoken.NewFetcher("wx1", "secret", wxtoken.WithHTTPClient(platform.Client()))
	cache := wxtoken.NewMemoryCache()
	var key [32]byte // from your store of secrets

	old, _ := wxtoken.New(fetcher, cache).Token(ctx)

	_, err := wxtoken.New(fetcher, cache, wxtoken.WithEncryption(key)).Token(ctx)
	fmt.Println("without:", err != nil)

	tok, err := wxtoken.New(fetcher, cache, wxtoken.WithEncryption(key), wxtoken.WithPlainRecords()).Token(ctx)
	fmt.Println("with:", tok.Value == old.Value, err)
	// Output:
	// without: true
	// with: true <nil>
}

// Tokens are fetched through a proxy whose address is on the IP whitelist.
func ExampleWithHTTPClient() {
	proxy := &url.URL{Scheme: "http", Host: "10.0.0.7:3128"}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.Proxy = http.ProxyURL(proxy)

	fetcher := wxtoken.NewStableFetcher("wx1", "secret",
		wxtoken.WithHTTPClient(&http.Client{Transport: transport}))
	src := wxtoken.New(fetcher, nil)
	fmt.Println(src)
	// Output: wxtoken.Source(wxtoken:stable:wx1)
}
