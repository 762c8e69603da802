// Package serve is the token server: it keeps the tokens of apps fresh and hands them
// out to services in any language.
package serve

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/wxtoken/wxtoken"
	"github.com/wxtoken/wxtoken/cmd/wxtoken/internal/config"
	"github.com/wxtoken/wxtoken/cmd/wxtoken/internal/store"
)

// A Server is made by Open, and serves until its ctx ends.
type Server struct {
	log     *slog.Logger
	store   *store.Store
	prefix  string
	options []wxtoken.Option // for every Source

	started time.Time
	keys    [][32]byte // of encryption
	gate    *gate
	apis    *http.Transport // behind the proxy
	keeper  *keeper
	life    context.Context // of all that keeps tokens fresh
	end     context.CancelFunc

	catalog    atomic.Pointer[catalog]
	reloading  sync.Mutex
	configured atomic.Int64 // unix ns: when the catalog was put in place
	badReloads atomic.Int64 // invalid configurations

	journal      *journal
	wrongSecrets *wrongSecrets
	conns        *conns
	seconds      histogram
	issued       issued
	limited      atomic.Int64 // reports
	draining     atomic.Bool

	listener, adminListener net.Listener
	cert                    *certificate
	http, admin             *http.Server
}

// reserved is how many descriptors are left for everything but clients: for fetches,
// the store, the APIs behind the proxy, and some more.
const reserved = fetches + 64 + upstream + 64

// Open returns a Server that listens and does nothing else yet. options are for
// tests.
func Open(c *config.Config, log *slog.Logger, options ...wxtoken.Option) (*Server, error) {
	s := &Server{
		log: log, prefix: "wxtoken:", started: time.Now(), gate: newGate(), apis: newAPIs(), keys: c.Keys(),
		journal: newJournal(log), wrongSecrets: newWrongSecrets(), store: store.InMemory(),
	}
	if c.KeyPrefix != nil {
		s.prefix = *c.KeyPrefix
	}
	if len(s.keys) > 0 {
		s.options = append(s.options, wxtoken.WithEncryption(s.keys...))
		if c.PlainRecords {
			s.options = append(s.options, wxtoken.WithPlainRecords())
		}
	}
	s.options = append(append(s.options, wxtoken.WithKeyPrefix(s.prefix), wxtoken.WithLogger(log)), options...)
	for _, w := range c.Warnings {
		log.Warn(w)
	}
	most := c.MaxConnections
	if room := max(descriptors()-reserved, 64); most == 0 || most > room {
		if most > room {
			log.Warn("max_connections is more than the descriptor limit leaves room for", "max_connections", most, "used", room)
		}
		most = room
	}
	s.conns = newConns(most)
	if err := s.open(c); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

func (s *Server) open(c *config.Config) (err error) {
	if c.Store != "" {
		if s.store, err = store.Open(c.Store); err != nil {
			return err
		}
	}
	first, err := s.newCatalog(c, nil)
	if err != nil {
		return err
	}
	if c.TLS.Cert != "" {
		if s.cert, err = openCertificate(c.TLS.Cert, c.TLS.Key, s.log); err != nil {
			return err
		}
	}
	if s.listener, err = listen(c.Listen); err != nil {
		return err
	}
	if c.Admin != "off" {
		if s.adminListener, err = listen(c.Admin); err != nil {
			return fmt.Errorf(`%w; set admin to another address, or to "off"`, err)
		}
	}
	s.http = &http.Server{Handler: s.logged(s.handler()), MaxHeaderBytes: 16 << 10, ErrorLog: newErrorLog(s.log)}
	s.conns.attach(s.http)
	s.admin = &http.Server{
		Handler: s.adminHandler(), MaxHeaderBytes: 16 << 10, ErrorLog: newErrorLog(s.log),
		ReadTimeout: patience, WriteTimeout: time.Minute, IdleTimeout: 2 * time.Minute,
	}
	s.catalog.Store(first)
	tune(len(first.all()))
	return nil
}

// tune sets the garbage collector for this number of tokens, unless the environment
// does: a small heap would be collected many times a second under load, and a large
// one would double before it is.
func tune(tokens int) {
	if os.Getenv("GOGC") != "" || os.Getenv("GOMEMLIMIT") != "" {
		return
	}
	debug.SetGCPercent(400)
	debug.SetMemoryLimit(64<<20 + int64(tokens)*8<<10)
}

// Close closes what Open opened, for a Server on which Serve is not called.
func (s *Server) Close() {
	for _, l := range []net.Listener{s.listener, s.adminListener} {
		if l != nil {
			_ = l.Close()
		}
	}
	_ = s.store.Close()
}

// handler serves clients.
func (s *Server) handler() http.Handler {
	// Not an http.ServeMux, which redirects paths that are not clean: the proxy must
	// see paths unchanged.
	exact := map[string]http.HandlerFunc{
		"/token":                    s.serveToken,
		"/ticket":                   s.serveToken,
		"/token/reject":             s.serveReject,
		"/ticket/reject":            s.serveReject,
		"/cgi-bin/token":            s.servePlain,
		"/cgi-bin/stable_token":     s.serveStable,
		"/cgi-bin/gettoken":         s.serveWeCom,
		"/cgi-bin/ticket/getticket": s.serveTicket,
		"/cgi-bin/get_jsapi_ticket": s.serveTicket,
		"/cgi-bin/ticket/get":       s.serveTicket,
		"/healthz":                  serveHealth,
		"/readyz":                   s.serveReady,
		"/metrics":                  s.serveMetrics,
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		path := r.URL.Path
		if serve := exact[path]; serve != nil {
			serve(w, r)
		} else if rest, ok := strings.CutPrefix(path, "/proxy/"); ok {
			s.serveProxy(w, r, rest)
		} else if id, ok := strings.CutPrefix(path, "/callback/"); ok {
			s.serveCallback(w, r, id)
		} else {
			s.serveNothing(w, r)
		}
	})
}

func serveHealth(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("ok\n")) }

func (s *Server) serveNothing(w http.ResponseWriter, r *http.Request) {
	noting(w).remote = s.wrongSecrets.name(r.RemoteAddr, time.Now())
	sendProblem(w, &problem{status: http.StatusNotFound, code: 40066, message: "invalid url: there are " +
		"/token, /token/reject, /ticket, /ticket/reject, /proxy/APPID/…, the platform's own /cgi-bin/token, stable_token, gettoken and " +
		"ticket/getticket, and /healthz, /readyz, /metrics"})
}

// serveReady reports whether this server is useful: at least one app has a token. One
// app with a wrong secret must not make the others unavailable; that is for an alert.
func (s *Server) serveReady(w http.ResponseWriter, _ *http.Request) {
	ready, apps := 0, s.catalog.Load().order
	for _, a := range apps {
		if a.ready() {
			ready++
		}
	}
	status := http.StatusOK
	if ready == 0 || s.draining.Load() {
		status = http.StatusServiceUnavailable
	}
	send(w, status, struct {
		Apps     int  `json:"apps"`
		Ready    int  `json:"with_token"`
		Stopping bool `json:"stopping"`
	}{len(apps), ready, s.draining.Load()})
}

// Serve keeps every token fresh and answers until ctx ends. Then it lets the requests
// in flight finish; now ends that at once.
func (s *Server) Serve(ctx, now context.Context) error {
	s.reloading.Lock()
	s.life, s.end = context.WithCancel(context.Background())
	s.keeper = newKeeper()
	s.keeper.running.Go(func() { s.journal.run(s.life) })
	s.keeper.running.Go(func() { s.conns.run(s.life) })
	c := s.catalog.Swap(nil)
	s.use(c)
	s.reloading.Unlock()
	defer func() {
		s.end()
		last := s.catalog.Load()
		for _, a := range last.order {
			a.stop()
		}
		for _, one := range last.components {
			one.stop()
		}
		s.keeper.running.Wait()
		_ = s.store.Close()
	}()

	s.log.Info("listening", "address", s.listener.Addr().String(), "tls", s.cert != nil, "admin", addressOf(s.adminListener),
		"store", s.store.Name, "apps", len(c.order), "connections", s.conns.most, "pid", os.Getpid())
	failed := make(chan error, 2)
	l := s.listener
	if s.cert != nil {
		l = secure(l, s.cert)
	}
	go func() { failed <- s.http.Serve(l) }()
	if s.adminListener != nil {
		go func() { failed <- s.admin.Serve(s.adminListener) }()
		defer s.admin.Close()
	}
	select {
	case err := <-failed:
		_ = s.http.Close()
		return fmt.Errorf("wxtoken: %w", err)
	case <-ctx.Done():
	}
	return s.drain(now)
}

func (s *Server) drain(now context.Context) error {
	s.draining.Store(true)
	seconds := s.catalog.Load().config.DrainSeconds
	s.log.Info("stopping; a second signal stops the server at once", "drain_seconds", seconds)
	select {
	case <-time.After(time.Duration(seconds) * time.Second):
	case <-now.Done():
	}
	last, cancel := context.WithTimeout(now, patience+5*time.Second)
	defer cancel()
	if err := s.http.Shutdown(last); err != nil {
		_ = s.http.Close()
		if now.Err() != nil {
			s.log.Warn("stopped at once; requests in flight got no answer")
			return nil
		}
		return fmt.Errorf("wxtoken: requests did not end in time: %w", err)
	}
	s.log.Info("stopped")
	return nil
}

// Addr returns the address for clients.
func (s *Server) Addr() string { return s.listener.Addr().String() }

// AdminAddr returns the address of the page, or "".
func (s *Server) AdminAddr() string { return addressOf(s.adminListener) }

func addressOf(l net.Listener) string {
	if l == nil {
		return ""
	}
	return l.Addr().String()
}
