package main

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/wxtoken/wxtoken"
)

const (
	// patience is how long a request may wait for a token: a little longer than
	// a fetch may take.
	patience = 12 * time.Second

	// largest is what the body of a request may have, in bytes.
	largest = 4 << 10
)

// A server answers requests for the tokens of its apps.
type server struct {
	apps     map[string]*wxtoken.Source
	clients  []client
	log      *slog.Logger
	requests *prometheus.CounterVec // by path and status
	draining atomic.Bool
}

// A client is a service that may ask.
type client struct {
	name string
	hash [sha256.Size]byte // of its secret, so that all are of one length
	apps []string
}

func (s *server) handler(metrics http.Handler) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/token", s.serveToken)
	mux.HandleFunc("/token/reject", s.serveReject)
	mux.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("ok\n")) })
	mux.HandleFunc("/readyz", s.serveReady)
	mux.Handle("/metrics", metrics)
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		refuse(w, http.StatusNotFound, 40066, "invalid url: there are /token, /token/reject, /healthz, /readyz and /metrics")
	})
	return s.logged(mux)
}

// serveToken is GET /token?appid=.
func (s *server) serveToken(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet {
		w.Header().Set("Allow", http.MethodGet)
		refuse(w, http.StatusMethodNotAllowed, 43001, "require GET method")
		return
	}
	src := s.admit(w, r, r.URL.Query().Get("appid"))
	if src == nil {
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), patience)
	defer cancel()
	answerToken(ctx, w, src)
}

// serveReject is POST /token/reject. Whoever reports an old token, which others
// have reported before, gets the current one and costs no fetch.
func (s *server) serveReject(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		refuse(w, http.StatusMethodNotAllowed, 43002, "require POST method")
		return
	}
	var body struct {
		AppID       string `json:"appid"`
		AccessToken string `json:"access_token"`
	}
	err := json.NewDecoder(http.MaxBytesReader(w, r.Body, largest)).Decode(&body)
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		refuse(w, http.StatusRequestEntityTooLarge, 45002, "the body is over 4 KiB")
		return
	} else if err != nil {
		refuse(w, http.StatusBadRequest, 47001, `data format error: want {"appid":"…","access_token":"…"}`)
		return
	}
	src := s.admit(w, r, body.AppID)
	if src == nil {
		return
	}
	if body.AccessToken == "" {
		refuse(w, http.StatusBadRequest, 41001, "access_token missing: send the one that was refused")
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), patience)
	defer cancel()
	if err := src.Invalidate(ctx, body.AccessToken); err != nil {
		note(w, func(n *noted) { n.err = err })
	}
	answerToken(ctx, w, src)
}

// admit gives the Source of an app that the request's client may ask for. Else
// it answers, in the same way for an app that is not the client's and for one
// that there is not, and returns nil.
func (s *server) admit(w http.ResponseWriter, r *http.Request, appID string) *wxtoken.Source {
	c := s.authenticate(r)
	if c == nil {
		w.Header().Set("WWW-Authenticate", "Bearer")
		refuse(w, http.StatusUnauthorized, 40125, "the bearer secret is missing or not known to this server")
		return nil
	}
	note(w, func(n *noted) { n.client, n.appID = c.name, appID })
	if appID == "" {
		refuse(w, http.StatusBadRequest, 41002, "appid missing")
		return nil
	}
	if !slices.Contains(c.apps, appID) {
		refuse(w, http.StatusForbidden, 40013, "invalid appid: it is not among those that this bearer secret may ask for")
		return nil
	}
	return s.apps[appID]
}

// authenticate takes as long for a wrong secret as for any right one.
func (s *server) authenticate(r *http.Request) (found *client) {
	scheme, secret, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return nil
	}
	hash := sha256.Sum256([]byte(secret))
	for i := range s.clients {
		if subtle.ConstantTimeCompare(hash[:], s.clients[i].hash[:]) == 1 {
			found = &s.clients[i]
		}
	}
	return found
}

// answerToken sends the current token, or why there is none.
func answerToken(ctx context.Context, w http.ResponseWriter, src *wxtoken.Source) {
	token, err := src.Token(ctx)
	left := int64(time.Until(token.ExpiresAt) / time.Second)
	if err == nil && left > 0 { // many stores take 0 for "never ends"
		send(w, http.StatusOK, map[string]any{"access_token": token.Value, "expires_in": left})
		return
	}
	if err == nil {
		err = errors.New("the token ends this second, and its successor is not there yet")
	}
	var cooling *wxtoken.CooldownError
	if errors.As(err, &cooling) {
		wait := time.Until(cooling.Until)/time.Second + 1
		w.Header().Set("Retry-After", strconv.Itoa(int(max(wait, 1))))
	}
	note(w, func(n *noted) { n.err = err })
	var refusal *wxtoken.APIError
	switch {
	case errors.As(err, &refusal):
		refuse(w, http.StatusServiceUnavailable, refusal.Code, refusal.Message)
	case errors.Is(err, wxtoken.ErrCacheUnavailable):
		refuse(w, http.StatusServiceUnavailable, -1, "system error: the token server's cache does not answer")
	default:
		refuse(w, http.StatusServiceUnavailable, -1, "system error: no token yet; try again")
	}
}

// serveReady says whether this server is of use: some app has a token. One app
// with a wrong secret must not take the others away; that is for an alert.
func (s *server) serveReady(w http.ResponseWriter, r *http.Request) {
	ended, cancel := context.WithCancel(r.Context())
	cancel() // what is at hand, without waiting
	ready := 0
	for _, src := range s.apps {
		if _, err := src.Token(ended); err == nil {
			ready++
		}
	}
	status := http.StatusOK
	if ready == 0 || s.draining.Load() {
		status = http.StatusServiceUnavailable
	}
	send(w, status, map[string]any{"apps": len(s.apps), "with_token": ready, "stopping": s.draining.Load()})
}

// refuse answers in the shape of the platform's errors.
func refuse(w http.ResponseWriter, status, code int, message string) {
	send(w, status, map[string]any{"errcode": code, "errmsg": message})
}

func send(w http.ResponseWriter, status int, body map[string]any) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // fails only if the client has gone
}
