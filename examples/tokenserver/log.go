package main

import (
	"log/slog"
	"net/http"
	"slices"
	"strconv"
	"time"
)

// A noted response remembers what the log says of its request.
type noted struct {
	http.ResponseWriter
	status        int
	client, appID string
	err           error // why there was no token, or why a refusal was not believed
}

func (n *noted) WriteHeader(status int) {
	n.status = status
	n.ResponseWriter.WriteHeader(status)
}

// Unwrap is for http.ResponseController.
func (n *noted) Unwrap() http.ResponseWriter { return n.ResponseWriter }

// note tells the log something about the request that w answers.
func note(w http.ResponseWriter, tell func(n *noted)) {
	if n, ok := w.(*noted); ok {
		tell(n)
	}
}

// logged logs and counts each request: neither its query, nor its headers, nor
// a body, for those hold what is secret. The probes are counted only.
func (s *server) logged(next http.Handler) http.Handler {
	routes := []string{"/token", "/token/reject", "/healthz", "/readyz", "/metrics"}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		n := &noted{ResponseWriter: w, status: http.StatusOK}
		next.ServeHTTP(n, r)
		route := r.URL.Path
		if !slices.Contains(routes, route) {
			route = "other" // else anybody could fill the memory with series
		}
		s.requests.WithLabelValues(route, strconv.Itoa(n.status)).Inc()
		if slices.Contains(routes[2:], route) {
			return
		}
		level := slog.LevelInfo
		if n.status >= 400 {
			level = slog.LevelWarn
		}
		attrs := []slog.Attr{
			slog.String("method", r.Method), slog.String("path", route), slog.Int("status", n.status),
			slog.String("client", n.client), slog.String("appid", n.appID),
			slog.String("remote", r.RemoteAddr), slog.Duration("took", time.Since(start)),
		}
		if n.err != nil { // no error of wxtoken holds a secret or a token
			attrs = append(attrs, slog.String("error", n.err.Error()))
		}
		s.log.LogAttrs(r.Context(), level, "request", attrs...)
	})
}
