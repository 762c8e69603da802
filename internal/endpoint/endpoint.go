// Package endpoint asks one endpoint of the platform for a token over HTTP, as
// often as is safe, and says of each failure whether a token may have been
// issued. Its errors begin with "wxtoken:", as they reach that package's users.
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
	tries   = 3                      // per fetch, where it is safe to ask again
	backoff = 100 * time.Millisecond // or up to twice that, before the second try; doubled before the third
)

// An Endpoint is where tokens of one kind are asked for. It is safe for
// concurrent use while its fields stay as they are.
type Endpoint struct {
	Path       string                                    // with a leading slash, escaped
	Query      string                                    // raw, of every request; may hold a secret
	Field      string                                    // of WeChat's answer, with the token; unless there is an Answer
	Answer     Answer                                    // what else than WeChat's answer to expect
	Post       bool                                      // sends Params as a JSON body, not as the query
	Form       bool                                      // with Post: as a form
	Repeatable bool                                      // a second request does no harm
	Params     func(credential string) map[string]string // of a request
	AllSecret  bool                                      // no parameter may show in an error, not the credential alone
	Hosts      []string                                  // base URLs, in the order in which they are tried
	Client     *http.Client                              // its Transport and Timeout are used; nil: http.DefaultTransport

	// The rest is for requests that bring more than a credential, or fetch no
	// token: without a Field, a good answer is any that has no errcode.
	Body    any                                           // of a Post, in place of Params
	Secrets []string                                      // more that no error may show
	Once    bool                                          // sent once, even if the platform is busy
	Read    func(object map[string]json.RawMessage) error // judges a good answer further, once for each
}

// A Refusal is the platform's no: errcode and errmsg as it sent them, with the
// credential scrubbed. No token was issued.
type Refusal struct {
	Code    int
	Message string
}

func (r *Refusal) Error() string { return fmt.Sprintf("wxtoken: errcode %d: %s", r.Code, r.Message) }

// An Unsent wraps a failure that certainly issued no token, because no request
// left the process.
type Unsent struct{ Err error }

func (u *Unsent) Error() string { return u.Err.Error() }
func (u *Unsent) Unwrap() error { return u.Err }

// Fetch asks until ctx ends, which must have a deadline. It tries again, three
// times in all, where the platform was busy, where nothing was sent, and where a
// second request does no harm. expiresAt is a wall-clock time, counted from
// before the request.
//
// After an error that is no *Refusal and no *Unsent a token may have been issued.
// No error shows the credential or a token.
func (e *Endpoint) Fetch(ctx context.Context, credential string) (value string, expiresAt time.Time, err error) {
	end, _ := ctx.Deadline()
	for try, asked := 1, false; ; try++ {
		value, expiresAt, err = e.askHosts(ctx, credential)
		again := e.Repeatable
		var refused *Refusal
		var unsent *Unsent
		switch {
		case err == nil:
			return value, expiresAt, nil
		case errors.As(err, &refused):
			again = errcode.Busy(refused.Code) && !e.Once
		case !errors.As(err, &unsent):
			asked = true
		case asked:
			err = unsent.Err // no longer certain: an earlier try may have landed
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

// askHosts asks the first host to which a connection can be made. Each may take
// an equal share of the time left to connect; one share is kept for the answer.
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
	// connection and not got one. A transport that does not tell is not trusted.
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
		return "", time.Time{}, fmt.Errorf("wxtoken: %s at %s: no answer, yet a token may have been issued: %w", e.Path, req.URL.Host, err)
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
	var refused *Refusal
	switch {
	case errors.As(err, &refused):
		return "", time.Time{}, refused
	case err != nil:
		return "", time.Time{}, fmt.Errorf("wxtoken: %s at %s: %w", e.Path, req.URL.Host, err)
	}
	return value, start.Add(lifetime), nil
}

// secrets returns what no error may show.
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

// exchange sends req once. It does without an http.Client, which would follow
// redirects and put the URL, which has the secret, into its errors.
//
// http.Transport sends a GET again that dies on a reused connection, and so could
// have two tokens issued. Hence each request has a new connection or, through a
// RoundTripper of another kind, a body that cannot be rewound, even if it is empty.
func (e *Endpoint) exchange(req *http.Request) (*http.Response, []byte, error) {
	rt := http.DefaultTransport
	if e.Client != nil && e.Client.Transport != nil {
		rt = e.Client.Transport
	}
	if t, ok := rt.(*http.Transport); ok {
		t = t.Clone()
		t.DisableKeepAlives = true
		defer t.CloseIdleConnections() // ends a dial that nobody waits for
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
