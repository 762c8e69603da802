// Fakeplatform runs wxtest as a program: a fake of WeChat's token endpoints for
// trying programs in any language.
//
//	go run ./examples/fakeplatform -listen 127.0.0.1:8900 -app wxdemo:demo-secret
//	curl 'http://127.0.0.1:8900/cgi-bin/token?grant_type=client_credential&appid=wxdemo&secret=demo-secret'
//
// Business calls such as /cgi-bin/get_api_domain_ip?access_token= check the
// token. Everything is in memory.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/wxtoken/wxtoken/wxtest"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Stdout, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, stdout io.Writer, args []string) error {
	platform := wxtest.NewPlatform()
	flags := flag.NewFlagSet("fakeplatform", flag.ContinueOnError)
	flags.SetOutput(stdout)
	listen := flags.String("listen", "127.0.0.1:8900", "address to listen on")
	apps := 0
	flags.Func("app", "an `appID:secret`; repeat the flag for more apps", func(text string) error {
		appID, secret, ok := strings.Cut(text, ":")
		if !ok || appID == "" || secret == "" {
			return errors.New("want appID:secret")
		}
		platform.AddApp(appID, secret)
		apps++
		return nil
	})
	if err := flags.Parse(args); errors.Is(err, flag.ErrHelp) {
		return nil
	} else if err != nil {
		return err
	}
	if apps == 0 {
		return errors.New("wxtoken example: pass an app to fakeplatform: -app wxdemo:demo-secret")
	}
	l, err := net.Listen("tcp", *listen)
	if err != nil {
		return fmt.Errorf("wxtoken example: pass another address with -listen: %w", err)
	}
	fmt.Fprintf(stdout, "fake platform with %d apps on http://%s\n", apps, l.Addr())

	server := &http.Server{Handler: platform, ReadHeaderTimeout: 5 * time.Second}
	defer context.AfterFunc(ctx, func() { _ = server.Close() })()
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
