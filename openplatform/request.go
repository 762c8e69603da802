package openplatform

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"time"

	"github.com/wxtoken/wxtoken"
	"github.com/wxtoken/wxtoken/internal/endpoint"
)

// fetchTimeout bounds a request that is not part of a Source's fetch.
const fetchTimeout = 10 * time.Second

// The platform's endpoints.
const (
	componentPath = "/cgi-bin/component/api_component_token"
	startPath     = "/cgi-bin/component/api_start_push_ticket"
	queryAuthPath = "/cgi-bin/component/api_query_auth"
	refreshPath   = "/cgi-bin/component/api_authorizer_token"
	listPath      = "/cgi-bin/component/api_get_authorizer_list"
)

// A request is one POST of JSON to the platform.
type request struct {
	path       string
	body       map[string]any
	secrets    []string // what no error may show
	field      string   // of the answer, with a token; "": it has none
	repeatable bool     // a second request supersedes nothing
	once       bool     // it must not be sent twice, not even to a busy platform
	read       func(object map[string]json.RawMessage) error

	access string // component_access_token; goes into the query
}

// send sends r. After an error that is neither an *wxtoken.APIError nor an
// *endpoint.Unsent the platform may have done what was asked.
func (p *Platform) send(ctx context.Context, r request) (wxtoken.Token, error) {
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, fetchTimeout)
		defer cancel()
	}
	e := endpoint.Endpoint{
		Path: r.path, Field: r.field, Post: true, Body: r.body, Secrets: slices.Clone(r.secrets),
		Repeatable: r.repeatable, Once: r.once, Read: r.read, Hosts: p.http.Hosts, Client: p.http.Client,
	}
	if r.access != "" {
		e.Query = "component_access_token=" + url.QueryEscape(r.access)
	}
	value, expiresAt, err := e.Fetch(ctx, r.access)
	var denied *endpoint.Denial
	if errors.As(err, &denied) {
		return wxtoken.Token{}, &wxtoken.APIError{Code: denied.Code, Message: denied.Message}
	}
	return wxtoken.Token{Value: value, ExpiresAt: expiresAt}, err
}

// beforehand returns a ctx for the work before the request of a fetch. It leaves the
// request the rest of the time, and time to report that nothing was sent.
func beforehand(ctx context.Context) (context.Context, context.CancelFunc) {
	end, ok := ctx.Deadline()
	if !ok {
		return context.WithTimeout(ctx, fetchTimeout)
	}
	return context.WithDeadline(ctx, end.Add(-time.Until(end)/3))
}

// sendAsComponent sends r with a component_access_token, and once more if the
// platform rejects that.
func (p *Platform) sendAsComponent(ctx context.Context, r request) (wxtoken.Token, error) {
	r.body["component_appid"] = p.appID
	early, cancel := beforehand(ctx)
	defer cancel()
	for again := true; ; again = false {
		access, err := p.src.Token(early)
		if err != nil {
			return wxtoken.Token{}, unsent(fmt.Errorf("wxtoken: %s: no component_access_token to ask with: %w", r.path, err))
		}
		r.access = access.Value
		tok, err := p.send(ctx, r)
		if code := codeOf(err); !wxtoken.IsTokenRejected(code) && code != 42006 {
			return tok, err
		}
		if !again { // nothing was issued: the component's token is what needs fixing
			return wxtoken.Token{}, unsent(fmt.Errorf("wxtoken: %s: the component_access_token was rejected twice: %w", r.path, err))
		}
		// If the Source does not believe it, the token may be good: the platform
		// is known to reject good tokens now and then.
		_ = p.src.Invalidate(early, access.Value)
	}
}

// codeOf returns the errcode in err, or 0.
func codeOf(err error) int {
	var denied *wxtoken.APIError
	if errors.As(err, &denied) {
		return denied.Code
	}
	return 0
}

// unsent marks an error after which certainly no token was issued, so that the Source
// does not treat the outcome as unknown.
func unsent(err error) error { return &endpoint.Unsent{Err: err} }

// hidden returns err without the secrets, if its text contains any: an error of an
// application's store may quote what it could not save.
func hidden(err error, secrets ...string) error {
	return endpoint.HideError(err, endpoint.Mask(secrets...), false)
}
