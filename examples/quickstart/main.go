// Quickstart shows what wxtoken does, in one process and on a fake platform:
//
//	go run ./examples/quickstart
//
// Set WECHAT_APPID and WECHAT_SECRET to run it against WeChat. It then makes two
// requests, for a token and for a list of addresses, and forces nothing.
package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/wxtoken/wxtoken"
	"github.com/wxtoken/wxtoken/examples/internal/platform"
)

func main() {
	if err := run(context.Background(), os.Stdout, os.Getenv); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, stdout io.Writer, getenv func(string) string) error {
	say := func(what, format string, args ...any) {
		fmt.Fprintf(stdout, "%-9s %s\n", what, fmt.Sprintf(format, args...))
	}
	p, err := platform.FromEnv(getenv)
	if err != nil {
		return err
	}
	say("platform", "%s", p.Name)

	// A program of your own needs no more than this, with
	// wxtoken.NewFetcher(appID, secret) or NewStableFetcher for p.Fetcher:
	src := wxtoken.New(p.Fetcher, wxtoken.NewMemoryCache())

	// 1,000 concurrent callers, and no token yet.
	start := time.Now()
	if err := burst(ctx, src, 1000); err != nil {
		return err
	}
	say("burst", "1,000 concurrent callers, %d fetch, %v", p.Fetcher.Fetches(), time.Since(start).Round(time.Millisecond))

	token, err := src.Token(ctx) // token.Value goes into ?access_token=
	if err != nil {
		return err
	}
	say("token", "%v", token)

	// Transport adds the token to each request.
	client := &http.Client{Transport: &wxtoken.Transport{Source: src, Base: p.Transport}}
	body, err := call(ctx, client)
	if err != nil {
		return err
	}
	say("call", "%s", body)

	// It also replaces a token that the platform rejects, and resends the call.
	if p.Fake != nil {
		time.Sleep(time.Second) // the rejection of a younger token would not be believed
		p.Fake.Revoke(token.Value)
		if body, err = call(ctx, client); err != nil {
			return err
		}
		say("rejected", "the platform revoked the token; the next call got %s, with %d fetches in all", body, p.Fetcher.Fetches())
	}

	say("next", "for several processes, replace NewMemoryCache() with NewRedisCache(client): see examples/redis")
	return nil
}

// burst makes n callers ask for the token at once.
func burst(ctx context.Context, src *wxtoken.Source, n int) error {
	var wg sync.WaitGroup
	errs := make(chan error, n)
	for range n {
		wg.Go(func() {
			_, err := src.Token(ctx)
			errs <- err
		})
	}
	wg.Wait()
	close(errs)
	for err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// call calls an API that needs a token.
func call(ctx context.Context, client *http.Client) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://api.weixin.qq.com/cgi-bin/get_api_domain_ip", nil)
	if err != nil {
		return "", err
	}
	resp, err := client.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 200))
	return string(body), err
}
