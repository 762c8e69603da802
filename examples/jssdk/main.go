// Jssdk serves a page that is signed for the JS-SDK:
//
//	go run ./examples/jssdk
//
// Then open http://127.0.0.1:8901/ in any browser: it shows the arguments of
// wx.config. LISTEN sets another address to listen on. It runs on a fake platform
// unless WECHAT_APPID and WECHAT_SECRET are set.
//
// To see it in WeChat, the page needs a domain that is one of the app's JS接口安全域名,
// with https in front: set PAGE_HOST to that domain.
package main

import (
	"context"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/wxtoken/wxtoken"
	"github.com/wxtoken/wxtoken/examples/internal/platform"
	"github.com/wxtoken/wxtoken/jssdk"
)

//go:embed page
var files embed.FS

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Stdout, os.Getenv); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, stdout io.Writer, getenv func(string) string) error {
	p, err := platform.FromEnv(getenv)
	if err != nil {
		return err
	}
	listen := getenv("LISTEN")
	if listen == "" {
		listen = "127.0.0.1:8901"
	}
	l, err := net.Listen("tcp", listen)
	if err != nil {
		return fmt.Errorf("wxtoken example: set LISTEN to another address: %w", err)
	}
	host := getenv("PAGE_HOST")
	if host == "" {
		host = l.Addr().String()
	}
	fmt.Fprintf(stdout, "platform  %s\npage      http://%s/, signed for the host %s\n", p.Name, l.Addr(), host)

	server := &http.Server{Handler: newHandler(p, host, stdout), ReadHeaderTimeout: 5 * time.Second}
	defer context.AfterFunc(ctx, func() { _ = server.Close() })()
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// newHandler serves the page, and signs it as long as its host is host.
func newHandler(p *platform.Platform, host string, logs io.Writer) http.Handler {
	// For several processes, pass wxtoken.NewRedisCache(client) instead of nil,
	// twice.
	access := wxtoken.New(p.Fetcher, nil)
	client := wxtoken.WithHTTPClient(&http.Client{Transport: p.Transport}) // for the fake
	tickets := wxtoken.New(wxtoken.NewTicketFetcher(access, "jsapi", client), nil)

	mux := http.NewServeMux()
	file := func(path, name string) {
		mux.HandleFunc("GET "+path, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Security-Policy", "default-src 'self'; script-src 'self' https://res.wx.qq.com")
			http.ServeFileFS(w, r, files, name)
		})
	}
	file("/{$}", "page/page.html")
	file("/page.js", "page/page.js")
	mux.HandleFunc("GET /wx/config", func(w http.ResponseWriter, r *http.Request) {
		page := r.FormValue("url")
		if u, err := url.Parse(page); err != nil || u.Host != host {
			http.Error(w, "not a page of "+host, http.StatusForbidden)
			return
		}
		config, err := jssdk.Sign(r.Context(), tickets, p.AppID, page)
		if err != nil {
			fmt.Fprintln(logs, "error    ", err) // shows no ticket and no secret
			http.Error(w, "the page cannot be signed now", http.StatusServiceUnavailable)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store") // a signature is for one page and a short time
		_ = json.NewEncoder(w).Encode(config)
	})
	return mux
}
