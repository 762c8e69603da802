// Tokenserver hands out the access tokens of WeChat apps to services in any
// language, over HTTP. README.md tells how to configure, run and ask it.
package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/redis/go-redis/v9"

	"github.com/wxtoken/wxtoken"
	"github.com/wxtoken/wxtoken/examples/metrics/prommetrics"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	redis.SetLogger(redisLog{slog.New(slog.NewJSONHandler(os.Stderr, nil))})
	if err := run(ctx, os.Args[1:], os.Getenv, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// A redisLog makes go-redis log as the rest of the program does.
type redisLog struct{ *slog.Logger }

func (l redisLog) Printf(ctx context.Context, format string, args ...any) {
	l.WarnContext(ctx, fmt.Sprintf(format, args...))
}

// run serves until ctx ends.
func run(ctx context.Context, args []string, getenv func(string) string, stderr io.Writer) error {
	flags := flag.NewFlagSet("tokenserver", flag.ContinueOnError)
	flags.SetOutput(stderr)
	path := flags.String("config", "", "JSON file with the configuration; without it, TOKENSERVER_CONFIG holds the JSON itself")
	if err := flags.Parse(args); errors.Is(err, flag.ErrHelp) {
		return nil
	} else if err != nil {
		return err
	}
	text := []byte(getenv("TOKENSERVER_CONFIG"))
	if *path != "" {
		var err error
		if text, err = os.ReadFile(*path); err != nil {
			return fmt.Errorf("tokenserver: give -config a file that can be read: %w", err)
		}
	}
	if len(text) == 0 {
		return errors.New("tokenserver: give it a configuration: -config FILE, or its JSON in TOKENSERVER_CONFIG")
	}
	config, err := parseConfig(text, getenv)
	if err != nil {
		return err
	}
	p, err := open(config, slog.New(slog.NewJSONHandler(stderr, nil)))
	if err != nil {
		return err
	}
	return p.serve(ctx)
}

// A program is a server with all that it runs on.
type program struct {
	config     *Config
	log        *slog.Logger
	server     *server
	http       *http.Server
	listener   net.Listener
	closeCache func() error
}

// open makes a program that already listens. opts are for tests.
func open(config *Config, log *slog.Logger, opts ...wxtoken.Option) (*program, error) {
	cache, closeCache, err := config.openCache()
	if err != nil {
		return nil, err
	}
	if config.Redis == "" && len(config.Memcached) == 0 {
		log.Warn("tokens are kept in memory: run no second server, or set redis or memcached")
	}
	registry := prometheus.NewRegistry()
	metrics := prommetrics.New()
	s := &server{
		apps: map[string]*wxtoken.Source{},
		log:  log,
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "tokenserver_requests_total", Help: "Requests by path and HTTP status.",
		}, []string{"path", "status"}),
	}
	registry.MustRegister(metrics, s.requests, collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	for _, a := range config.Apps {
		fetcher, err := a.fetcher()
		if err != nil {
			return nil, err
		}
		s.apps[a.AppID] = wxtoken.New(fetcher, cache, append([]wxtoken.Option{
			wxtoken.WithLogger(log), wxtoken.WithObserver(metrics.Observer(a.AppID)),
		}, opts...)...)
	}
	for _, c := range config.Clients {
		s.clients = append(s.clients, client{c.Name, sha256.Sum256([]byte(c.Secret)), c.Apps})
	}
	l, err := listen(config)
	if err != nil {
		return nil, err
	}
	return &program{config, log, s, &http.Server{
		Handler:           s.handler(promhttp.HandlerFor(registry, promhttp.HandlerOpts{})),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      patience + 5*time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}, l, closeCache}, nil
}

// serve keeps every token fresh and answers until ctx ends. Then it lets the
// requests under way finish.
func (p *program) serve(ctx context.Context) error {
	running, stop := context.WithCancel(context.Background())
	var sources sync.WaitGroup
	for _, src := range p.server.apps {
		sources.Go(func() { _ = src.Run(running) }) // ends with running alone
	}
	defer func() {
		stop()
		sources.Wait()
		_ = p.closeCache()
	}()

	p.log.Info("listening", "address", p.listener.Addr().String(), "tls", p.config.TLS.Cert != "", "apps", len(p.server.apps))
	failed := make(chan error, 1)
	go func() { failed <- p.http.Serve(p.listener) }()
	select {
	case err := <-failed:
		return fmt.Errorf("tokenserver: %w", err)
	case <-ctx.Done():
	}

	p.server.draining.Store(true)
	p.log.Info("stopping", "drain_seconds", p.config.DrainSeconds)
	time.Sleep(time.Duration(p.config.DrainSeconds) * time.Second)
	last, cancel := context.WithTimeout(context.Background(), patience+5*time.Second)
	defer cancel()
	if err := p.http.Shutdown(last); err != nil {
		_ = p.http.Close()
		return fmt.Errorf("tokenserver: requests did not end in time: %w", err)
	}
	p.log.Info("stopped")
	return nil
}
