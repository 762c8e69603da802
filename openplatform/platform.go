package openplatform

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"sync"

	"github.com/wxtoken/wxtoken"
	"github.com/wxtoken/wxtoken/internal/bridge"
	"github.com/wxtoken/wxtoken/internal/endpoint"
	"github.com/wxtoken/wxtoken/internal/msgcrypt"
)

// A Platform is a third-party platform. Make one with New, keep it for the lifetime
// of the process and share it: it is safe for concurrent use, has no goroutine while
// idle, and need not be closed.
type Platform struct {
	appID     string
	fault     error // why nothing can be sent
	secret    func(context.Context) (string, error)
	http      bridge.HTTP
	store     store
	box       *msgcrypt.Box // nil: no WithCallback
	saved     RefreshTokens // nil: refresh tokens are kept in the cache
	options   []wxtoken.Option
	component *component
	src       *wxtoken.Source
	list      lister

	mu          sync.Mutex
	authorizers map[string]*authorizer
}

// An Option configures the [Platform] that New makes.
type Option interface{ apply(*settings) }

type settings struct {
	callback []string // token and key; nil: none
	saved    RefreshTokens
	source   []wxtoken.Option
	fetcher  []wxtoken.FetcherOption
}

type option func(*settings)

func (o option) apply(s *settings) { o(s) }

// WithCallback sets how ServeHTTP verifies and decrypts pushes: by the message token
// (消息校验Token) and the EncodingAESKey (消息加解密Key, 43 characters) of the platform's
// console. New panics if the token is empty or the key is invalid, without showing
// either.
func WithCallback(token, encodingAESKey string) Option {
	return option(func(s *settings) { s.callback = []string{token, encodingAESKey} })
}

// RefreshTokens is an application's own durable store of refresh tokens, such as a
// table in its database. It must be safe for concurrent use. A token may be saved
// more than once.
type RefreshTokens interface {
	// Load returns the refresh token that was saved last, or "" if there is none.
	Load(ctx context.Context, authorizerAppID string) (string, error)

	// Save replaces the refresh token. The platform accepts the previous one for a
	// few minutes at most, so return nil only when the new one cannot be lost.
	Save(ctx context.Context, authorizerAppID, refreshToken string) error
}

// WithRefreshTokens keeps refresh tokens in s. Without it, or with nil, they are kept
// in the cache, and are read again from the platform when the cache loses them.
func WithRefreshTokens(s RefreshTokens) Option {
	return option(func(set *settings) { set.saved = s })
}

// WithSourceOptions sets options of every Source of the [Platform]. WithKeyPrefix and
// WithEncryption also apply to the tickets and refresh tokens in the cache.
func WithSourceOptions(opts ...wxtoken.Option) Option {
	return option(func(s *settings) { s.source = append(s.source, opts...) })
}

// WithFetcherOptions sets options of every request of the [Platform]. WithSecretFunc,
// if among them, supplies the component's secret.
func WithFetcherOptions(opts ...wxtoken.FetcherOption) Option {
	return option(func(s *settings) { s.fetcher = append(s.fetcher, opts...) })
}

// New returns a [Platform] with this appID and secret, which shares its state with
// every Platform of the same appID and the same cache. A nil c means a new
// MemoryCache, for a single process that may lose its refresh tokens. New starts
// nothing and sends nothing. It panics if [WithCallback] has no token or an invalid
// key; an empty or invalid appID or secret is an error when a token is asked for.
func New(appID, secret string, c wxtoken.Cache, opts ...Option) *Platform {
	var set settings
	for _, o := range opts {
		o.apply(&set)
	}
	if c == nil {
		c = wxtoken.NewMemoryCache()
	}
	p := &Platform{
		appID:       appID,
		saved:       set.saved,
		options:     slices.Clone(set.source),
		store:       store{cache: c, shared: bridge.Cache{Prefix: defaultPrefix}},
		authorizers: map[string]*authorizer{},
	}
	if set.callback != nil {
		box, err := msgcrypt.New(set.callback[0], set.callback[1])
		if err != nil {
			panic("wxtoken: openplatform.New: WithCallback: " + err.Error())
		}
		p.box = box
	}
	for _, o := range set.source {
		if o, ok := o.(bridge.CacheOption); ok {
			o.ShowCache(&p.store.shared)
		}
	}
	for _, o := range set.fetcher {
		if o, ok := o.(bridge.HTTPOption); ok {
			o.ShowHTTP(&p.http)
		}
	}
	if len(p.http.Hosts) == 0 {
		p.http.Hosts = endpoint.WeChatHosts()
	}
	p.secret = p.http.Secret
	if p.fault = p.http.Fault; p.fault == nil && p.secret != nil {
		p.fault = checkAppID("component appID", appID)
	} else if p.fault == nil {
		p.fault = endpoint.CheckCredential("component appID", appID, secret)
		p.secret = func(context.Context) (string, error) { return secret, nil }
	}
	p.list.turn = make(chan struct{}, 1)
	p.component = &component{HTTPFetcher: wxtoken.NewFetcher(appID, secret, set.fetcher...), p: p}
	p.src = wxtoken.New(p.component, c, p.options...)
	return p
}

// defaultPrefix is the default of wxtoken.WithKeyPrefix.
const defaultPrefix = "wxtoken:"

// Format prints only the platform's appID, for every verb of package fmt.
func (p *Platform) Format(f fmt.State, _ rune) { fmt.Fprintf(f, "openplatform.Platform(%s)", p.appID) }

// Source returns the Source of the component_access_token, always the same one. Its
// Token needs a component_verify_ticket: without one, or when the platform denies the
// ticket (61005, 61006), the error says what is missing and when the last push came.
// As soon as this process receives a ticket, the next Token fetches; other processes
// notice a new ticket within a few seconds.
func (p *Platform) Source() *wxtoken.Source { return p.src }

// Authorizer returns the Source of the authorizer_access_token of an account that has
// authorized the platform, always the same one. It needs as much memory as any other
// Source, for the lifetime of the Platform: do not call it with appIDs that strangers
// can make up.
//
// When the authorization has ended (61003, or a push that says so), Token returns an
// error and nothing more is sent, until an authorized push or Authorize, or for an hour
// (2 h after a push, 24 h after both): the owner has to authorize again. If the refresh
// token is lost or invalid (61023), it is first read again from where it is kept, then
// from the platform's list; only then is that an error.
func (p *Platform) Authorizer(appID string) *wxtoken.Source { return p.authorizer(appID).src }

func (p *Platform) authorizer(appID string) *authorizer {
	p.mu.Lock()
	defer p.mu.Unlock()
	a := p.authorizers[appID]
	if a == nil {
		a = &authorizer{p: p, appID: appID}
		a.src = wxtoken.New(a, p.store.cache, p.options...)
		p.authorizers[appID] = a
	}
	return a
}

// checkAppID returns an error if appID is invalid.
func checkAppID(name, appID string) error {
	return endpoint.CheckCredential(name, appID, "-")
}

var _ http.Handler = (*Platform)(nil)
