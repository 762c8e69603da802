// Thirdparty is a third-party platform (第三方平台): the callback that receives the
// pushes, the page to which owners return, and calls on behalf of accounts.
//
//	go run ./examples/thirdparty
//
// runs it on the fake platform, which pushes a ticket and the authorizations of two
// accounts, and exits. To run it for real, set what the platform's console shows:
//
//	COMPONENT_APPID, COMPONENT_SECRET   AppID and AppSecret of the third-party platform
//	COMPONENT_TOKEN, COMPONENT_AESKEY   message token and key (消息校验Token, 消息加解密Key)
//	REDIS_URL                           redis://…; without it, nothing outlives the process
//	ADDR                                where to listen, behind a proxy that does TLS; default 127.0.0.1:8080
//
// and set the authorization event URL (授权事件接收URL) to …/wechat/events, and the
// page after the authorization to …/wechat/authorized.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxtoken/wxtoken"
	"github.com/wxtoken/wxtoken/openplatform"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Stdout, os.Getenv); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, stdout io.Writer, getenv func(string) string) error {
	say := func(what, format string, args ...any) {
		fmt.Fprintf(stdout, "%-13s %s\n", what, fmt.Sprintf(format, args...))
	}
	cache, done, err := connect(ctx, getenv("REDIS_URL"))
	if err != nil {
		return err
	}
	defer done()
	c, err := configure(getenv)
	if err != nil {
		return err
	}
	say("platform", "%s", c.name)

	p := openplatform.New(c.appID, c.secret, cache,
		openplatform.WithCallback(c.token, c.aesKey),
		openplatform.WithFetcherOptions(c.fetcher...))
	app := &app{platform: p, base: c.base}

	listener, err := net.Listen("tcp", c.addr)
	if err != nil {
		return fmt.Errorf("wxtoken example: set ADDR to an address that is free: %w", err)
	}
	server := &http.Server{Handler: app.routes(), ReadTimeout: 10 * time.Second}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	url := "http://" + listener.Addr().String()
	say("listening", "%s", url)

	if c.fake != nil {
		err = demo(ctx, say, c, app, url)
	} else {
		select {
		case <-ctx.Done():
		case err = <-served:
		}
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	return errors.Join(err, server.Shutdown(ctx))
}

// connect returns the cache that all processes of the platform share.
func connect(ctx context.Context, url string) (wxtoken.Cache, func(), error) {
	if url == "" {
		return wxtoken.NewMemoryCache(), func() {}, nil
	}
	opts, err := redis.ParseURL(url)
	if err != nil { // err can hold the password
		return nil, nil, errors.New("wxtoken example: set REDIS_URL, for example to redis://127.0.0.1:6379/0")
	}
	opts.ContextTimeoutEnabled = true
	client := redis.NewClient(opts)
	if err := client.Ping(ctx).Err(); err != nil {
		_ = client.Close()
		return nil, nil, fmt.Errorf("wxtoken example: set REDIS_URL to a Redis server that answers; %s does not: %w", opts.Addr, err)
	}
	return wxtoken.NewRedisCache(client), func() { _ = client.Close() }, nil
}
