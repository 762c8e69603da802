package wxtest

import (
	"net/http"
	"time"
)

// A ticket is a JS ticket.
type ticket struct {
	value   string
	expires time.Time
}

// A ticketKey identifies the owner of a ticket: an app, a corporation or one of its
// agents.
type ticketKey struct{ owner, agentSecret, kind string }

// WithTickets sets how long a ticket lives, and how long before its expiry a request
// gets a new one, while the old one stays valid. The platform documents neither: it
// says 7200 s each time, even for a ticket that it repeats. The default is the
// lifetime of tokens, and 0: a ticket is repeated until it has expired. With twice
// the lifetime, and one lifetime ahead, what it says is always true.
func WithTickets(life, ahead time.Duration) Option {
	return func(p *Platform) { p.ticketLife, p.ticketAhead = life, ahead }
}

// serveTicket serves WeChat's cgi-bin/ticket/getticket.
func (p *Platform) serveTicket(w http.ResponseWriter, r *http.Request, t *token) {
	kind := r.URL.Query().Get("type")
	if t.ledger.app == nil || kind != "jsapi" && kind != "wx_card" && kind != "2" {
		p.answerCode(w, r, 40097)
		return
	}
	p.answerTicket(w, r, ticketKey{owner: t.ledger.app.id, kind: kind}, nil)
}

// The documented limits of WeCom's tickets.
const (
	ticketsPerCorpHour  = 400
	ticketsPerAgentHour = 100
)

// serveCorpTicket serves WeCom's cgi-bin/get_jsapi_ticket, whose ticket is the same
// for all agents of a corporation, and cgi-bin/ticket/get, whose ticket is the
// agent's own.
func (p *Platform) serveCorpTicket(w http.ResponseWriter, r *http.Request, t *token) {
	l := t.ledger
	key := ticketKey{owner: l.corp.corpID, kind: "jsapi"}
	switch {
	case l.app != nil:
		p.answerCode(w, r, 40014)
		return
	case r.URL.Path != CorpTicketPath:
	case r.URL.Query().Get("type") == "agent_config":
		key.agentSecret, key.kind = l.corp.secret, "agent_config"
	default:
		p.answerCode(w, r, 40097)
		return
	}
	p.answerTicket(w, r, key, func(now time.Time) int {
		if code := l.tickets.takeHourly(ticketsPerAgentHour, now); code != 0 {
			return code
		}
		corp := p.corpTickets[l.corp.corpID]
		if corp == nil {
			corp = &quota{}
			p.corpTickets[l.corp.corpID] = corp
		}
		return corp.takeHourly(ticketsPerCorpHour, now)
	})
}

// answerTicket returns the same ticket until it expires, and says each time that its
// whole lifetime is left, as the platform does.
func (p *Platform) answerTicket(w http.ResponseWriter, r *http.Request, key ticketKey, spend func(time.Time) int) {
	p.mu.Lock()
	now, code := time.Now(), 0
	if spend != nil {
		code = spend(now)
	}
	last := p.tickets[key]
	if code == 0 && last.expires.Sub(now) <= p.ticketAhead {
		life := p.ticketLife
		if life == 0 {
			life = p.lifetime
		}
		last = ticket{randomString(86), now.Add(life)}
		p.tickets[key] = last
		p.ticketEnds[last.value] = last.expires
	}
	p.mu.Unlock()
	if code != 0 {
		p.answerCode(w, r, code)
		return
	}
	p.ok(w, r, map[string]any{
		"errcode": 0, "errmsg": "ok", "ticket": last.value, "expires_in": int64(p.lifetime / time.Second),
	})
}

// LatestTicket returns the app's last ticket of a type ("jsapi", "wx_card", "2"),
// or "".
func (p *Platform) LatestTicket(appID, kind string) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.tickets[ticketKey{owner: p.app(appID).id, kind: kind}].value
}

// LatestCorpTicket is LatestTicket for WeCom: "jsapi", which is the same for all
// secrets of the corporation, or "agent_config".
func (p *Platform) LatestCorpTicket(corpID, secret, kind string) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	key := ticketKey{owner: corpID, kind: kind}
	if kind == "agent_config" {
		key.agentSecret = secret
	}
	return p.tickets[key].value
}

// TicketHonoured reports whether a page signed with this ticket would work now. On
// the real platform only the page finds out: no API reports it.
func (p *Platform) TicketHonoured(ticket string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return time.Now().Before(p.ticketEnds[ticket])
}
