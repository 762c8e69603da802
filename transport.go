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

// A Transport is an http.RoundTripper that gives each request an access_token
// and replaces one that an API rejects. It is safe for concurrent use, if its
// fields stay as they are and it is not copied once it is in use.
//
// A request to Hosts whose query has no access_token, or an empty one, gets that
// of Source; one that is there is kept. The query's other bytes stay as they are.
// The caller's request is never changed, and is what Response.Request returns: no
// URL with an added token comes back.
//
// Requests that take no access_token, or another credential, are sent as they
// are, once, whether or not a token can be had: those to /sns/…, the token
// endpoints (/cgi-bin/token, stable_token, gettoken, /api/getToken),
// /cgi-bin/clear_quota/v2, /cgi-bin/component/… and /cgi-bin/service/…, and those
// with a component_access_token, suite_access_token, provider_access_token or
// cloudbase_access_token in the query.
//
// When an API answers errcode 40001, 40014 or 42001 to a token that Source or one
// of Others has handed out, the Transport invalidates exactly that token, and
// sends the request once more with the one that the same Source has then, even if
// that is the same: the platform is known to reject a good token now and then,
// and a rejected call was not carried out. The second answer is returned,
// whatever it says. A token that none of them has handed out, a user's say, is
// never replaced. If the request's body cannot be read again (no GetBody), or the
// Source has no token, the caller gets the rejection.
//
// To find an errcode, RoundTrip waits for the response's first bytes, and, if
// those begin a JSON object, reads on to its top-level errcode, its end, or
// 64 KiB, for at most a second in all. So a JSON object without errcode that is
// sent slowly, and an answer whose body is late, come up to a second later; after
// that, and for any other body, the caller reads as fast as the body comes. All
// of it is there to read, but for a rejection whose end does not come within
// another second: it ends where it stalled. A body that comes compressed, because
// the caller set Accept-Encoding, is not looked into.
//
// Fields that cannot be used make every request an error: a nil in Others, Hosts
// that are no hosts, or no Hosts where the Source does not tell them.
type Transport struct {
	// Source hands out the token; without one, requests to Hosts are errors. One
	// that has a method Invalidate like Source's gets rejected tokens replaced.
	Source TokenSource

	// Others are the Sources of further apps whose tokens requests may bear
	// already, as with an SDK that has one HTTP client for all of its apps. They
	// are asked only for the replacement of a rejected token of their own.
	Others []TokenSource

	// Base sends the requests; nil means http.DefaultTransport.
	Base http.RoundTripper

	// Hosts may be given a token: each entry is a "host", for every port, or a
	// "host:port", in any case, over http too. Nil means the API hosts of the
	// platform that Source's Fetcher is for, only over https on port 443: WeChat's
	// five, also for a TokenSource that is not a *Source; qyapi.weixin.qq.com for
	// WeCom; api.q.qq.com for QQ. Those of a FetcherFunc or an Endpoint are not
	// known. Requests to other hosts are passed on as they are. A redirect to one
	// takes no token, no Referer and no body along, and is not followed where that
	// cannot be avoided.
	Hosts []string

	given sync.Map // index of a source to *memory, for those that keep none of their own
}

// RoundTrip implements http.RoundTripper. Its own errors begin with "wxtoken:"
// and wrap the Source's; no token that it added stands in any error.
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

// rejects reports whether resp rejects a token. It has then read all of it that
// came.
func rejects(resp *http.Response) bool {
	if !IsTokenRejected(errcode.Of(resp)) {
		return false
	}
	errcode.Complete(resp)
	return true
}

// CloseIdleConnections is what http.Client.CloseIdleConnections calls. It is
// passed on to Base if that has it.
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

// ask takes the token of a source.
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

// again invalidates the token, which was rejected by resp, and sends the request
// once more with the next one. It reports false where it cannot.
func (c *call) again(rejection *http.Response) (resp *http.Response, ok bool, err error) {
	ctx, rejected, source := c.req.Context(), plainValue(c.token), 0
	if !c.added {
		source = c.t.owner(ctx, rejected)
	}
	if source < 0 {
		return nil, false, nil
	}
	// Where this fails, another process may still have replaced the token.
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

// send passes on a copy of the request with another body and the token. The
// answer bears no trace of a token that was added which a caller could print, or
// a redirect take elsewhere.
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

// ask returns the token of a source, and remembers it where the source does not.
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

// A rememberer is a TokenSource that knows what it handed out, to whomever.
type rememberer interface{ handedOut(value string) bool }

// owner returns which source handed out a rejected value, or -1. One that is not
// a *Source may have given it to others without the Transport's knowledge: it is
// asked whether it still does.
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
