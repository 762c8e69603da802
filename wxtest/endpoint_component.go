package wxtest

import (
	"cmp"
	"encoding/json"
	"net/http"
	"slices"
	"time"
)

// A componentCall holds the parameters of a request of a third-party platform.
type componentCall struct {
	ComponentAppID string `json:"component_appid"`
	Secret         string `json:"component_appsecret"`
	StartSecret    string `json:"component_secret"` // the name in api_start_push_ticket
	Ticket         string `json:"component_verify_ticket"`
	Code           string `json:"authorization_code"`
	AuthorizerID   string `json:"authorizer_appid"`
	Refresh        string `json:"authorizer_refresh_token"`
	Offset         int    `json:"offset"`
	Count          int    `json:"count"`
}

// serveComponent serves the paths of the third-party platform: JSON by POST.
func (p *Platform) serveComponent(w http.ResponseWriter, r *http.Request) {
	var call componentCall
	switch {
	case r.Method != http.MethodPost:
		p.answerCode(w, r, 43002)
		return
	case json.NewDecoder(http.MaxBytesReader(w, r.Body, 64<<10)).Decode(&call) != nil:
		p.answerCode(w, r, 47001)
		return
	}
	p.mu.Lock()
	answer, code := p.answerComponent(r, call, time.Now())
	p.mu.Unlock()
	if code != 0 {
		p.answerCode(w, r, code)
		return
	}
	p.ok(w, r, answer)
}

func (p *Platform) answerComponent(r *http.Request, call componentCall, now time.Time) (answer map[string]any, code int) {
	c := p.components[call.ComponentAppID]
	switch {
	case call.ComponentAppID == "":
		return nil, 41002
	case c == nil:
		return nil, 61011
	}
	switch r.URL.Path {
	case StartPushPath:
		if code := p.admitComponent(c, call.StartSecret, clientIP(r)); code != 0 {
			return nil, code
		}
		return map[string]any{"errcode": 0, "errmsg": "ok"}, 0
	case ComponentPath:
		return p.componentToken(c, call, clientIP(r), now)
	}
	q := r.URL.Query()
	t, code := p.verdict(cmp.Or(q.Get("component_access_token"), q.Get("access_token")))
	if code != 0 {
		return nil, code
	}
	if t.ledger != &c.ledger {
		return nil, 40001
	}
	switch r.URL.Path {
	case QueryAuthPath:
		return p.queryAuth(c, call.Code, now)
	case AuthorizerPath:
		return p.authorizerToken(c, call, now)
	}
	return c.list(call.Offset, call.Count)
}

// admitComponent checks the IP and secret of a request without a token.
func (p *Platform) admitComponent(c *component, secret, ip string) int {
	a := p.apps[c.appID]
	switch {
	case len(a.whitelist) > 0 && !slices.Contains(a.whitelist, ip):
		return 61004
	case a.denials[ip] != 0:
		return a.denials[ip]
	case a.denials[""] != 0:
		return a.denials[""]
	case secret == "":
		return 41004
	case secret != a.secret:
		return 40125
	}
	return 0
}

// componentToken serves api_component_token.
func (p *Platform) componentToken(c *component, call componentCall, ip string, now time.Time) (map[string]any, int) {
	if code := p.admitComponent(c, call.Secret, ip); code != 0 {
		return nil, code
	}
	i := slices.IndexFunc(c.tickets, func(t ticket) bool { return t.value == call.Ticket })
	switch {
	case call.Ticket == "":
		return nil, 41018
	case i < 0, p.behaviour.LatestTicketOnly && i < len(c.tickets)-1:
		return nil, 61006
	case !now.Before(c.tickets[i].expires):
		return nil, 61005
	}
	t := p.issue(&c.ledger, now)
	return map[string]any{"component_access_token": t.value, "expires_in": int64(p.lifetime / time.Second)}, 0
}

// queryAuth serves api_query_auth: each code can be used once.
func (p *Platform) queryAuth(c *component, code string, now time.Time) (map[string]any, int) {
	auth := c.codes[code]
	switch {
	case auth == nil || auth.used:
		return nil, 61009
	case !now.Before(auth.expires):
		return nil, 61010
	}
	auth.used = true
	a := auth.authorizer
	if a.ended {
		return nil, 61003
	}
	a.replaceRefresh(p, now)
	if !p.behaviour.KeepOnReauthorize {
		p.revokeAll(&a.ledger)
	}
	t := p.issue(&a.ledger, now)
	return map[string]any{"authorization_info": map[string]any{
		"authorizer_appid": a.appID, "authorizer_access_token": t.value, "expires_in": int64(p.lifetime / time.Second),
		"authorizer_refresh_token": a.refresh,
		"func_info":                []any{map[string]any{"funcscope_category": map[string]int{"id": 1}}},
	}}, 0
}

// replaceRefresh issues a new refresh token; the previous one is accepted for a
// while.
func (a *authorization) replaceRefresh(p *Platform, now time.Time) {
	a.before, a.accepted = a.refresh, now.Add(p.grace)
	a.refresh = newRefreshToken()
}

// authorizerToken serves api_authorizer_token.
func (p *Platform) authorizerToken(c *component, call componentCall, now time.Time) (map[string]any, int) {
	a := c.byAppID[call.AuthorizerID]
	switch {
	case call.AuthorizerID == "":
		return nil, 41002
	case a == nil || a.ended:
		return nil, 61003
	case call.Refresh == "":
		return nil, 61023
	case call.Refresh != a.refresh && (call.Refresh != a.before || !now.Before(a.accepted)):
		return nil, 61023
	}
	t := p.issue(&a.ledger, now)
	if p.behaviour.RotateRefreshTokens {
		a.replaceRefresh(p, now)
	}
	refresh := a.refresh
	if p.behaviour.EmptyRefreshTokens {
		refresh = ""
	}
	return map[string]any{
		"authorizer_access_token": t.value, "expires_in": int64(p.lifetime / time.Second), "authorizer_refresh_token": refresh,
	}, 0
}

// list serves api_get_authorizer_list. An account whose code was never exchanged has
// an empty refresh token there.
func (c *component) list(offset, count int) (map[string]any, int) {
	if offset < 0 || count < 1 || count > 500 {
		return nil, 40097
	}
	var all []map[string]any
	for _, a := range c.authorizers {
		if !a.ended {
			all = append(all, map[string]any{"authorizer_appid": a.appID, "refresh_token": a.refresh, "auth_time": a.since.Unix()})
		}
	}
	from := min(offset, len(all))
	page := append([]map[string]any{}, all[from:min(from+count, len(all))]...)
	return map[string]any{"total_count": len(all), "list": page}, 0
}
