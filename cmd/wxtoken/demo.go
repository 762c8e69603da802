package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/wxtoken/wxtoken/cmd/wxtoken/internal/config"
	"github.com/wxtoken/wxtoken/cmd/wxtoken/internal/serve"
	"github.com/wxtoken/wxtoken/wxtest"
)

// serveDemo serves an app of wxtest's fake platform, which runs in this process too,
// and prints what to try.
func serveDemo(ctx context.Context, env environment, addr string) (int, error) {
	secret := random()
	platform := wxtest.NewPlatform(wxtest.WithApp("wxdemo", secret))
	fake, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return exitFailed, fmt.Errorf("wxtoken serve: %w", err)
	}
	server := &http.Server{Handler: platform, ReadHeaderTimeout: 5 * time.Second}
	go func() { _ = server.Serve(fake) }()
	defer server.Close()

	client := random()
	c := &config.Config{
		Listen: free(addr), Admin: free("127.0.0.1:8902"), Single: true,
		Apps:    []config.App{{AppID: "wxdemo", Secret: secret, BaseURL: "http://" + fake.Addr().String(), Type: config.Token, Tickets: []string{"jsapi"}}},
		Clients: []config.Client{{Name: "demo", Secret: client, Apps: []string{"wxdemo"}, Proxy: []string{"/cgi-bin/*"}}},
	}
	if err := c.Check(); err != nil {
		return exitUsage, err
	}
	s, err := serve.Open(c, slog.New(slog.NewJSONHandler(env.stderr, nil)))
	if err != nil {
		return exitFailed, err
	}
	base := "http://" + s.Addr()
	fmt.Fprintf(env.stdout, `A token server with the app wxdemo of a fake platform. Try:

  a token      curl -H 'Authorization: Bearer %[2]s' '%[1]s/token?appid=wxdemo'
  an API call  curl -H 'Authorization: Bearer %[2]s' '%[1]s/proxy/wxdemo/cgi-bin/get_api_domain_ip'
  as an SDK    curl '%[1]s/cgi-bin/token?grant_type=client_credential&appid=wxdemo&secret=%[2]s'
  the page     http://%[3]s/

Ctrl-C stops it.
`, base, client, s.AdminAddr())
	return exitStatus(serveUntilSignal(ctx, env, s, nil))
}

// free returns addr, or an address that the system picks if addr is taken.
func free(addr string) string {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return "127.0.0.1:0"
	}
	_ = l.Close()
	return addr
}

func random() string {
	raw := make([]byte, 16)
	_, _ = rand.Read(raw) // never fails
	return hex.EncodeToString(raw)
}
