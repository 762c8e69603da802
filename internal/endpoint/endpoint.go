// Package endpoint requests a token from one endpoint of the platform over HTTP, as
// often as is safe, and reports for each failure whether a token may have been
// issued. Its errors begin with "wxtoken:", since they reach that package's users.
package endpoint

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/wxtoken/wxtoken/internal/errcode"
)

const (
	tries   = 3                      // per fetch, if it is safe to retry
	backoff = 100 * time.Millisecond // up to twice that before the second try, doubled before the third
)

// An Endpoint issues tokens of one kind. It is safe for concurrent use as long as its
// fields do not change.
type Endpoint struct {
	Path       string                                    // with a leading slash, escaped
	Query      string                                    // raw, of every request; may contain a secret
	Field      string                                    // of WeChat's answer, with the token; unless there is an Answer
	Answer     Answer                                    // the answer to expect, if it is not WeChat's
	Post       bool                                      // sends Params as a JSON body, not as the query
	Form       bool                                      // with Post: as a form
	Repeatable bool                                      // a second request is harmless
	Params     func(credential string) map[string]string // of a request
	AllSecret  bool                                      // no parameter may show in an error, not only the credential
	Hosts      []string                                  // base URLs, in the order in which they are tried
	Client     *http.Client                              // its Transport and Timeout are used; nil: http.DefaultTransport

	// The rest is for requests with more than a credential, or without a token:
	// without a Field, any answer without an errcode is a success.
	Body    any                                           // of a Post, in place of Params
	Secrets []string                                      // more values that no error may show
	Once    bool                                          // sent once, even if the platform is busy
	Read    func(object map[string]json.RawMessage) error // checks a successful answer, once for each
}

// A Denial is the platform's denial of a request: errcode and errmsg as it sent them,
// with the credential removed. No token was issued.
type Denial struct {
	Code    int
	Message string
}

func (r *Denial) Error() string { return fmt.Sprintf("wxtoken: errcode %d: %s", r.Code, r.Message) }

// An Unsent wraps a failure that certainly issued no token, because no request left
// the process.
type Unsent struct{ Err error }

func (u *Unsent) Error() string { return u.Err.Error() }
func (u *Unsent) Unwrap() error { return u.Err }

// Fetch requests a token until ctx ends, which must have a deadline. It makes up to
// three attempts: it retries if the platform was busy, if nothing was sent, or if a
// second request is harmless. expiresAt is a wall-clock time, counted from before the
// request.
//
// After any error but a *Denial or an *Unsent, a token may have been issued.
// No error shows the credential or a token.
func (e *Endpoint) Fetch(ctx context.Context, credential string) (value string, expiresAt time.Time, err error) {
	end, _ := ctx.Deadline()
	for try, asked := 1, false; ; try++ {
		value, expiresAt, err = e.askHosts(ctx, credential)
		again := e.Repeatable
		var denied *Denial
		var unsent *Unsent
		switch {
		case err == nil:
			return value, expiresAt, nil
		case errors.As(err, &denied):
			again = errcode.Busy(denied.Code) && !e.Once
		case !errors.As(err, &unsent):
			asked = true
		case asked:
			err = unsent.Err // no longer certain: an earlier try may have arrived
		default:
			again = true
		}
		wait := backoff << (try - 1)
		wait += rand.N(wait)
		if !again || try == tries || time.Until(end) < wait {
			return "", time.Time{}, err
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return "", time.Time{}, err
		}
	}
}

// askHosts asks the first host to which a connection can be made. Each host gets an
// equal share of the time left to connect; one share is kept for the answer.
func (e *Endpoint) askHosts(ctx context.Context, credential string) (string, time.Time, error) {
	end, _ := ctx.Deadline()
	var failures []failure
	var ended error
	for i, host := range e.Hosts {
		if ended = ctx.Err(); ended != nil {
			break
		}
		value, expiresAt, err := e.ask(ctx, host, credential, time.Until(end)/time.Duration(len(e.Hosts)-i+1))
		var unsent *Unsent
		if !errors.As(err, &unsent) {
			return value, expiresAt, err
		}
		failures = append(failures, failure{hostOf(host), unsent.Err})
	}
	return "", time.Time{}, &Unsent{unreached(e.Path, failures, ended)}
}

// ask sends one request to host, if it gets a connection within wait.
func (e *Endpoint) ask(ctx context.Context, host, credential string, wait time.Duration) (string, time.Time, error) {
	if e.Client != nil && e.Client.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, e.Client.Timeout)
		defer cancel()
	}
	attempt, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)

	// The request has certainly not left while the transport has asked for a
	// connection without getting one. A transport that does not report it is not
	// trusted.
	var wanted, got atomic.Bool
	timer := time.AfterFunc(wait, func() {
		if wanted.Load() && !got.Load() {
			cancel(fmt.Errorf("no connection within %v", wait.Round(time.Millisecond)))
		}
	})
	defer timer.Stop()
	req, err := e.request(httptrace.WithClientTrace(attempt, &httptrace.ClientTrace{
		GetConn: func(string) { wanted.Store(true) },
		GotConn: func(httptrace.GotConnInfo) { got.Store(true) },
	}), host, credential)
	if err != nil {
		return "", time.Time{}, &Unsent{err}
	}

	start := time.Now().Round(0) // wall clock only: other machines will read it
	resp, body, err := e.exchange(req)
	hide := Mask(append(e.secrets(credential), e.Secrets...)...)
	if err != nil {
		unsent := wanted.Load() && !got.Load()
		err = HideError(err, hide, !unsent)
		if end := ctx.Err(); end != nil && !errors.Is(err, end) {
			err = fmt.Errorf("%w: %w", end, err)
		}
		if unsent {
			return "", time.Time{}, &Unsent{err}
		}
		return "", time.Time{}, fmt.Errorf("wxtoken: %s at %s: no answer, but a token may have been issued:  %w", e.Path, req.URL.Host, err)
	}
	answer := e.Answer
	if answer == (Answer{}) {
		answer = weChat(e.Field)
	}
	value, lifetime, err := judge(resp, body, answer, hide)
	if err == nil && e.Read != nil {
		var object map[string]json.RawMessage
		if err = json.Unmarshal(bytes.TrimPrefix(body, []byte("\ufeff")), &object); err == nil {
			err = e.Read(object)
		}
	}
	var denied *Denial
	switch {
	case errors.As(err, &denied):
		return "", time.Time{}, denied
	case err != nil:
		return "", time.Time{}, fmt.Errorf("wxtoken: %s at %s: %w", e.Path, req.URL.Host, err)
	}
	return value, start.Add(lifetime), nil
}

// secrets returns the values that no error may show.
func (e *Endpoint) secrets(credential string) []string {
	secrets := []string{credential}
	if e.AllSecret {
		secrets = slices.AppendSeq(secrets, maps.Values(e.Params(credential)))
		query, _ := url.ParseQuery(e.Query)
		for _, values := range query {
			secrets = append(secrets, values...)
		}
	}
	return secrets
}

// request puts the parameters into the query, or into the body.
func (e *Endpoint) request(ctx context.Context, host, credential string) (*http.Request, error) {
	content := e.Body
	values := url.Values{}
	if content == nil {
		params := e.Params(credential)
		for name, value := range params {
			values.Set(name, value)
		}
		content = params
	}
	method, query, contentType, body := http.MethodGet, e.Query, "", io.Reader(nil)
	switch {
	case !e.Post:
		query = strings.Trim(query+"&"+values.Encode(), "&")
	case e.Form:
		method, contentType, body = http.MethodPost, "application/x-www-form-urlencoded", strings.NewReader(values.Encode())
	default:
		object, _ := json.Marshal(content) // of strings and numbers: cannot fail
		method, contentType, body = http.MethodPost, "application/json", bytes.NewReader(object)
	}
	req, err := http.NewRequestWithContext(ctx, method, strings.TrimRight(host, "/")+e.Path, body)
	if err != nil {
		return nil, err
	}
	req.URL.RawQuery = query
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	return req, nil
}

// exchange sends req once. It does not use an http.Client, which would follow
// redirects and put the URL, which contains the secret, into its errors.
//
// http.Transport resends a GET that fails on a reused connection, which could issue
// two tokens. Hence each request has a new connection or, with any other
// RoundTripper, a body that cannot be rewound, even if it is empty.
func (e *Endpoint) exchange(req *http.Request) (*http.Response, []byte, error) {
	rt := http.DefaultTransport
	if e.Client != nil && e.Client.Transport != nil {
		rt = e.Client.Transport
	}
	if t, ok := rt.(*http.Transport); ok {
		t = t.Clone()
		t.DisableKeepAlives = true
		defer t.CloseIdleConnections() // ends a dial that is no longer needed
		rt = t
	} else if !e.Repeatable {
		req.GetBody = nil
		if req.Body == nil {
			req.Body = io.NopCloser(strings.NewReader(""))
		}
	}
	resp, err := rt.RoundTrip(req)
	if err != nil {
		return nil, nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	return resp, body, err
}
