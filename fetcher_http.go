package wxtoken

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strings"
	"sync/atomic"
	"time"
)

const (
	fetchTries   = 3                      // per fetch, where it is safe to ask again
	fetchBackoff = 100 * time.Millisecond // or up to twice that, before the second try; doubled before the third
	fetchAlone   = 10 * time.Second       // for a Fetch whose ctx has no deadline
)

// fetchWith asks with the given credential, as often as is safe and useful.
func (f *HTTPFetcher) fetchWith(ctx context.Context, credential string) (Token, error) {
	for try, asked := 1, false; ; try++ {
		tok, err := f.askHosts(ctx, credential)
		if err == nil {
			return tok, nil
		}
		again := f.repeatable
		var refused *APIError
		var unsent *notSentError
		switch {
		case errors.As(err, &refused):
			again = refused.busy()
		case !errors.As(err, &unsent):
			asked = true
		case asked:
			err = unsent.err // no longer certain: an earlier try may have landed
		default:
			again = true
		}
		wait := fetchBackoff << (try - 1)
		wait += rand.N(wait)
		end, _ := ctx.Deadline()
		if !again || try == fetchTries || time.Until(end) < wait || !sleep(ctx, wait) {
			return Token{}, err
		}
	}
}

// askHosts asks the first host to which a connection can be made. Each may take
// an equal share of the time left to connect; one share is kept for the answer.
func (f *HTTPFetcher) askHosts(ctx context.Context, credential string) (Token, error) {
	end, _ := ctx.Deadline()
	failure := fmt.Errorf("wxtoken: %s: no connection and nothing sent; check DNS, proxy and firewall", f.path)
	for i, host := range f.hosts {
		if ctx.Err() != nil {
			failure = fmt.Errorf("%w; %w", failure, ctx.Err())
			break
		}
		tok, err := f.ask(ctx, host, credential, time.Until(end)/time.Duration(len(f.hosts)-i+1))
		var unsent *notSentError
		if !errors.As(err, &unsent) {
			return tok, err
		}
		failure = fmt.Errorf("%w; %w", failure, unsent.err)
	}
	return Token{}, &notSentError{failure}
}

// ask sends one request to host, if it gets a connection within wait.
func (f *HTTPFetcher) ask(ctx context.Context, host, credential string, wait time.Duration) (Token, error) {
	if f.client != nil && f.client.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, f.client.Timeout)
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
	req, err := f.request(httptrace.WithClientTrace(attempt, &httptrace.ClientTrace{
		GetConn: func(string) { wanted.Store(true) },
		GotConn: func(httptrace.GotConnInfo) { got.Store(true) },
	}), host, credential)
	if err != nil {
		return Token{}, &notSentError{err}
	}

	start := time.Now().Round(0) // wall clock only: other machines will read it
	resp, body, err := f.exchange(req)
	hide := newMask(credential)
	if err != nil {
		unsent := wanted.Load() && !got.Load()
		err = hideError(err, hide, !unsent)
		if end := ctx.Err(); end != nil && !errors.Is(err, end) {
			err = fmt.Errorf("%w: %w", end, err)
		}
		if unsent {
			return Token{}, &notSentError{fmt.Errorf("%s: %w", req.URL.Host, err)}
		}
		return Token{}, fmt.Errorf("wxtoken: %s at %s: no answer, yet a token may have been issued: %w", f.path, req.URL.Host, err)
	}
	value, lifetime, err := judgeAnswer(resp, body, f.field, hide)
	var refused *APIError
	switch {
	case err == nil:
		return Token{Value: value, ExpiresAt: start.Add(lifetime)}, nil
	case errors.As(err, &refused):
		return Token{}, refused
	}
	return Token{}, fmt.Errorf("wxtoken: %s at %s: %w", f.path, req.URL.Host, err)
}

// request puts the parameters into the query, or into a JSON body.
func (f *HTTPFetcher) request(ctx context.Context, host, credential string) (*http.Request, error) {
	params, target := f.params(credential), strings.TrimRight(host, "/")+f.path
	if f.post {
		body, _ := json.Marshal(params) // of strings: cannot fail
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, target, bytes.NewReader(body))
		if err == nil {
			req.Header.Set("Content-Type", "application/json")
		}
		return req, err
	}
	query := url.Values{}
	for name, value := range params {
		query.Set(name, value)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err == nil {
		req.URL.RawQuery = query.Encode()
	}
	return req, err
}

// exchange sends req once. It does without an http.Client, which would follow
// redirects and put the URL, which has the secret, into its errors.
//
// http.Transport sends a GET again that dies on a reused connection, and so could
// have two tokens issued. Hence each request has a new connection or, through a
// RoundTripper of another kind, an empty body that cannot be rewound.
func (f *HTTPFetcher) exchange(req *http.Request) (*http.Response, []byte, error) {
	rt := http.DefaultTransport
	if f.client != nil && f.client.Transport != nil {
		rt = f.client.Transport
	}
	if t, ok := rt.(*http.Transport); ok {
		t = t.Clone()
		t.DisableKeepAlives = true
		defer t.CloseIdleConnections() // ends a dial that nobody waits for
		rt = t
	} else if !f.repeatable {
		req.Body = io.NopCloser(strings.NewReader(""))
	}
	resp, err := rt.RoundTrip(req)
	if err != nil {
		return nil, nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	return resp, body, err
}
