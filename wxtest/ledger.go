package wxtest

import (
	"crypto/rand"
	"encoding/base64"
	"math/big"
	"time"
)

// A token is one that was issued, valid or not.
type token struct {
	value      string
	ledger     *ledger
	seq        int
	expires    time.Time
	superseded time.Time // zero: it is the latest
	revoked    bool
}

// A ledger is the sequence of tokens of one credential. Platform.mu guards it.
type ledger struct {
	app     *app    // nil for WeCom
	corp    corpKey // for WeCom
	strict  bool    // even if the platform is not
	latest  *token
	spent   quota
	tickets quota // for WeCom: of the agent
}

// issue issues a new token for l, which supersedes the previous one.
func (p *Platform) issue(l *ledger, now time.Time) *token {
	t := &token{value: randomToken(), ledger: l, expires: now.Add(p.lifetime)}
	if l.latest != nil {
		l.latest.superseded = now
		t.seq = l.latest.seq + 1
	}
	l.latest = t
	p.tokens[t.value] = t
	return t
}

// repeat returns the latest token of l again, or a new one if it is invalid or
// expires within window.
func (p *Platform) repeat(l *ledger, window time.Duration, now time.Time) *token {
	if t := l.latest; t != nil && !t.revoked && t.expires.Sub(now) > window {
		return t
	}
	return p.issue(l, now)
}

// verdict returns the errcode that a business call with value gets; p.mu is held.
//
// Where the platform's documentation is silent: what does not look like a token is
// 40014; what looks like one but was never issued, was revoked or is no longer
// honoured is 40001; what is past its own expiry is 42001.
func (p *Platform) verdict(value string) (*token, int) {
	t := p.tokens[value]
	now := time.Now()
	switch {
	case value == "":
		return nil, 41001
	case t == nil && !looksReal(value):
		return nil, 40014
	case t == nil || t.revoked:
		return nil, 40001
	case !now.Before(t.expires):
		return nil, 42001
	case t.superseded.IsZero():
		return t, 0
	case now.Sub(t.superseded) >= p.grace:
		return nil, 40001
	case (p.strict || t.ledger.strict) && t.seq < t.ledger.latest.seq-1:
		return nil, 40001
	}
	return t, 0
}

// Latest returns the token last issued for the app by cgi-bin/token or Issue, or "".
// It may be invalid: see Honoured.
func (p *Platform) Latest(appID string) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.app(appID).plain.last()
}

// LatestStable is Latest for stable_token.
func (p *Platform) LatestStable(appID string) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.app(appID).stable.last()
}

// LatestCorp is Latest for WeCom. It returns "" for a corp that was not added.
func (p *Platform) LatestCorp(corpID, secret string) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.corps[corpKey{corpID, secret}].last()
}

func (l *ledger) last() string {
	if l == nil || l.latest == nil {
		return ""
	}
	return l.latest.value
}

// Honoured reports whether a business call with this token would now succeed,
// whatever its kind. It is not counted as a call.
func (p *Platform) Honoured(token string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, code := p.verdict(token)
	return code == 0
}

// Issue issues a token of cgi-bin/token as another system that uses the same app
// would: it supersedes the latest one, and uses up quota but is never denied.
func (p *Platform) Issue(appID string) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	a := p.app(appID)
	now := time.Now()
	a.plain.spent.take(0, 0, now)
	return p.issue(&a.plain, now).value
}

// Revoke revokes a token of any kind: business calls with it get 40001 from now on.
// It ignores unknown tokens.
func (p *Platform) Revoke(token string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if t := p.tokens[token]; t != nil {
		t.revoked = true
	}
}

// Expire makes a token expire early: business calls with it get 42001 from now on. It
// ignores unknown tokens.
func (p *Platform) Expire(token string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if t := p.tokens[token]; t != nil {
		t.expires = time.Now()
	}
}

// A quota counts by the day in Beijing, by the hour and by the minute.
type quota struct {
	day, hour, minute       int64
	inDay, inHour, inMinute int
	lastTaken               time.Time
}

// take uses up one request, or returns the errcode of the limit that is reached; 0
// means no limit.
func (q *quota) take(perDay, perMinute int, now time.Time) (code int) {
	if d := (now.Unix() + 8*3600) / 86400; d != q.day {
		q.day, q.inDay = d, 0
	}
	if m := now.Unix() / 60; m != q.minute {
		q.minute, q.inMinute = m, 0
	}
	switch {
	case perDay > 0 && q.inDay >= perDay:
		return 45009
	case perMinute > 0 && q.inMinute >= perMinute:
		return 45011
	}
	q.inDay++
	q.inMinute++
	q.lastTaken = now
	return 0
}

// takeHourly is take for an hourly limit, beyond which WeCom answers 45009.
func (q *quota) takeHourly(perHour int, now time.Time) (code int) {
	if h := now.Unix() / 3600; h != q.hour {
		q.hour, q.inHour = h, 0
	}
	if q.inHour >= perHour {
		return 45009
	}
	q.inHour++
	return 0
}

// Real tokens are 136 to 157 characters of [A-Za-z0-9_-].
const minToken, maxToken = 136, 157

func randomToken() string {
	n, err := rand.Int(rand.Reader, big.NewInt(maxToken-minToken+1))
	if err != nil {
		panic(err)
	}
	return randomString(minToken + int(n.Int64()))
}

// randomString returns n characters of the URL-safe base64 alphabet.
func randomString(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails
	return base64.RawURLEncoding.EncodeToString(b)[:n]
}

func looksReal(value string) bool {
	if len(value) < minToken || len(value) > 512 {
		return false
	}
	for _, c := range []byte(value) {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '_', c == '-':
		default:
			return false
		}
	}
	return true
}
