package wxtest

import (
	"fmt"
	"net/http"
	"time"

	"github.com/wxtoken/wxtoken/internal/msgcrypt"
)

// Paths of the third-party platform (第三方平台). ComponentPath and AuthorizerPath are
// token endpoints, the others are business calls; all but the first two take a
// component_access_token, as component_access_token or as access_token.
const (
	StartPushPath      = "/cgi-bin/component/api_start_push_ticket" // only counted; the test sends the pushes
	ComponentPath      = "/cgi-bin/component/api_component_token"   // each answer supersedes the previous token
	QueryAuthPath      = "/cgi-bin/component/api_query_auth"
	AuthorizerPath     = "/cgi-bin/component/api_authorizer_token" // each answer supersedes the previous token
	AuthorizerListPath = "/cgi-bin/component/api_get_authorizer_list"
)

// A ThirdParty sets how the platform behaves where its documentation is silent. Code
// that works with the zero value and with each field set works with either reading.
type ThirdParty struct {
	// api_authorizer_token returns a new refresh token each time, and accepts the
	// previous one for 5 minutes. Otherwise it returns the same one while the
	// authorization lasts.
	RotateRefreshTokens bool

	// api_authorizer_token returns an empty refresh token.
	EmptyRefreshTokens bool

	// Pushes carry the same ticket until it has expired.
	RepeatTickets bool

	// A ticket is accepted until the next one; otherwise for 12 hours.
	LatestTicketOnly bool

	// A new authorization leaves the current access token valid; otherwise it revokes
	// it.
	KeepOnReauthorize bool
}

// WithThirdParty sets how the third-party platform behaves.
func WithThirdParty(behaviour ThirdParty) Option {
	return func(p *Platform) { p.behaviour = behaviour }
}

// WithComponent adds a third-party platform, as AddComponent does.
func WithComponent(appID, secret, token, encodingAESKey string) Option {
	return func(p *Platform) { p.AddComponent(appID, secret, token, encodingAESKey) }
}

const (
	ticketLife = 12 * time.Hour
	codeLife   = 10 * time.Minute // the documentation gives each code its own expiry
)

// A thirdParty is the part of a Platform that serves components.
type thirdParty struct {
	behaviour  ThirdParty
	components map[string]*component
	pushes     *http.Client // nil: http.DefaultClient
}

// A component is one third-party platform.
type component struct {
	appID, secret string
	box           *msgcrypt.Box
	ledger        ledger
	tickets       []ticket // the newest last
	codes         map[string]*authCode
	authorizers   []*authorization // in the order of their first authorization
	byAppID       map[string]*authorization
}

// An authCode is an authorization code.
type authCode struct {
	authorizer *authorization
	expires    time.Time
	used       bool
}

// An authorization is what an account's owner granted to a component.
type authorization struct {
	appID    string
	ended    bool
	since    time.Time
	refresh  string    // "": the code has not been exchanged yet
	before   string    // the previous refresh token
	accepted time.Time // until when before is accepted
	ledger   ledger
}

// AddComponent adds a third-party platform, with the message token and the
// EncodingAESKey of 43 characters that its pushes are signed and encrypted with. It
// has no ticket yet. SetWhitelist and Deny treat it as an app. AddComponent panics
// if the appID already exists or the key is invalid.
func (p *Platform) AddComponent(appID, secret, token, encodingAESKey string) {
	box, err := msgcrypt.New(token, encodingAESKey)
	if err != nil {
		panic("wxtest: AddComponent: " + err.Error())
	}
	p.AddApp(appID, secret)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.components == nil {
		p.components = map[string]*component{}
	}
	p.components[appID] = &component{appID: appID, secret: secret, box: box, codes: map[string]*authCode{}, byAppID: map[string]*authorization{}}
}

// component returns the component with this appID, and panics if there is none; p.mu
// is held.
func (p *Platform) component(appID string) *component {
	c := p.components[appID]
	if c == nil {
		panic(fmt.Sprintf("wxtest: no component %q: add it with AddComponent or WithComponent", appID))
	}
	return c
}

// IssueTicket creates a new component_verify_ticket without pushing it.
func (p *Platform) IssueTicket(componentAppID string) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.issueTicket(p.component(componentAppID))
}

func (p *Platform) issueTicket(c *component) string {
	now := time.Now()
	if last := len(c.tickets) - 1; p.behaviour.RepeatTickets && last >= 0 && now.Before(c.tickets[last].expires) {
		return c.tickets[last].value
	}
	t := ticket{"ticket@@@" + randomString(86), now.Add(ticketLife)}
	c.tickets = append(c.tickets, t)
	return t.value
}

// IssueCode makes the owner of an account authorize the component, or authorize it
// again, and returns the code that the owner's browser brings back. Nothing is
// pushed. A new authorization replaces the refresh token when its code is exchanged.
func (p *Platform) IssueCode(componentAppID, authorizerAppID string) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	code, _ := p.authorize(p.component(componentAppID), authorizerAppID)
	return code
}

func (p *Platform) authorize(c *component, appID string) (code string, again bool) {
	now := time.Now()
	a := c.byAppID[appID]
	if again = a != nil && !a.ended; a == nil {
		a = &authorization{appID: appID}
		a.ledger = ledger{app: &app{}}
		c.authorizers, c.byAppID[appID] = append(c.authorizers, a), a
	}
	a.ended, a.since = false, now
	code = "queryauthcode@@@" + randomString(60)
	c.codes[code] = &authCode{authorizer: a, expires: now.Add(codeLife)}
	return code, again
}

// EndAuthorization makes the owner of an account end the authorization, without a
// push: the account's tokens are invalid from now on.
func (p *Platform) EndAuthorization(componentAppID, authorizerAppID string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.endAuthorization(p.component(componentAppID), authorizerAppID)
}

func (p *Platform) endAuthorization(c *component, appID string) {
	a := c.byAppID[appID]
	if a == nil {
		return
	}
	a.ended, a.refresh, a.before = true, "", ""
	p.revokeAll(&a.ledger)
}

// revokeAll revokes all tokens of l, those in their grace period included.
func (p *Platform) revokeAll(l *ledger) {
	if l.latest == nil {
		return
	}
	for _, t := range p.tokens {
		if t.ledger == l {
			t.revoked = true
		}
	}
}

// LatestComponent returns the last component_access_token, or "".
func (p *Platform) LatestComponent(componentAppID string) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.component(componentAppID).ledger.last()
}

// LatestAuthorizer returns the account's last authorizer_access_token, or "".
func (p *Platform) LatestAuthorizer(componentAppID, authorizerAppID string) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if a := p.component(componentAppID).byAppID[authorizerAppID]; a != nil {
		return a.ledger.last()
	}
	return ""
}

// RefreshToken returns the account's refresh token, or "".
func (p *Platform) RefreshToken(componentAppID, authorizerAppID string) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if a := p.component(componentAppID).byAppID[authorizerAppID]; a != nil {
		return a.refresh
	}
	return ""
}

// ReplaceRefreshToken replaces the account's refresh token without telling the
// component: the previous one is invalid (61023) from now on, and only
// api_get_authorizer_list has the new one.
func (p *Platform) ReplaceRefreshToken(componentAppID, authorizerAppID string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if a := p.component(componentAppID).byAppID[authorizerAppID]; a != nil && a.refresh != "" {
		a.refresh, a.before = newRefreshToken(), ""
	}
}

func newRefreshToken() string { return "refreshtoken@@@" + randomString(43) }
