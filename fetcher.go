package wxtoken

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/wxtoken/wxtoken/internal/endpoint"
	"github.com/wxtoken/wxtoken/internal/errcode"
)

// A Fetcher asks the platform for a token. It must be safe for concurrent use.
//
// A Fetcher with a method Repeatable() bool that returns true is called even while
// the cache is unavailable: see [Repeatable]. A type that embeds the [*HTTPFetcher] of a
// constructor keeps everything that a [Source] knows about it. A type that embeds a
// Fetcher is not Repeatable; if it replaces Key, the new Key should keep the prefix.
type Fetcher interface {
	// Fetch asks the platform for a token; each call may supersede the previous one.
	// A token is printable ASCII without spaces and expires in the future. An
	// *APIError means that the platform denied the request and issued nothing; after
	// any other error a token may have been issued.
	Fetch(ctx context.Context) (Token, error)

	// Key names the credential in the cache. It must not contain the secret.
	Key() string
}

// FetcherFunc returns a [Fetcher] that calls fn for tokens from anywhere. A
// [Source] keeps them under key. It panics if fn is nil.
func FetcherFunc(key string, fn func(context.Context) (Token, error)) Fetcher {
	if fn == nil {
		panic("wxtoken: FetcherFunc with a nil function")
	}
	return &funcFetcher{key, fn}
}

type funcFetcher struct {
	key string
	fn  func(context.Context) (Token, error)
}

func (f *funcFetcher) Fetch(ctx context.Context) (Token, error) { return f.fn(ctx) }
func (f *funcFetcher) Key() string                              { return f.key }

// Repeatable declares that fetching twice with f is harmless: the second fetch
// returns the same token, or a new one while the first stays valid. A [Source] then
// fetches even while the cache is unavailable, and need not fetch again after a fetch
// whose outcome is unknown. Do not use it for tokens that a later fetch supersedes.
// The result has f's Key and works as f does; f is not changed. It panics if f is
// nil.
func Repeatable(f Fetcher) Fetcher {
	if f == nil {
		panic("wxtoken: Repeatable with a nil Fetcher")
	}
	if h, ok := f.(*HTTPFetcher); ok {
		repeatable := *h
		repeatable.endpoint.Repeatable = true
		return &repeatable
	}
	if c, ok := f.(changeable); ok {
		return struct {
			repeatableFetcher
			changeable
		}{repeatableFetcher{f}, c}
	}
	return repeatableFetcher{f}
}

// A repeatableFetcher forwards the optional methods of f that a Source calls.
type repeatableFetcher struct{ f Fetcher }

func (r repeatableFetcher) Fetch(ctx context.Context) (Token, error) { return r.f.Fetch(ctx) }
func (r repeatableFetcher) Key() string                              { return r.f.Key() }
func (r repeatableFetcher) Repeatable() bool                         { return true }
func (r repeatableFetcher) askedPlatform() errcode.Platform          { return platformOf(r.f) }
func (r repeatableFetcher) repeatsFullLife() bool                    { return isTicket(r.f) }

func (r repeatableFetcher) fingerprint(salt string) string {
	if f, ok := r.f.(secretive); ok {
		return f.fingerprint(salt)
	}
	return ""
}

func (r repeatableFetcher) askedHosts() []string {
	if f, ok := r.f.(secretive); ok {
		return f.askedHosts()
	}
	return nil
}

// An HTTPFetcher is a [Fetcher] for one of the platform's endpoints. The zero
// HTTPFetcher has no endpoint, and its Fetch returns an error: use [NewFetcher] or
// another constructor.
//
// Fetch returns an [*APIError] if the platform denied the request. After any other
// error a token may have been issued, unless the error says that nothing was sent. No
// error shows the secret or a token.
type HTTPFetcher struct {
	key      string
	platform errcode.Platform
	endpoint endpoint.Endpoint
	secret   *secretSource // nil for tickets
	tokens   invalidator   // for tickets: where the credential comes from
	fault    error         // why nothing can be sent
}

// NewFetcher returns a [Fetcher] for GET cgi-bin/token, which supersedes the previous
// token. If appID or secret is empty, or contains a space, a control character or a
// byte that is not ASCII, Fetch sends nothing and returns an error that says so.
func NewFetcher(appID, secret string, opts ...FetcherOption) *HTTPFetcher {
	return newAppFetcher("token:", errcode.WeChat, endpoint.Endpoint{Path: "/cgi-bin/token"}, appID, secret, opts)
}

// NewStableFetcher returns a [Fetcher] for POST cgi-bin/stable_token, which the
// platform recommends: asked again, it returns the same token and its remaining time,
// until that is under five minutes. Its tokens are independent of [NewFetcher]'s. An
// invalid appID or secret is an error of Fetch, as it is with NewFetcher.
func NewStableFetcher(appID, secret string, opts ...FetcherOption) *HTTPFetcher {
	e := endpoint.Endpoint{Path: "/cgi-bin/stable_token", Post: true, Repeatable: true}
	return newAppFetcher("stable:", errcode.Stable, e, appID, secret, opts)
}

// NewQQFetcher returns a [Fetcher] for the access token of a QQ mini program, by GET
// api/getToken at api.q.qq.com, which supersedes the previous token as cgi-bin/token
// does. An invalid appID or secret is an error of Fetch, as it is with [NewFetcher].
func NewQQFetcher(appID, secret string, opts ...FetcherOption) *HTTPFetcher {
	return newAppFetcher("qq:", errcode.QQ, endpoint.Endpoint{Path: "/api/getToken"}, appID, secret, opts)
}

// newAppFetcher returns the fetcher of an endpoint that takes appid and secret.
func newAppFetcher(prefix string, p errcode.Platform, e endpoint.Endpoint, appID, secret string, opts []FetcherOption) *HTTPFetcher {
	e.Field, e.Hosts = "access_token", apiHosts(p)
	e.Params = func(s string) map[string]string {
		return map[string]string{"grant_type": "client_credential", "appid": appID, "secret": s}
	}
	f := HTTPFetcher{key: prefix + appID, platform: p, endpoint: e, secret: fixedSecret(secret)}
	return f.with(opts, func(f *HTTPFetcher) error {
		return cmp.Or(endpoint.CheckValue("appID", appID), f.checkSecret(secret))
	})
}

// NewWeComFetcher returns a [Fetcher] for the access token of one app of a WeCom
// corporation, by GET cgi-bin/gettoken at qyapi.weixin.qq.com, which returns the same
// token until it expires or is revoked. Each app of a corporation has its own secret
// and its own token. So the Key ends in a fingerprint of the secret, 64 bits of a
// keyed hash, which tells the apps apart and reveals nothing.
//
// With [WithSecretFunc], secret is not sent; only its fingerprint is used, in the Key.
// Pass something that identifies the app and does not change with the secret, such as
// the agentid. It must not be empty.
func NewWeComFetcher(corpID, secret string, opts ...FetcherOption) *HTTPFetcher {
	f := HTTPFetcher{
		key:      "wecom:" + corpID + ":" + tag([]byte(secret), "wecom key"),
		platform: errcode.WeCom,
		endpoint: endpoint.Endpoint{
			Path: "/cgi-bin/gettoken", Field: "access_token", Repeatable: true, Hosts: apiHosts(errcode.WeCom),
			Params: func(s string) map[string]string {
				return map[string]string{"corpid": corpID, "corpsecret": s}
			},
		},
		secret: fixedSecret(secret),
	}
	return f.with(opts, func(f *HTTPFetcher) error {
		if secret == "" {
			return cmp.Or(endpoint.CheckValue("corpID", corpID), endpoint.CheckValue("secret", secret))
		}
		return cmp.Or(endpoint.CheckValue("corpID", corpID), f.checkSecret(secret))
	})
}

// with applies opts and, if they are valid, records what check finds.
func (f HTTPFetcher) with(opts []FetcherOption, check func(*HTTPFetcher) error) *HTTPFetcher {
	for _, o := range opts {
		o.applyFetcher(&f)
	}
	if f.fault == nil {
		f.fault = check(&f)
	}
	return &f
}

// A FetcherOption configures the fetcher of [NewFetcher] and the other constructors.
type FetcherOption interface{ applyFetcher(*HTTPFetcher) }

type fetcherOption func(*HTTPFetcher)

func (o fetcherOption) applyFetcher(f *HTTPFetcher) { o(f) }

// WithHTTPClient uses the Transport and Timeout of c, and nothing else of it: no
// redirect is followed. An *http.Transport is copied, and the copy opens a new
// connection for each fetch. The default, also for nil, is http.DefaultTransport,
// which honours the environment's proxies. Any other RoundTripper must not itself
// retry requests of a fetcher that is not [Repeatable], and must keep the request's
// context, or no second host is tried.
func WithHTTPClient(c *http.Client) FetcherOption {
	return fetcherOption(func(f *HTTPFetcher) { f.endpoint.Client = c })
}

// WithBaseURL sets the hosts to ask, in order, as http or https URLs; the path of a
// URL goes before the endpoint's. The next host is tried only if no connection to the
// previous one could be made, so that no request can arrive twice. The default, also
// without URLs, is the platform's own hosts over https: WeChat's five with
// api.weixin.qq.com first, qyapi.weixin.qq.com for WeCom, api.q.qq.com for QQ, and
// the host of [Endpoint.URL]. With an invalid URL, Fetch returns an error.
func WithBaseURL(urls ...string) FetcherOption {
	return fetcherOption(func(f *HTTPFetcher) {
		if err := endpoint.CheckHosts(urls); err != nil {
			f.fault = fmt.Errorf("wxtoken: WithBaseURL: %w; nothing was sent", err)
		}
		if len(urls) > 0 {
			f.endpoint.Hosts = slices.Clone(urls)
		}
	})
}

func weChatHosts() []string { return endpoint.WeChatHosts() }

// askedHosts are the base URLs that f asks.
func (f *HTTPFetcher) askedHosts() []string { return f.endpoint.Hosts }

// Key names the credential in the cache: the endpoint and the appID.
func (f *HTTPFetcher) Key() string { return f.key }

// Repeatable reports whether fetching twice is harmless: see the function Repeatable.
// It is false for [NewFetcher] and [NewQQFetcher], true for [NewStableFetcher],
// [NewTicketFetcher] and [NewWeComFetcher], and [Endpoint.Repeatable] for
// [NewEndpointFetcher].
func (f *HTTPFetcher) Repeatable() bool { return f.endpoint.Repeatable }

// Format prints the Key, for every verb of package fmt.
func (f HTTPFetcher) Format(s fmt.State, _ rune) { fmt.Fprintf(s, "wxtoken.HTTPFetcher(%s)", f.key) }

// Fetch asks the platform for a token, until ctx ends or, if ctx has no deadline, for
// 10 s. It makes up to three attempts: it retries if the platform was busy, if
// nothing was sent, or if a second request is harmless.
func (f *HTTPFetcher) Fetch(ctx context.Context) (Token, error) {
	if f.fault != nil {
		return Token{}, &endpoint.Unsent{Err: f.fault}
	}
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, 10*time.Second)
		defer cancel()
	}
	if f.tokens != nil {
		return f.fetchTicket(ctx)
	}
	secret, err := f.secret.use(ctx)
	if err != nil {
		return Token{}, &endpoint.Unsent{Err: err}
	}
	return f.fetchWith(ctx, secret)
}

func (f *HTTPFetcher) fetchWith(ctx context.Context, credential string) (Token, error) {
	value, expiresAt, err := f.endpoint.Fetch(ctx, credential)
	var denied *endpoint.Denial
	if errors.As(err, &denied) {
		return Token{}, advise(f.platform, &APIError{denied.Code, denied.Message})
	}
	return Token{value, expiresAt}, err
}
