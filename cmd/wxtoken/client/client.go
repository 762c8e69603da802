// Package client gets tokens from a token server (wxtoken serve), for Go services
// that do not share the server's store.
package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/wxtoken/wxtoken"
)

const (
	fresh   = 30 * time.Second // how long a copy is handed out without asking the server
	stale   = 2 * time.Minute  // the same, while the server is asked in the background
	timeout = 20 * time.Second // of one request; the server waits 12 s for the platform
	pause   = time.Second      // after a failure, before the server is asked again
)

// A Source is a [wxtoken.TokenSource] for one app. It asks the server about twice a
// minute, and only while it is used; concurrent callers share one request. While the
// server is down, a token stays in use until it expires.
//
// It has a method Invalidate, so that a [wxtoken.Transport] with it replaces rejected
// tokens. It is safe for concurrent use and need not be closed.
type Source struct {
	server, appID string
	secret        func() string // a func, so that printing the Source does not show it
	http          *http.Client

	mu      sync.Mutex // guards what follows
	token   wxtoken.Token
	asked   time.Time     // when token was requested
	done    chan struct{} // of the request in flight; nil: none
	failure error         // of the last request
	retryAt time.Time
}

// An Option configures the [Source] that New makes.
type Option func(*Source)

// WithHTTPClient sets the client for requests to the server, for a private
// certificate authority or a Unix socket, for example. The default, also for nil, is
// a new client with a timeout of 20 s.
func WithHTTPClient(c *http.Client) Option {
	return func(s *Source) {
		if c != nil {
			s.http = c
		}
	}
}

// New returns a [Source] for the app's token. server is the server's URL, such as
// https://tokens.example:8443; appID is the app's name in the server's configuration,
// and secret the client's secret. New sends nothing. Invalid arguments are errors of
// Token.
func New(server, appID, secret string, opts ...Option) *Source {
	s := &Source{
		server: strings.TrimRight(server, "/"), appID: appID, secret: func() string { return secret },
		http: &http.Client{Timeout: timeout, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }},
	}
	for _, o := range opts {
		o(s)
	}
	return s
}

// Format prints the server and the app, for every verb of package fmt, but neither
// the token nor the secret.
func (s *Source) Format(f fmt.State, _ rune) {
	host := "?"
	if u, err := url.Parse(s.server); err == nil {
		host = u.Host
	}
	fmt.Fprintf(f, "client.Source(%s, %s)", host, s.appID)
}

// Token implements [wxtoken.TokenSource]. An error wraps a [*wxtoken.APIError] if
// the server, or the platform behind it, answered with an errcode, inside a
// [*wxtoken.CooldownError] if the server said when to ask again.
func (s *Source) Token(ctx context.Context) (wxtoken.Token, error) {
	s.mu.Lock()
	now := time.Now()
	age, valid := now.Sub(s.asked), s.token.Valid()
	if valid && age < fresh {
		defer s.mu.Unlock()
		return s.token, nil
	}
	if s.done == nil && !now.Before(s.retryAt) {
		s.begin(ctx)
	}
	done := s.done
	if valid && age < stale || done == nil {
		defer s.mu.Unlock()
		if valid {
			return s.token, nil
		}
		return wxtoken.Token{}, s.failure
	}
	s.mu.Unlock()

	var ended error
	select {
	case <-done:
	case <-ctx.Done():
		ended = fmt.Errorf("wxtoken: waiting for the token server: %w", context.Cause(ctx))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.token.Valid():
		return s.token, nil
	case ended != nil:
		return wxtoken.Token{}, ended
	}
	return wxtoken.Token{}, s.failure
}

// begin asks the server on behalf of all callers. s.mu is held.
func (s *Source) begin(ctx context.Context) {
	done := make(chan struct{})
	s.done = done
	go func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), timeout)
		defer cancel()
		asked := time.Now()
		token, err := s.ask(ctx, http.MethodGet, "/token?appid="+url.QueryEscape(s.appID), nil)
		s.mu.Lock()
		defer s.mu.Unlock()
		s.take(token, asked, err)
		s.done = nil
		close(done)
	}()
}

// take records what the server answered to the request sent at asked. s.mu is held.
func (s *Source) take(token wxtoken.Token, asked time.Time, err error) {
	if s.failure = err; err != nil {
		s.retryAt = time.Now().Add(pause)
		return
	}
	if !asked.Before(s.asked) {
		s.token, s.asked = token, asked
	}
}

// Invalidate reports to the server that an API rejected a token, and adopts the token
// that the server then returns. Reporting an old token has no effect. It returns an
// error if the server does not believe the report, as for a very young token: then
// Token returns the same token again.
func (s *Source) Invalidate(ctx context.Context, rejected string) error {
	s.mu.Lock()
	old := s.token.Valid() && s.token.Value != rejected
	s.mu.Unlock()
	if old || rejected == "" {
		return nil
	}
	body, err := json.Marshal(map[string]string{"appid": s.appID, "access_token": rejected})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	token, err := s.ask(ctx, http.MethodPost, "/token/reject", body)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.take(token, time.Now(), nil) // a concurrent request may have returned the rejected one
	if token.Value == rejected {
		return errors.New("wxtoken: the token server does not believe yet that the token was rejected; try again later, not at once")
	}
	return nil
}

// ask sends a request and reads the token in its answer. No error contains the secret
// or a token.
func (s *Source) ask(ctx context.Context, method, path string, body []byte) (wxtoken.Token, error) {
	var none wxtoken.Token
	if s.appID == "" || s.secret() == "" {
		return none, errors.New("wxtoken: token server: appID or secret is empty; nothing was sent")
	}
	req, err := http.NewRequestWithContext(ctx, method, s.server+path, bytes.NewReader(body))
	if err != nil || req.URL.Host == "" {
		return none, errors.New("wxtoken: token server: its URL is not of the form https://host[:port]; nothing was sent")
	}
	req.Header.Set("Authorization", "Bearer "+s.secret())
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	asked := time.Now().Round(0)
	resp, err := s.http.Do(req)
	if err != nil {
		var withURL *url.Error
		if errors.As(err, &withURL) {
			err = withURL.Err
		}
		return none, fmt.Errorf("wxtoken: token server %s: %w", req.URL.Host, err)
	}
	defer resp.Body.Close()
	var answer struct {
		Errcode     int    `json:"errcode"`
		Errmsg      string `json:"errmsg"`
		AccessToken string `json:"access_token"`
		ExpiresIn   int64  `json:"expires_in"`
	}
	err = json.NewDecoder(io.LimitReader(resp.Body, 64<<10)).Decode(&answer)
	switch {
	case err == nil && answer.Errcode != 0:
		return none, failure(resp, &wxtoken.APIError{Code: answer.Errcode, Message: answer.Errmsg})
	case err != nil || resp.StatusCode != http.StatusOK || answer.AccessToken == "" || answer.ExpiresIn <= 0:
		return none, fmt.Errorf("wxtoken: token server %s: HTTP %d and no token; is this the address of wxtoken serve?", req.URL.Host, resp.StatusCode)
	}
	return wxtoken.Token{Value: answer.AccessToken, ExpiresAt: asked.Add(time.Duration(answer.ExpiresIn) * time.Second)}, nil
}

// failure adds the time before which the server will not answer differently.
func failure(resp *http.Response, err *wxtoken.APIError) error {
	if seconds, bad := strconv.Atoi(resp.Header.Get("Retry-After")); bad == nil && seconds > 0 {
		return &wxtoken.CooldownError{Until: time.Now().Add(time.Duration(seconds) * time.Second), Err: err}
	}
	return fmt.Errorf("wxtoken: token server: %w", err)
}
