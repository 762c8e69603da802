package wxtoken

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// A Fetcher asks the platform for a token. It must be safe for concurrent use.
type Fetcher interface {
	// Fetch asks the platform; each call may supersede the token before it.
	// An *APIError says that the platform refused and issued nothing; after
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
	key        string
	path       string                                    // of the endpoint, with a leading slash
	params     func(credential string) map[string]string // query, or JSON body if post
	post       bool
	field      string        // of the answer, with the token
	repeatable bool          // a second request does no harm
	secret     func() string // a func: no way of printing the fetcher shows it; nil for tickets
	tokens     accessTokens  // for tickets: where the credential comes from
	client     *http.Client  // nil: http.DefaultTransport
	hosts      []string      // base URLs
	fault      error         // why nothing can be sent
}

// NewFetcher fetches by GET cgi-bin/token, which supersedes the token before.
// If appID or secret is empty, or holds a space or control byte, Fetch says so
// and sends nothing.
func NewFetcher(appID, secret string, opts ...FetcherOption) *HTTPFetcher {
	return newHTTPFetcher(HTTPFetcher{
		key:  "token:" + appID,
		path: "/cgi-bin/token", field: "access_token",
		params: func(s string) map[string]string {
			return map[string]string{"grant_type": "client_credential", "appid": appID, "secret": s}
		},
		secret: func() string { return secret },
		hosts:  weChatHosts(),
		fault:  checkCredential("appID", appID, "secret", secret),
	}, opts)
}

// NewStableFetcher fetches by POST cgi-bin/stable_token, which the platform
// recommends: asked again, it gives the same token with the time that remains,
// until that is under five minutes. Its tokens are apart from NewFetcher's.
func NewStableFetcher(appID, secret string, opts ...FetcherOption) *HTTPFetcher {
	f := NewFetcher(appID, secret, opts...)
	f.key, f.path, f.post, f.repeatable = "stable:"+appID, "/cgi-bin/stable_token", true, true
	return f
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
	return fetcherOption(func(f *HTTPFetcher) { f.client = c })
}

// WithBaseURL sets the hosts to ask, as http or https URLs in order. The next
// one is tried only if no connection to the one before could be made, so that
// no request can arrive twice. The default, also for no URL, is WeChat's five
// hosts over https, api.weixin.qq.com first, or WeCom's one. An unfit URL is an
// error from Fetch.
func WithBaseURL(urls ...string) FetcherOption {
	return fetcherOption(func(f *HTTPFetcher) {
		for i, s := range urls {
			u, err := url.Parse(s)
			if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Hostname() == "" ||
				u.User != nil || strings.ContainsAny(s, "?#") {
				f.fault = fmt.Errorf("wxtoken: URL %d of WithBaseURL is not of the form https://host[:port][/path]; nothing was sent", i+1)
			}
		}
		if len(urls) > 0 {
			f.hosts = slices.Clone(urls)
		}
	})
}

func weChatHosts() []string {
	return []string{"https://api.weixin.qq.com", "https://api2.weixin.qq.com",
		"https://sh.api.weixin.qq.com", "https://sz.api.weixin.qq.com", "https://hk.api.weixin.qq.com"}
}

// checkCredential takes names and values. Spaces and the like come from files
// and environment variables; the platform would only say "invalid".
func checkCredential(pairs ...string) error {
	for i := 0; i < len(pairs); i += 2 {
		name, value := pairs[i], pairs[i+1]
		if value == "" {
			return fmt.Errorf("wxtoken: %s is empty; nothing was sent", name)
		}
		if !printable(value) {
			return fmt.Errorf("wxtoken: %s holds a space, a control byte or a byte that is not ASCII; nothing was sent", name)
		}
	}
	return nil
}

// Key names the credential in the cache: the endpoint and the appID.
func (f *HTTPFetcher) Key() string { return f.key }

// Repeatable reports whether a second fetch gives the same token and harms no
// holder of the first. It does not for NewFetcher, and does for its sisters.
func (f *HTTPFetcher) Repeatable() bool { return f.repeatable }

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
		return Token{}, &notSentError{f.fault}
	}
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, fetchAlone)
		defer cancel()
	}
	if f.tokens != nil {
		return f.fetchTicket(ctx)
	}
	return f.fetchWith(ctx, f.secret())
}
