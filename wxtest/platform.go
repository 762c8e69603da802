package wxtest

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

// Paths of the token endpoints. Every other path is a business call.
const (
	TokenPath  = "/cgi-bin/token"        // each answer supersedes the previous token
	StablePath = "/cgi-bin/stable_token" // asked again, it returns the same token
	CorpPath   = "/cgi-bin/gettoken"     // WeCom: asked again, it returns the same token
	QQPath     = "/api/getToken"         // QQ mini programs: like TokenPath
)

// Paths of the ticket endpoints, which are business calls.
const (
	TicketPath     = "/cgi-bin/ticket/getticket" // WeChat: jsapi, wx_card and 2
	CorpJSAPIPath  = "/cgi-bin/get_jsapi_ticket" // WeCom: the corporation's
	CorpTicketPath = "/cgi-bin/ticket/get"       // WeCom: an agent's, type=agent_config
)

// A Platform is the fake without a network: an http.Handler, and a client (Client,
// Transport) that calls it in process. [NewServer] puts it behind a socket. It is safe
// for concurrent use.
//
// Methods that name an app panic if there is no such app: that is a mistake in the
// test.
type Platform struct {
	lifetime  time.Duration
	grace     time.Duration
	strict    bool
	perDay    int
	perMinute int
	anyPath   bool

	ticketLife, ticketAhead time.Duration // life 0: lifetime

	mu    sync.Mutex // guards what follows; never held while waiting
	rng   *rand.Rand
	apps  map[string]*app
	corps map[corpKey]*ledger
	thirdParty
	tokens   map[string]*token // every token ever issued
	tickets  map[ticketKey]ticket
	media    map[string]media
	business map[string]businessHandler // by path
	faults   []*injected
	late     map[*time.Timer]struct{}
	stats    Stats

	ticketEnds  map[string]time.Time // of every ticket ever issued
	corpTickets map[string]*quota    // by corpID
}

// An app is one account with its two isolated kinds of token.
type app struct {
	id        string
	secret    string
	whitelist []string       // empty: every IP may ask
	denials   map[string]int // errcode by IP; "" is every IP
	plain     ledger         // cgi-bin/token
	stable    ledger         // cgi-bin/stable_token
	forced    quota          // force_refresh
}

type corpKey struct{ corpID, secret string }

// An Option configures a [Platform] or [Server] at its creation.
type Option func(*Platform)

// WithApp adds an app, as AddApp does.
func WithApp(appID, secret string) Option {
	return func(p *Platform) { p.AddApp(appID, secret) }
}

// WithLifetime sets how long a token lives; the default is 7,200 s, as on the
// platform. expires_in is in whole seconds, so a lifetime under a second panics.
func WithLifetime(d time.Duration) Option {
	if d < time.Second {
		panic("wxtest: WithLifetime under a second: expires_in would be 0")
	}
	return func(p *Platform) { p.lifetime = d }
}

// WithGrace sets how long a superseded token stays valid; the default is 5 minutes,
// as on the platform, and 0 makes it invalid at once. A token never outlives its own
// expiry. It is also the time before expiry in which stable_token returns a new
// token, there at most half a lifetime.
func WithGrace(d time.Duration) Option {
	return func(p *Platform) { p.grace = d }
}

// WithStrictGrace makes the platform honour only the latest two tokens of
// cgi-bin/token, even during the grace period. By default every superseded token
// stays valid for its grace period. The platform documents neither; code that works
// with both is safe. Tokens of stable_token are always treated strictly: two forced
// refreshes are documented to invalidate a leaked one.
func WithStrictGrace() Option {
	return func(p *Platform) { p.strict = true }
}

// WithQuota limits how many tokens cgi-bin/token issues for an app: perDay counts
// from midnight in Beijing, and perMinute by the minute of the clock; beyond them it
// answers 45009 and 45011. 0 means no limit. The default is 2,000 a day (the platform
// allows test accounts 200) and no limit per minute, since none is documented. The
// limits of stable_token, 500,000 and 10,000, are fixed.
func WithQuota(perDay, perMinute int) Option {
	return func(p *Platform) { p.perDay, p.perMinute = perDay, perMinute }
}

// WithSeed seeds the random choices of [Fault.Rate]; the default is a fixed seed, so
// that a sequence of requests meets the same faults in every run.
func WithSeed(seed uint64) Option {
	return func(p *Platform) { p.rng = rand.New(rand.NewPCG(seed, seed)) }
}

// WithAnyPath makes the platform answer {"errcode":0,"errmsg":"ok"} at every unknown
// path, in place of 40066, once the access_token is checked.
func WithAnyPath() Option {
	return func(p *Platform) { p.anyPath = true }
}

// NewPlatform returns a platform without apps, faults or network. In a
// testing/synctest bubble, create it inside the bubble.
func NewPlatform(opts ...Option) *Platform {
	p := &Platform{
		lifetime: 7200 * time.Second,
		grace:    5 * time.Minute,
		perDay:   2000,
		rng:      rand.New(rand.NewPCG(1, 1)),
		apps:     map[string]*app{},
		corps:    map[corpKey]*ledger{},
		tokens:   map[string]*token{},
		tickets:  map[ticketKey]ticket{},
		media:    map[string]media{},
		late:     map[*time.Timer]struct{}{},
		stats:    Stats{Results: map[string]Tally{}, Faults: map[string]int{}},

		ticketEnds:  map[string]time.Time{},
		corpTickets: map[string]*quota{},
	}
	p.business = map[string]businessHandler{
		"/cgi-bin/get_api_domain_ip":   p.serveDomainIP,
		"/cgi-bin/message/custom/send": p.serveSend,
		"/cgi-bin/media/upload":        p.serveUpload,
		"/cgi-bin/media/get":           p.serveMedia,
		TicketPath:                     p.serveTicket,
		CorpJSAPIPath:                  p.serveCorpTicket,
		CorpTicketPath:                 p.serveCorpTicket,
	}
	for _, o := range opts {
		o(p)
	}
	return p
}

// AddApp adds an official account, mini program or QQ mini program. It has no token
// yet and no IP whitelist. AddApp panics if the appID already exists.
func (p *Platform) AddApp(appID, secret string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.apps[appID] != nil {
		panic("wxtest: AddApp: app " + appID + " already exists; SetSecret changes its secret")
	}
	a := &app{id: appID, secret: secret, denials: map[string]int{}}
	a.plain = ledger{app: a}
	a.stable = ledger{app: a, strict: true}
	p.apps[appID] = a
}

// AddCorp adds a WeCom application: a corp has one corpID and one secret for each
// application, each with its own token. AddCorp panics if the pair already exists.
func (p *Platform) AddCorp(corpID, secret string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	k := corpKey{corpID, secret}
	if p.corps[k] != nil {
		panic("wxtest: AddCorp: corp " + corpID + " already has this secret")
	}
	p.corps[k] = &ledger{corp: k}
}

// SetSecret replaces the app's secret at once. Tokens stay valid.
func (p *Platform) SetSecret(appID, secret string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.app(appID).secret = secret
}

// SetWhitelist lets only these IPs ask for the app's tokens; others get 40164.
// Without ips, every IP may ask. It takes effect at once, whereas the platform takes
// about 5 minutes. Requests to a [Server] on loopback come from 127.0.0.1, as do those
// through Transport; those through TransportFrom come from the IP given there.
func (p *Platform) SetWhitelist(appID string, ips ...string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.app(appID).whitelist = slices.Clone(ips)
}

// Deny makes the token endpoints answer code to otherwise valid requests for the
// app, from the given IPs or, without ips, from everywhere: 40243 for a frozen
// secret, 50004 or 50007 for an account, 89501, 89503, 89506 or 89507 for an IP that
// an administrator has yet to confirm or has denied. It is checked after the
// whitelist and before the secret. Code 0 lifts it.
func (p *Platform) Deny(appID string, code int, ips ...string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	a := p.app(appID)
	if len(ips) == 0 {
		ips = []string{""}
	}
	for _, ip := range ips {
		a.denials[ip] = code
	}
}

// app returns the app with this appID, and panics if there is none; p.mu is held.
func (p *Platform) app(appID string) *app {
	a := p.apps[appID]
	if a == nil {
		panic(fmt.Sprintf("wxtest: no app %q: add it with AddApp or WithApp", appID))
	}
	return a
}

// Stats counts what the platform has seen.
type Stats struct {
	Results map[string]Tally // requests by path
	Faults  map[string]int   // requests hit by faults, by Fault.String
}

// A Tally counts requests by their errcode, 0 for success, whether or not the answer
// reached the client.
type Tally map[int]int

// Spoiled is the key in a [Tally] for requests that had no effect because of a fault;
// it is not an errcode.
const Spoiled = 1

// Total is the number of all requests.
func (t Tally) Total() (n int) {
	for _, v := range t {
		n += v
	}
	return n
}

// Stats returns a copy of the counters. A request is counted before it is
// answered.
func (p *Platform) Stats() Stats {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := Stats{Results: map[string]Tally{}, Faults: maps.Clone(p.stats.Faults)}
	for path, t := range p.stats.Results {
		s.Results[path] = maps.Clone(t)
	}
	return s
}

// Fetches adds up the requests to the token endpoints.
func (s Stats) Fetches() Tally { return s.sum(isTokenPath) }

// Calls adds up the business calls.
func (s Stats) Calls() Tally {
	return s.sum(func(path string) bool { return !isTokenPath(path) })
}

func (s Stats) sum(want func(path string) bool) Tally {
	sum := Tally{}
	for path, t := range s.Results {
		if want(path) {
			for code, n := range t {
				sum[code] += n
			}
		}
	}
	return sum
}

func isTokenPath(path string) bool {
	return path == TokenPath || path == StablePath || path == CorpPath || path == QQPath ||
		path == ComponentPath || path == AuthorizerPath
}

func (p *Platform) count(path string, code int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stats.Results[path] == nil {
		p.stats.Results[path] = Tally{}
	}
	p.stats.Results[path][code]++
}
