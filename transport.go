package wxtoken

import (
	"cmp"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/wxtoken/wxtoken/internal/endpoint"
	"github.com/wxtoken/wxtoken/internal/errcode"
)

// A Transport is an http.RoundTripper that gives each request an access_token
// and replaces one that the platform refuses. It serves one app, that of its
// Source, and is safe for concurrent use while its fields stay as they are.
//
// A request whose query has no access_token, or an empty one, gets the
// Source's; one that is there is kept, and taken to be of the same app. The
// query's other bytes stay as they are. The caller's request is never changed,
// and is what Response.Request gives: no URL with an added token comes back.
//
// When the platform answers errcode 40001, 40014 or 42001, the Transport
// invalidates exactly the token that it sent, and sends the request once more
// with the one that the Source has then, even if that is the same: the platform
// is known to refuse a good token now and then, and a refused call was not
// carried out. The second answer is returned whatever it says. If the request's
// body cannot be read again (no GetBody), or the Source has no token, the caller
// gets the refusal.
//
// To find an errcode, RoundTrip waits for the response's first byte, and, if
// that begins a JSON object, reads on to its top-level errcode, its end, or
// 64 KiB. So a JSON object without errcode that is sent slowly comes late to the
// caller; any other body is streamed. All of the body is there for the caller to
// read. One that comes compressed, because the caller set Accept-Encoding, is
// not looked into.
type Transport struct {
	// Source gives the token; without one, requests to Hosts are errors. One
	// that has a method Invalidate like Source's gets refused tokens replaced.
	Source TokenSource

	// Base sends the requests; nil means http.DefaultTransport.
	Base http.RoundTripper

	// Hosts may be given a token: each entry is a "host", for every port, or a
	// "host:port", in any case, over http too. Nil means the platform's five API
	// hosts, only over https on port 443. Requests to other hosts are passed on
	// as they are, and a redirect to one takes no token and no Referer along.
	Hosts []string
}

// RoundTrip implements http.RoundTripper. Its own errors begin with "wxtoken:"
// and wrap the Source's; no token that it added stands in any error.
func (t *Transport) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.URL == nil || !t.allows(req.URL) {
		return t.base().RoundTrip(t.withoutReferer(req))
	}
	before, token, after := cutToken(req.URL.RawQuery)
	if token == "" || t.Source == nil {
		var err error
		if token, err = t.token(req.Context()); err != nil {
			if req.Body != nil {
				_ = req.Body.Close()
			}
			return nil, err
		}
	}
	resp, err := t.send(req, req.Body, before, token, after)
	source, ok := t.Source.(invalidator)
	if err != nil || !ok || !IsTokenRejected(errcode.Of(resp)) {
		return resp, err
	}

	rejected, err := url.QueryUnescape(token)
	if err != nil {
		rejected = token
	}
	// Where this fails, another process may still have replaced the token.
	_ = source.Invalidate(req.Context(), rejected)
	body := req.Body
	hasBody := body != nil && body != http.NoBody
	if hasBody && req.GetBody == nil {
		return resp, nil
	}
	if token, err = t.token(req.Context()); err != nil {
		return resp, nil
	}
	if hasBody {
		if body, err = req.GetBody(); err != nil {
			return resp, nil
		}
	}
	_, _ = io.CopyN(io.Discard, resp.Body, 64<<10) // the connection can then be used again
	_ = resp.Body.Close()
	return t.send(req, body, before, token, after)
}

// CloseIdleConnections is what http.Client.CloseIdleConnections calls. It is
// passed on to Base if that has it.
func (t *Transport) CloseIdleConnections() {
	if base, ok := t.base().(interface{ CloseIdleConnections() }); ok {
		base.CloseIdleConnections()
	}
}

func (t *Transport) base() http.RoundTripper { return cmp.Or(t.Base, http.DefaultTransport) }

// allows reports whether u's host may be given a token.
func (t *Transport) allows(u *url.URL) bool {
	host, port := u.Hostname(), u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	if t.Hosts == nil {
		return port == "443" && slices.Contains(weChatHosts(), u.Scheme+"://"+strings.ToLower(host))
	}
	return slices.ContainsFunc(t.Hosts, func(h string) bool {
		return strings.EqualFold(h, host) || strings.EqualFold(h, net.JoinHostPort(host, port))
	})
}

// token gives the Source's token as it is written in a query.
func (t *Transport) token(ctx context.Context) (string, error) {
	if t.Source == nil {
		return "", errors.New("wxtoken: Transport has no Source; set its field to the result of New")
	}
	token, err := t.Source.Token(ctx)
	if err == nil && token.Value == "" {
		err = errors.New("its Token is empty")
	}
	if err != nil {
		return "", &noTokenError{err}
	}
	return url.QueryEscape(token.Value), nil
}

// A noTokenError is why a request was not sent. Its Timeout is what net/http's
// own errors are asked by, for which Unwrap does not serve.
type noTokenError struct{ err error }

func (e *noTokenError) Error() string {
	return "wxtoken: request not sent, the Transport's Source gave no token: " + e.err.Error()
}
func (e *noTokenError) Unwrap() error { return e.err }
func (e *noTokenError) Timeout() bool { return errors.Is(e.err, context.DeadlineExceeded) }

// send passes on a copy of req with another body and a query made of the three
// parts. The answer bears no trace of the token that a caller could print, or a
// redirect take elsewhere.
func (t *Transport) send(req *http.Request, body io.ReadCloser, before, token, after string) (*http.Response, error) {
	out := req.Clone(req.Context())
	out.Body, out.URL.RawQuery = body, before+token+after
	resp, err := t.base().RoundTrip(out)
	if err != nil {
		return nil, endpoint.HideError(err, endpoint.Mask(token), false)
	}
	if resp == nil {
		return nil, nil // a broken Base, of which http.Client tells
	}
	resp.Request = req
	if to := resp.Header.Get("Location"); to != "" {
		own := strings.Contains(req.URL.RawQuery, token) // the caller's, to be kept within Hosts
		if u, err := req.URL.Parse(to); !own || err != nil || !t.allows(u) {
			resp.Header.Set("Location", strings.ReplaceAll(to, token, ""))
		}
	}
	return resp, nil
}

// withoutReferer drops the Referer that http.Client makes when it follows a
// redirect out of Hosts: it holds the last URL, with a token if the caller put
// one there.
func (t *Transport) withoutReferer(req *http.Request) *http.Request {
	from, err := url.Parse(req.Header.Get("Referer"))
	if req.Response == nil || err != nil || !t.allows(from) {
		return req
	}
	out := req.Clone(req.Context())
	out.Header.Del("Referer")
	return out
}

// cutToken cuts a raw query around the value of its access_token: the first one
// that is not empty, else the first. Without one, before ends in a new one.
// The value is as it stands there, percent-encoded; before+value+after sets it.
func cutToken(query string) (before, value, after string) {
	found := false
	for start := 0; start < len(query); {
		part, _, _ := strings.Cut(query[start:], "&")
		end := start + len(part)
		key, val, _ := strings.Cut(part, "=")
		if name, err := url.QueryUnescape(key); err == nil && name == "access_token" && (!found || val != "") {
			before, value, after, found = query[:start]+key+"=", val, query[end:], true
		}
		if value != "" {
			return before, value, after
		}
		start = end + 1
	}
	if found {
		return before, "", after
	}
	if query != "" {
		query += "&"
	}
	return query + "access_token=", "", ""
}
