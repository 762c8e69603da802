package wxtoken

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/wxtoken/wxtoken/internal/endpoint"
	"github.com/wxtoken/wxtoken/internal/errcode"
)

// A Transport is an http.RoundTripper that adds an access_token to each request, and
// replaces a token that an API rejects. It is safe for concurrent use, provided that
// its fields do not change and it is not copied after its first use.
//
// A request to Hosts whose query has no access_token, or an empty one, gets that of
// Source; an access_token that is already there is kept. The rest of the query is
// left as it is. The caller's request is not modified, and it is the one in
// Response.Request, so a URL with an added token is never returned.
//
// Requests that take no access_token, or another credential, are sent as they are,
// once, whether or not a token is available: those to /sns/…, the token endpoints
// (/cgi-bin/token, stable_token, gettoken, /api/getToken), /cgi-bin/clear_quota/v2,
// /cgi-bin/component/… and /cgi-bin/service/…, and those with a
// component_access_token, suite_access_token, provider_access_token or
// cloudbase_access_token in the query.
//
// When an API answers errcode 40001, 40014 or 42001 to a token that Source or one of
// Others handed out, the Transport invalidates exactly that token, and sends the
// request once more with the token that the same Source then returns. This may be the
// same token: the platform is known to reject a good token now and then, and a
// rejected call was not carried out. The second response is returned, whatever it
// says. A token that none of the Sources handed out, such as a user's, is never
// replaced. If the request's body cannot be read again (no GetBody), or the Source
// has no token, the caller gets the rejection.
//
// To find an errcode, RoundTrip waits for the first bytes of the response body and,
// if they begin a JSON object, reads on to its top-level errcode, its end, or 64 KiB,
// for at most a second in all. So a JSON object without errcode that is sent slowly,
// and a response whose body is late, are delayed by up to a second; after that, and
// for any other body, the caller reads the body as it arrives. No part of a body is
// lost, except that a rejection whose end does not arrive within another second is
// cut where it stalled. A body that is compressed because the caller set
// Accept-Encoding is not inspected.
//
// Invalid fields make every request an error: a nil in Others, an entry of Hosts that
// is not a host, or nil Hosts if they are not known for the Source.
type Transport struct {
	// Source returns the token; without it, requests to Hosts are errors. If it has a
	// method Invalidate like Source's, rejected tokens are replaced.
	Source TokenSource

	// Others are the Sources of further apps whose tokens requests may already carry,
	// as with an SDK that has one HTTP client for all of its apps. They are used only
	// to replace a rejected token of their own.
	Others []TokenSource

	// Base sends the requests; nil means http.DefaultTransport.
	Base http.RoundTripper

	// Hosts may be sent a token: each entry is a "host", for every port, or a
	// "host:port", in any case, over http too. Nil means the API hosts of the
	// platform of Source's Fetcher, only over https on port 443: WeChat's five, also
	// for a TokenSource that is not a *Source; qyapi.weixin.qq.com for WeCom;
	// api.q.qq.com for QQ. Those of a FetcherFunc or an Endpoint are not known.
	// Requests to other hosts are passed on as they are. A redirect to another host
	// takes no token, no Referer and no body along; where they cannot be removed, it
	// is not followed.
	Hosts []string

	given sync.Map // index of a source to *memory, for those that keep none of their own
}

// RoundTrip implements http.RoundTripper. Its own errors begin with "wxtoken:" and
// wrap the [Source]'s; no error contains a token that it added.
func (t *Transport) RoundTrip(req *http.Request) (*http.Response, error) {
	hosts, err := t.hosts()
	switch {
	case err != nil:
		return nil, unsent(req, err)
	case req.URL == nil || !t.allows(hosts, req.URL):
		return t.base().RoundTrip(t.withoutReferer(hosts, req))
	case t.Source == nil:
		return nil, unsent(req, errors.New("wxtoken: Transport has no Source; set its field to the result of New"))
	case !takesToken(req.URL):
		resp, err := t.base().RoundTrip(req)
		if resp != nil {
			t.guardRedirect(hosts, req, resp, "")
		}
		return resp, err
	}
	c := call{t: t, hosts: hosts, req: req}
	c.before, c.token, c.after = cutToken(req.URL.RawQuery)
	if c.token == "" {
		if err := c.ask(0); err != nil {
			return nil, unsent(req, err)
		}
	}
	resp, err := c.send(req.Body)
	if err != nil || !c.replaceable() || !rejects(resp) {
		return resp, err
	}
	if again, ok, err := c.again(resp); ok {
		if err == nil {
			_ = rejects(again) // so that no rejection holds up the caller
		}
		return again, err
	}
	return resp, nil
}

// rejects reports whether resp rejects a token. If so, it has read all of the body
// that arrived.
func rejects(resp *http.Response) bool {
	if !IsTokenRejected(errcode.Of(resp)) {
		return false
	}
	errcode.Complete(resp)
	return true
}

// CloseIdleConnections is called by http.Client.CloseIdleConnections. It calls
// Base's, if there is one.
func (t *Transport) CloseIdleConnections() {
	if base, ok := t.base().(interface{ CloseIdleConnections() }); ok {
		base.CloseIdleConnections()
	}
}

func (t *Transport) base() http.RoundTripper { return cmp.Or(t.Base, http.DefaultTransport) }

// unsent closes the body of a request that is not sent, and returns why.
func unsent(req *http.Request, err error) error {
	if req.Body != nil {
		_ = req.Body.Close()
	}
	return err
}

// A call is one request that takes a token, sent once or twice.
type call struct {
	t      *Transport
	hosts  []string
	req    *http.Request
	before string // of the query
	token  string // as it is written in the query
	after  string
	added  bool // token is not the caller's own
}

// ask gets the token of a source.
func (c *call) ask(source int) error {
	token, err := c.t.ask(c.req.Context(), source)
	if err == nil {
		c.token, c.added = url.QueryEscape(token), true
	}
	return err
}

// replaceable reports whether a rejection of the token can be acted on at all.
func (c *call) replaceable() bool {
	for i := range 1 + len(c.t.Others) {
		if _, ok := c.t.source(i).(invalidator); ok && (i == 0 || !c.added) {
			return true
		}
	}
	return false
}

// again invalidates the token, which was rejected by resp, and sends the request once
// more with the next one. It reports false if it cannot.
func (c *call) again(rejection *http.Response) (resp *http.Response, ok bool, err error) {
	ctx, rejected, source := c.req.Context(), plainValue(c.token), 0
	if !c.added {
		source = c.t.owner(ctx, rejected)
	}
	if source < 0 {
		return nil, false, nil
	}
	// If this fails, another process may still have replaced the token.
	_ = c.t.source(source).(invalidator).Invalidate(ctx, rejected)
	body := c.req.Body
	hasBody := body != nil && body != http.NoBody
	if hasBody && c.req.GetBody == nil || c.ask(source) != nil {
		return nil, false, nil
	}
	if hasBody {
		if body, err = c.req.GetBody(); err != nil {
			return nil, false, nil
		}
	}
	_ = rejection.Body.Close()
	resp, err = c.send(body)
	return resp, true, err
}

// send sends a copy of the request with the given body and the token. The response
// carries no trace of an added token that a caller could print, or a redirect take
// elsewhere.
func (c *call) send(body io.ReadCloser) (*http.Response, error) {
	out := c.req.Clone(c.req.Context())
	out.Body, out.URL.RawQuery = body, c.before+c.token+c.after
	resp, err := c.t.base().RoundTrip(out)
	if err != nil {
		written, plain := endpoint.Mask(c.token), endpoint.Mask(plainValue(c.token))
		return nil, endpoint.HideError(err, func(s string) string { return plain(written(s)) }, false)
	}
	if resp == nil {
		return nil, nil // a broken Base, which http.Client reports
	}
	resp.Request = c.req
	added := ""
	if c.added {
		added = plainValue(c.token)
	}
	c.t.guardRedirect(c.hosts, c.req, resp, added)
	return resp, nil
}

// ask returns the token of a source, and remembers it if the source does not.
func (t *Transport) ask(ctx context.Context, source int) (string, error) {
	src := t.source(source)
	token, err := src.Token(ctx)
	if err == nil && token.Value == "" {
		err = errors.New("its Token is empty")
	}
	if err != nil {
		return "", &noTokenError{sourceName(source), err}
	}
	if _, ok := src.(rememberer); !ok {
		t.memory(source).add(token.Value)
	}
	return token.Value, nil
}

// A rememberer is a TokenSource that knows what it handed out, to any caller.
type rememberer interface{ handedOut(value string) bool }

// owner returns the index of the source that handed out a rejected value, or -1. One
// that is not a *Source may have handed it out elsewhere without the Transport's
// knowledge, so it is asked whether it still does.
func (t *Transport) owner(ctx context.Context, value string) int {
	var strangers []int
	for i := range 1 + len(t.Others) {
		src, ok := t.source(i).(invalidator)
		if !ok {
			continue
		}
		known := t.memory(i).has
		own, remembers := src.(rememberer)
		if remembers {
			known = own.handedOut
		}
		switch {
		case known(value):
			return i
		case !remembers:
			strangers = append(strangers, i)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	for _, i := range strangers {
		if token, err := t.ask(ctx, i); err == nil && token == value {
			return i
		}
	}
	return -1
}

func (t *Transport) memory(source int) *memory {
	m, ok := t.given.Load(source)
	if !ok {
		m, _ = t.given.LoadOrStore(source, new(memory))
	}
	return m.(*memory)
}

// A noTokenError is why a request was not sent. Its Timeout is for net/http,
// which checks it without unwrapping.
type noTokenError struct {
	source string
	err    error
}

func (e *noTokenError) Error() string {
	return fmt.Sprintf("wxtoken: request not sent, the Transport's %s returned no token: %v", e.source, e.err)
}
func (e *noTokenError) Unwrap() error { return e.err }
func (e *noTokenError) Timeout() bool { return errors.Is(e.err, context.DeadlineExceeded) }
