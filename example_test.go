package wxtoken_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"time"

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
