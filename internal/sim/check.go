package sim

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/wxtoken/wxtoken"
)

// A record is what the model reads of the shared record. It has its own decoder, so
// that it checks the format and not the library against itself.
type record struct {
	V         int             `json:"v"`
	Epoch     json.RawMessage `json:"epoch"`
	Seq       int64           `json:"seq"`
	Token     string          `json:"token"`
	IssuedAt  int64           `json:"issued_at"`
	ExpiresAt int64           `json:"expires_at"`
	Lease     string          `json:"lease"`
	Owed      int             `json:"owed"`
	Rejected  bool            `json:"rejected"`
	Cooldown  json.RawMessage `json:"cooldown"`
}

// decode returns nil for no record, an unreadable one and one that is too large.
func decode(b []byte) *record {
	var r record
	if len(b) > 1<<20 || b == nil || json.Unmarshal(b, &r) != nil {
		return nil
	}
	return &r
}

// token returns the record's token, or "".
func (r *record) token() string {
	if r == nil {
		return ""
	}
	return r.Token
}

// A watch is the state of the checks. Guarded by world.mu.
type watch struct {
	rec        *record             // in the store
	published  map[string]bool     // tokens that were in the record
	owner      map[string]*request // the last fetch of a token
	active     map[*request]bool
	storeFault time.Time // the last flush, fall-back, or end of a partition
	wentBack   bool      // and the record has not been correct since

	stale      string // why the record is silently stale now; "" if it is not
	staleSince time.Time
	ring       ring
}

// forget drops the requests of a process that died, except those that the
// platform may still answer.
func (h *watch) forget(p *process) {
	for q := range h.active {
		if q.p == p && !q.landed.IsZero() {
			delete(h.active, q)
		}
		q.disturbed = q.disturbed || q.p == p
	}
}

// called records that a fetch starts, which must be the only one.
func (w *world) called(ctx context.Context, p *process) *request {
	p.n.g.fetches++
	q := &request{p: p, ctx: ctx, lease: p.lease, called: time.Now(), number: p.n.g.fetches}
	for other := range w.watch.active {
		if other.returned.IsZero() && !w.explained(other) && !w.cfg.Grace.repeats() {
			w.violation("I4", fmt.Sprintf("node %d fetches while node %d does, and nothing was wrong", p.n.id, other.p.n.id))
		}
	}
	w.watch.active[q] = true
	w.report.Asked++
	w.trace(p.n, "fetch begins", nil, "")
	return q
}

// explained reports whether a fault allows a second fetch beside q.
func (w *world) explained(q *request) bool {
	return q.disturbed || q.p.dead || q.ctx.Err() != nil || !w.watch.storeFault.Before(q.called)
}

// A grant is the platform's successful answer.
type grant struct {
	token     string
	expiresIn int // seconds
}

// land lets the platform answer q.
func (w *world) land(q *request, busy bool) (grant, error) {
	now := time.Now()
	q.landed = now
	if q.p.dead {
		delete(w.watch.active, q)
	}
	if denial := w.platform.denies(now, !q.p.n.unlisted, q.p.secret); denial != nil || busy {
		if busy {
			denial = &wxtoken.APIError{Code: -1, Message: "system error"}
		}
		w.platform.denied++
		w.trace(q.p.n, fmt.Sprintf("platform answers %d", denial.Code), nil, "")
		return grant{}, denial
	}
	token, expiresIn := w.platform.issue(now, false)
	q.token = token
	q.p.fetched[token] = q.lease
	w.watch.owner[token] = q
	w.trace(q.p.n, "platform issues", nil, token)
	w.check()
	return grant{token, expiresIn}, nil
}

// answered records that q's process knows its outcome.
func (w *world) answered(q *request, err error) {
	q.returned = time.Now()
	if !q.landed.IsZero() && q.token == "" {
		delete(w.watch.active, q) // denied: there is nothing to settle
	}
	if err != nil {
		w.trace(q.p.n, "fetch fails: "+kindOf(err), nil, "")
	} else {
		w.trace(q.p.n, "fetch returns", nil, q.token)
	}
}

// written checks a change of the record that p made.
func (w *world) written(p *process, before, after []byte) {
	old, rec := decode(before), decode(after)
	if w.storeOf(p.n) == &w.store {
		w.watch.rec = rec
	}
	if rec == nil {
		w.violation("record", fmt.Sprintf("node %d stored what is not a record", p.n.id))
		return
	}
	if bytes.Contains(after, []byte(secretMark)) {
		w.violation("I5", "the secret is in the record")
	}
	if old == nil {
		old = &record{}
	}
	w.trace(p.n, "writes", rec, rec.Token)
	if rec.Token != "" && rec.Token != old.Token {
		w.tokenWritten(p, old, rec)
	}
	if rec.Lease != "" && rec.Lease != old.Lease {
		p.lease = rec.Lease
		w.report.Leases++
		if old.Lease != "" {
			w.report.Takeovers++
		}
	}
	for q := range w.watch.active {
		if q.p == p && !q.returned.IsZero() && !q.landed.IsZero() {
			delete(w.watch.active, q)
		}
	}
	w.check()
}

// tokenWritten checks I1. A token that the record held before may be put back
// after the store lost it, with owed raised; any other must come from its own
// fetcher, under the lease of that fetch or, if the store lost that and no process
// fetches, with a fetch owed. A token that the platform repeats may come from any
// process.
func (w *world) tokenWritten(p *process, old, rec *record) {
	h := &w.watch
	if h.published[rec.Token] {
		w.report.WrittenBack++
		if latest, _ := w.platform.latest(); rec.Owed == 0 && rec.Token != latest && !w.cfg.Grace.repeats() {
			w.violation("I1", fmt.Sprintf("node %d put back an old token, and owed is 0", p.n.id))
		}
		return
	}
	h.published[rec.Token] = true
	w.failOver()
	lease, fetched := p.fetched[rec.Token]
	switch {
	case !fetched:
		w.violation("I1", fmt.Sprintf("node %d wrote a token that it did not fetch", p.n.id))
	case w.cfg.Grace.repeats():
	case old.Lease == "" && rec.Owed > 0 && !h.storeFault.Before(h.owner[rec.Token].called):
	case old.Lease == "" || old.Lease != lease:
		w.violation("I1", fmt.Sprintf("node %d wrote its token without the lease", p.n.id))
	case bytes.Equal(old.Epoch, rec.Epoch) && rec.Seq <= old.Seq:
		w.violation("seq", fmt.Sprintf("node %d wrote a new token with seq %d after %d", p.n.id, rec.Seq, old.Seq))
	}
}

// settleTime is how long after its answer a request counts as in flight while
// its process has written nothing: cache operations can be paused, or fail.
const settleTime = 5 * time.Minute

// check checks I2: it records when the record starts to hold a superseded token
// without saying so, and when that ends.
func (w *world) check() {
	h, now := &w.watch, time.Now()
	if w.store.branch != nil {
		return
	}
	why := w.silentlyStale(now)
	if (why == "") == (h.stale == "") {
		return
	}
	if h.stale != "" {
		w.report.StaleFor[h.stale] += now.Sub(h.staleSince)
		h.stale = ""
		return
	}
	h.stale, h.staleSince = why, now
	w.report.StaleTimes[why]++
	w.trace(nil, "silently stale: "+why, h.rec, "")
	if why == unexcused {
		latest, _ := w.platform.latest()
		w.violation("I2", fmt.Sprintf("the record holds %d, the latest is %d, and nothing says so", number(h.rec.Token), number(latest)))
	}
}

// Why a record may hold a superseded token while nothing says so.
const (
	excuseForeign  = "foreign fetch"
	excuseWentBack = "store went back"
	excuseLate     = "landed after the verifying fetch"
	unexcused      = "unexcused"
)

func (w *world) silentlyStale(now time.Time) string {
	h := &w.watch
	if h.rec != nil && w.store.get(now) == nil {
		h.rec = nil // expired, or flushed
	}
	latest, foreign := w.platform.latest()
	if h.rec == nil || h.rec.Token == "" {
		return ""
	}
	if h.rec.Token == latest {
		h.wentBack = false
		return ""
	}
	if h.rec.Lease != "" || h.rec.Owed > 0 || h.rec.Rejected || !now.Before(time.UnixMilli(h.rec.ExpiresAt)) {
		return ""
	}
	if w.cfg.Grace.repeats() && w.platform.accepts(h.rec.Token, now) {
		return "" // valid until its own expiry, whatever was issued since
	}
	for q := range h.active {
		if q.landed.IsZero() || q.returned.IsZero() {
			return ""
		}
		if now.Sub(q.returned) < settleTime || q.p.n.cut() || q.p.n.pausedUntil.After(now) {
			return ""
		}
	}
	last, mine := h.owner[latest], h.owner[h.rec.Token]
	switch {
	case foreign || w.platform.tokens[max(number(h.rec.Token), 0)].foreign:
		return excuseForeign
	case h.wentBack:
		return excuseWentBack
	case last != nil && mine != nil && last.called.Before(mine.called):
		return excuseLate
	}
	return unexcused
}
