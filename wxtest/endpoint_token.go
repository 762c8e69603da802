package wxtest

import (
	"encoding/json"
	"net/http"
	"slices"
	"time"
)

// A credential holds the parameters of a token request.
type credential struct {
	GrantType    string `json:"grant_type"`
	AppID        string `json:"appid"`
	Secret       string `json:"secret"`
	ForceRefresh bool   `json:"force_refresh"`
}

// admit checks a token request in the platform's order: appid, then IP, then secret.
// p.mu is held.
func (p *Platform) admit(c credential, ip string) (*app, int) {
	a := p.apps[c.AppID]
	switch {
	case c.AppID == "":
		return nil, 41002
	case c.GrantType != "client_credential":
		return nil, 40002
	case a == nil:
		return nil, 40013
	case len(a.whitelist) > 0 && !slices.Contains(a.whitelist, ip):
		return nil, 40164
	case a.denials[ip] != 0:
		return nil, a.denials[ip]
	case a.denials[""] != 0:
		return nil, a.denials[""]
	case c.Secret == "":
		return nil, 41004
	case c.Secret != a.secret:
		return nil, 40125
	}
	return a, 0
}

// answerToken is the body of a successful answer.
type answerToken struct {
	Errcode     *int   `json:"errcode,omitempty"` // WeCom and QQ send it, the others do not
	Errmsg      string `json:"errmsg,omitempty"`
	AccessToken string `json:"access_token"`
	ExpiresIn   int64  `json:"expires_in"`
}

// serveToken serves cgi-bin/token, and QQ's api/getToken with the few codes that are
// documented there: each answer supersedes the previous token.
func (p *Platform) serveToken(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	c := credential{GrantType: q.Get("grant_type"), AppID: q.Get("appid"), Secret: q.Get("secret")}
	p.answerToken(w, r, func(now time.Time) (*token, int) {
		a, code := p.admit(c, clientIP(r))
		if code == 0 {
			code = a.plain.spent.take(p.perDay, p.perMinute, now)
		}
		if r.URL.Path == QQPath {
			switch code {
			case 41002:
				code = 40013
			case 41004, 40125:
				code = 40001
			}
		}
		if code != 0 {
			return nil, code
		}
		return p.issue(&a.plain, now), 0
	})
}

// The documented limits of stable_token.
const (
	stablePerDay    = 500_000
	stablePerMinute = 10_000
	forcedPerDay    = 20
	forcedApart     = 30 * time.Second
)

// serveStable serves cgi-bin/stable_token: POST and JSON only, and the same token
// with its remaining lifetime until its last minutes, or until it is forced.
func (p *Platform) serveStable(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost {
		p.answerCode(w, r, 43002)
		return
	}
	var c credential
	if json.NewDecoder(http.MaxBytesReader(w, r.Body, 64<<10)).Decode(&c) != nil {
		c = credential{} // treated as a request without an appid
	}
	p.answerToken(w, r, func(now time.Time) (*token, int) {
		a, code := p.admit(c, clientIP(r))
		if code == 0 {
			code = a.stable.spent.take(stablePerDay, stablePerMinute, now)
		}
		if code != 0 {
			return nil, code
		}
		// Forced refreshes within 30 s of each other do not refresh.
		if c.ForceRefresh && now.Sub(a.forced.lastTaken) >= forcedApart {
			if code := a.forced.take(forcedPerDay, 0, now); code != 0 {
				return nil, code
			}
			return p.issue(&a.stable, now), 0
		}
		return p.repeat(&a.stable, min(p.grace, p.lifetime/2), now), 0
	})
}

// serveCorp serves WeCom's cgi-bin/gettoken: the same token until it expires or is
// revoked.
func (p *Platform) serveCorp(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	corpID, secret := q.Get("corpid"), q.Get("corpsecret")
	p.answerToken(w, r, func(now time.Time) (*token, int) {
		switch l := p.corps[corpKey{corpID, secret}]; {
		case corpID == "":
			return nil, 41002
		case secret == "":
			return nil, 41004
		case l != nil:
			return p.repeat(l, 0, now), 0
		}
		for k := range p.corps {
			if k.corpID == corpID {
				return nil, 40001
			}
		}
		return nil, 40013
	})
}

// answerToken runs decide under p.mu and writes its result.
func (p *Platform) answerToken(w http.ResponseWriter, r *http.Request, decide func(time.Time) (*token, int)) {
	p.mu.Lock()
	now := time.Now()
	t, code := decide(now)
	var answer answerToken
	if code == 0 {
		// Rounded down: a token never lives shorter than expires_in says.
		answer = answerToken{AccessToken: t.value, ExpiresIn: int64(t.expires.Sub(now) / time.Second)}
	}
	p.mu.Unlock()
	if code != 0 {
		p.answerCode(w, r, code)
		return
	}
	if r.URL.Path == CorpPath || r.URL.Path == QQPath {
		answer.Errcode, answer.Errmsg = new(int), "ok"
	}
	p.ok(w, r, answer)
}
