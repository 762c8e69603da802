package wxtoken

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/wxtoken/wxtoken/internal/endpoint"
	"github.com/wxtoken/wxtoken/internal/errcode"
)

// A Fetcher asks the platform for a token. It must be safe for concurrent use.
// One that has a method Repeatable() bool which gives true, since a second fetch
// gives the same token and harms nobody, is asked while the cache is down, too.
type Fetcher interface {
	// Fetch asks the platform; each call may supersede the token before it. A
	// token has printable ASCII without spaces, and an end in the future. An *APIError says that the platform refused and issued nothing; after
	// any other error a token may have been issued.
	Fetch(ctx context.Context) (Token, error)

	// Key names the credential in the cache; never the secret.
	Key() string
}

// FetcherFunc makes a Fetcher of fn: a token from elsewhere, kept by a Source
// under key. A nil fn panics.
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

// An HTTPFetcher is a Fetcher for one of the platform's endpoints. The zero
// value has none and is not usable: make one with NewFetcher or its sisters.
//
// A failed Fetch is an *APIError if the platform refused. After any other error
// a token may have been issued, except where no request could be sent, as the
// error then says. No error shows the secret or a token.
type HTTPFetcher struct {
	key      string
	endpoint endpoint.Endpoint
	secret   func() string // a func: no way of printing the fetcher shows it; nil for tickets
	tokens   invalidator   // for tickets: where the credential comes from
	fault    error         // why nothing can be sent

	untilExpiry, fullLife bool // see repeats
	platform              errcode.Platform
}

// NewFetcher fetches by GET cgi-bin/token, which supersedes the token before.
// If appID or secret is empty, or holds a space, a control byte or one that is
// not ASCII, Fetch says so and sends nothing.
func NewFetcher(appID, secret string, opts ...FetcherOption) *HTTPFetcher {
	return newHTTPFetcher(HTTPFetcher{
		key: "token:" + appID, platform: errcode.WeChat,
		endpoint: endpoint.Endpoint{
			Path: "/cgi-bin/token", Field: "access_token", Hosts: weChatHosts(),
			Params: func(s string) map[string]string {
				return map[string]string{"grant_type": "client_credential", "appid": appID, "secret": s}
			},
		},
		secret: func() string { return secret },
		fault:  endpoint.CheckCredential("appID", appID, secret),
	}, opts)
}

// NewStableFetcher fetches by POST cgi-bin/stable_token, which the platform
// recommends: asked again, it gives the same token with the time that remains,
// until that is under five minutes. Its tokens are apart from NewFetcher's.
func NewStableFetcher(appID, secret string, opts ...FetcherOption) *HTTPFetcher {
	f := NewFetcher(appID, secret, opts...)
	f.key, f.platform, f.endpoint.Path = "stable:"+appID, errcode.Stable, "/cgi-bin/stable_token"
	f.endpoint.Post, f.endpoint.Repeatable = true, true
	return f
}

// NewTicketFetcher fetches a ticket of kind "jsapi" or "wx_card" by GET
// cgi-bin/ticket/getticket, with an access token from src: make a second Source
// of it, on the same cache if you like. Another kind is an error from Fetch; a
// nil src panics. Asked again, the platform gives the same ticket.
//
// If it refuses the access token, src is told so, and the ticket is asked for
// once more with what src then has.
func NewTicketFetcher(src *Source, kind string, opts ...FetcherOption) *HTTPFetcher {
	if src == nil {
		panic("wxtoken: NewTicketFetcher: nil Source; pass the one that keeps the app's access token")
	}
	f := HTTPFetcher{
		key: "ticket:" + kind + ":" + src.fetcher.Key(),
		endpoint: endpoint.Endpoint{
			Path: "/cgi-bin/ticket/getticket", Field: "ticket", Repeatable: true, Hosts: weChatHosts(),
			Params: func(accessToken string) map[string]string {
				return map[string]string{"type": kind, "access_token": accessToken}
			},
		},
		tokens: src, platform: platformOf(src.fetcher),
		untilExpiry: true, fullLife: true,
	}
	if kind != "jsapi" && kind != "wx_card" {
		f.fault = fmt.Errorf("wxtoken: no ticket of kind %q; use jsapi or wx_card; nothing was sent", kind)
	}
	if f.platform == errcode.WeCom || f.platform == errcode.QQ { // whose tokens are none of WeChat's business
		f.fault = fmt.Errorf("wxtoken: no WeChat ticket for a token of platform %q; nothing was sent", f.platform)
	}
	return newHTTPFetcher(f, opts)
}

// NewWeComFetcher fetches the access token of one app of a WeCom corporation by
// GET cgi-bin/gettoken at qyapi.weixin.qq.com, which gives the same token until
// it ends or is revoked. Each app of a corporation has a secret of its own, and a
// token of its own: so the Key ends in a fingerprint of the secret, 64 bits of a
// hash keyed by it, which tells the apps apart and gives nothing away.
func NewWeComFetcher(corpID, secret string, opts ...FetcherOption) *HTTPFetcher {
	f := HTTPFetcher{
		endpoint: endpoint.Endpoint{
			Path: "/cgi-bin/gettoken", Field: "access_token", Repeatable: true,
			Hosts: apiHosts(errcode.WeCom),
			Params: func(s string) map[string]string {
				return map[string]string{"corpid": corpID, "corpsecret": s}
			},
		},
		secret: func() string { return secret }, platform: errcode.WeCom,
		fault: endpoint.CheckCredential("corpID", corpID, secret),

		untilExpiry: true,
	}
	f.key = "wecom:" + corpID + ":" + f.fingerprint("wecom key")
	return newHTTPFetcher(f, opts)
}

func newHTTPFetcher(f HTTPFetcher, opts []FetcherOption) *HTTPFetcher {
	for _, o := range opts {
		o.applyFetcher(&f)
	}
	return &f
}

// A FetcherOption changes what NewFetcher and its sisters make.
type FetcherOption interface{ applyFetcher(*HTTPFetcher) }

type fetcherOption func(*HTTPFetcher)

func (o fetcherOption) applyFetcher(f *HTTPFetcher) { o(f) }

// WithHTTPClient takes Transport and Timeout from c, and nothing else: no
// redirect is followed. Of an *http.Transport, a copy makes a new connection
// for each fetch. The default, and nil, is http.DefaultTransport, which honours
// the proxies of the environment. A Transport of another kind must not repeat a
// request of NewFetcher by itself, and must keep the request's context for
// another host to be tried.
func WithHTTPClient(c *http.Client) FetcherOption {
	return fetcherOption(func(f *HTTPFetcher) { f.endpoint.Client = c })
}

// WithBaseURL sets the hosts to ask, as http or https URLs in order. The next
// one is tried only if no connection to the one before could be made, so that
// no request can arrive twice. The default, also for no URL, is WeChat's five
// hosts over https, api.weixin.qq.com first, or WeCom's one. An unfit URL is an
// error from Fetch.
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

func weChatHosts() []string {
	return []string{"https://api.weixin.qq.com", "https://api2.weixin.qq.com",
		"https://sh.api.weixin.qq.com", "https://sz.api.weixin.qq.com", "https://hk.api.weixin.qq.com"}
}

// Key names the credential in the cache: the endpoint and the appID.
func (f *HTTPFetcher) Key() string { return f.key }

// Repeatable reports whether a second fetch gives the same token and harms no
// holder of the first. It does not for NewFetcher, and does for its sisters.
func (f *HTTPFetcher) Repeatable() bool { return f.endpoint.Repeatable }

// repeats reports whether the platform, asked again, repeats a token until it
// expires, and whether it says each time that its whole life is left.
func (f *HTTPFetcher) repeats() (untilExpiry, fullLife bool) { return f.untilExpiry, f.fullLife }

// fingerprint tells secrets apart without showing them: 64 bits of an HMAC over
// salt, keyed by the secret. It is "" where there is no secret.
func (f *HTTPFetcher) fingerprint(salt string) string {
	if f.secret == nil || f.secret() == "" {
		return ""
	}
	mac := hmac.New(sha256.New, []byte(f.secret()))
	mac.Write([]byte(salt))
	return hex.EncodeToString(mac.Sum(nil)[:8])
}

// Fetch asks the platform for a token, until ctx ends or, if that has no
// deadline, for 10 s. It tries again, three times in all, where the platform
// was busy, where nothing was sent, and where a second request does no harm.
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
	return f.fetchWith(ctx, f.secret())
}

func (f *HTTPFetcher) fetchTicket(ctx context.Context) (Token, error) {
	for again := true; ; again = false {
		access, err := f.tokens.Token(ctx)
		if err != nil {
			return Token{}, &endpoint.Unsent{Err: fmt.Errorf("wxtoken: %s: no access token to ask with: %w", f.endpoint.Path, err)}
		}
		ticket, err := f.fetchWith(ctx, access.Value)
		var refused *APIError
		if !errors.As(err, &refused) || !IsTokenRejected(refused.Code) {
			return ticket, err
		}
		if !again { // no ticket was at stake: it is src that must be put right
			return Token{}, &endpoint.Unsent{Err: fmt.Errorf("wxtoken: %s: the access token was refused twice: %w", f.endpoint.Path, err)}
		}
		// Should src not believe it, the token may be good: the platform is
		// known to refuse such now and then.
		_ = f.tokens.Invalidate(ctx, access.Value)
	}
}

func (f *HTTPFetcher) fetchWith(ctx context.Context, credential string) (Token, error) {
	value, expiresAt, err := f.endpoint.Fetch(ctx, credential)
	var refused *endpoint.Refusal
	if errors.As(err, &refused) {
		return Token{}, advise(f.platform, &APIError{refused.Code, refused.Message})
	}
	return Token{value, expiresAt}, err
}
