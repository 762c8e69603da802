package serve

import (
	"log"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"
	"unicode"
)

// A noted response collects what is logged about its request. They are reused,
// together with the text of a short answer.
type noted struct {
	http.ResponseWriter
	text                  [512]byte
	status                int
	code                  int // errcode; 0: none
	client, appID, remote string
	err                   error // why there was no token, or why a rejection was not believed
}

// WriteHeader implements http.ResponseWriter.
func (n *noted) WriteHeader(status int) {
	if status >= 200 {
		n.status = status
	}
	n.ResponseWriter.WriteHeader(status)
}

// Unwrap is for http.ResponseController.
func (n *noted) Unwrap() http.ResponseWriter { return n.ResponseWriter }

// noting returns where to record what is logged about the request that w answers.
func noting(w http.ResponseWriter) *noted {
	for {
		switch one := w.(type) {
		case *noted:
			return one
		case interface{ Unwrap() http.ResponseWriter }:
			w = one.Unwrap()
		default:
			return new(noted) // of a page, whose requests are not logged
		}
	}
}

// routes are the paths that are counted individually: otherwise clients could fill
// the memory with series. Everything below /proxy/ and /callback/ counts as one path
// each.
var routes = map[string]bool{
	"/token": true, "/token/reject": true, "/ticket": true, "/ticket/reject": true, "/healthz": true, "/readyz": true, "/metrics": true,
	"/cgi-bin/token": true, "/cgi-bin/stable_token": true, "/cgi-bin/gettoken": true, "/cgi-bin/ticket/getticket": true,
	"/cgi-bin/get_jsapi_ticket": true, "/cgi-bin/ticket/get": true,
}

// probes are counted and not logged.
var probes = map[string]bool{"/healthz": true, "/readyz": true, "/metrics": true}

func route(path string) string {
	switch {
	case routes[path]:
		return path
	case strings.HasPrefix(path, "/proxy/"):
		return "/proxy"
	case strings.HasPrefix(path, "/callback/"):
		return "/callback"
	}
	return "other"
}

// logged logs and counts each request. Probes are only counted.
func (s *Server) logged(next http.Handler) http.Handler {
	pool := sync.Pool{New: func() any { return new(noted) }}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		n := pool.Get().(*noted)
		n.ResponseWriter, n.status = w, http.StatusOK
		next.ServeHTTP(n, r)
		e := entry{method: method(r.Method), route: route(r.URL.Path), status: n.status, code: n.code, client: n.client, app: n.appID, remote: n.remote}
		if n.err != nil { // no error of wxtoken contains a secret or a token
			e.err = n.err.Error()
		}
		now := time.Now()
		s.journal.add(e, now.Sub(start), now, !probes[e.route])
		*n = noted{} // a panic leaves it to the garbage collector
		pool.Put(n)
	})
}

// method returns m if it is known, or "other".
func method(m string) string {
	switch m {
	case http.MethodGet, http.MethodPost, http.MethodPut, http.MethodDelete, http.MethodHead, http.MethodPatch, http.MethodOptions:
		return m
	}
	return "other"
}

// cut shortens what a client sent, for the log.
func cut(text string, known bool) string {
	if known {
		return text
	}
	const most = 64
	text = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || r == unicode.ReplacementChar {
			return '?'
		}
		return r
	}, text)
	if runes := []rune(text); len(runes) > most {
		return string(runes[:most]) + "…"
	}
	return text
}

// An errorLog logs the messages of net/http about failed connections: one line a
// minute, with their count, since anyone can make connections fail.
type errorLog struct {
	log *slog.Logger

	mu    sync.Mutex
	since time.Time
	count int
}

// newErrorLog returns the ErrorLog of a Server or ReverseProxy.
func newErrorLog(to *slog.Logger) *log.Logger { return log.New(&errorLog{log: to}, "", 0) }

// Write implements io.Writer, for a line.
func (g *errorLog) Write(line []byte) (int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.count++
	if now := time.Now(); now.Sub(g.since) >= quiet {
		g.log.Warn("connection", "said", strings.TrimSpace(string(line)), "count", g.count)
		g.since, g.count = now, 0
	}
	return len(line), nil
}
