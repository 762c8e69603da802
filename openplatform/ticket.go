package openplatform

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/wxtoken/wxtoken/internal/endpoint"
	"github.com/wxtoken/wxtoken/internal/guard"
)

const (
	ticketLife = 12 * time.Hour      // of a component_verify_ticket, by the platform's documentation
	pushNoted  = 30 * 24 * time.Hour // how long the time of the last push is kept
	startEvery = 10 * time.Minute    // how often api_start_push_ticket may be sent
	maxTicket  = 4 << 10             // bytes
)

// A ticket is a component_verify_ticket. Pushes are ordered by the platform's clock
// alone, so a replayed one changes nothing. A ticket that was set by hand has no time
// of its own: it takes the place of the last push, whatever the clock of the process
// that set it, and the next push replaces it.
type ticket struct {
	Value   string `json:"ticket"`
	Created int64  `json:"created,omitempty"` // unix seconds, by the platform's clock, of the last push; 0: none is known
	Set     bool   `json:"set,omitempty"`     // by hand, after that push
}

// pushed returns when the platform created the last push. No push that far in the
// future is accepted, so such a time is another clock's, and counts for nothing.
func (t ticket) pushed(now time.Time) int64 {
	if time.Unix(t.Created, 0).After(now.Add(pushWithin)) {
		return 0
	}
	return t.Created
}

// replaces reports whether t, which has just been pushed or read, replaces have.
// Pushes of the same second replace each other.
func (t ticket) replaces(have ticket, now time.Time) bool {
	switch last := have.pushed(now); {
	case t.Value == "" || t == have:
		return false
	case t.Set || t.Created > last:
		return true
	default:
		return t.Created == last && !have.Set
	}
}

// expires returns when t, read at now, has expired at the latest.
func (t ticket) expires(now time.Time) time.Time {
	if pushed := time.Unix(t.Created, 0); !t.Set && pushed.Before(now) {
		return pushed.Add(ticketLife)
	}
	return now.Add(ticketLife)
}

// A moment is a time at which something happened, in unix seconds.
type moment struct {
	At int64 `json:"at"`
}

// tickets is what this process knows about the tickets. The cache is authoritative;
// the copy here restores what the cache loses.
type tickets struct {
	mu      sync.Mutex
	newest  ticket
	until   time.Time // when newest has expired
	denied  ticket    // the one that the platform denied
	retry   time.Time // when denied may be tried again anyway
	pushed  time.Time // the last push that this process knows of
	started time.Time // when this process sent api_start_push_ticket
}

// SetTicket stores a component_verify_ticket that did not arrive through ServeHTTP.
// It replaces any other, until the next push. An error means that the other processes
// have not received it: set it again.
func (p *Platform) SetTicket(ctx context.Context, value string) error {
	if err := checkTicket(value); err != nil {
		return err
	}
	return p.keepTicket(ctx, value, 0)
}

func checkTicket(value string) error {
	if value == "" {
		return errors.New("wxtoken: the component_verify_ticket is empty")
	}
	if len(value) > maxTicket || !endpoint.Printable(value) {
		return fmt.Errorf("wxtoken: the component_verify_ticket is over %d bytes, or holds a space, a control byte or a byte that is not ASCII", maxTicket)
	}
	return nil
}

// keepTicket stores a ticket that was pushed, with its CreateTime in unix seconds; 0
// means that it was set by hand.
func (p *Platform) keepTicket(ctx context.Context, value string, created int64) error {
	now := time.Now()
	t := ticket{Value: value, Created: created, Set: created == 0}
	ts := &p.component.tickets
	ts.mu.Lock()
	if t.Set {
		t.Created = ts.newest.Created
	}
	newer := t.Set || t.replaces(ts.newest, now)
	if newer {
		ts.newest, ts.until, ts.denied, ts.pushed = t, now.Add(ticketLife), ticket{}, now
	}
	ts.mu.Unlock()

	_, err := update(ctx, &p.store, p.name("ticket"), ticketLife, func(have *ticket) bool {
		if t.Set {
			t.Created = max(t.Created, have.Created)
		} else if !t.replaces(*have, now) {
			return false
		}
		*have = t
		return true
	})
	if newer {
		p.component.gate.opened()
	}
	if err != nil {
		return fmt.Errorf("wxtoken: the component_verify_ticket is not stored: %w", err)
	}
	// This only adds detail to an error.
	_, _ = update(ctx, &p.store, p.name("push"), pushNoted, func(m *moment) bool {
		m.At = now.Unix()
		return true
	})
	return nil
}

// name returns the name of one of the component's values in the cache.
func (p *Platform) name(what string) string { return "component_" + what + ":" + p.appID }

// ticket returns the newest ticket that the platform has not denied to this process,
// or the zero ticket. It writes back what the cache has lost.
func (c *component) ticket(ctx context.Context) (ticket, error) {
	cached, err := get[ticket](ctx, &c.p.store, c.p.name("ticket"))
	if err != nil {
		return ticket{}, err
	}
	ts := &c.tickets
	ts.mu.Lock()
	now := time.Now()
	if cached.value.replaces(ts.newest, now) {
		ts.newest, ts.until = cached.value, cached.value.expires(now)
	}
	t, left := ts.newest, ts.until.Sub(now)
	if t == cached.value {
		left = ticketLife // it is in the cache, which drops it when it expires
	}
	denied := t == ts.denied && now.Before(ts.retry)
	ts.mu.Unlock()
	if t.Value == "" || left <= 0 || denied {
		return ticket{}, nil
	}
	if t != cached.value {
		_, _ = put(ctx, &c.p.store, c.p.name("ticket"), cached, t, left)
	}
	return t, nil
}

// denied records that the platform does not accept t. This process does not try it
// again for a while, or until it is pushed again; other processes may, since the
// fault may be this process's own.
func (c *component) denied(t ticket) {
	ts := &c.tickets
	ts.mu.Lock()
	defer ts.mu.Unlock()
	ts.denied, ts.retry = t, time.Now().Add(startEvery)
}

// missing returns an error that there is no ticket, or none that the platform accepts
// (cause), after asking the platform to push, and says what came of that.
func (c *component) missing(ctx context.Context, secret string, cause error) error {
	c.gate.lacks()
	started := c.start(ctx, secret)
	what := fmt.Errorf("wxtoken: no component_verify_ticket: %s", c.lastPush(ctx))
	if cause != nil {
		what = fmt.Errorf("wxtoken: the platform does not accept the component_verify_ticket: %w: %s", cause, c.lastPush(ctx))
	}
	return unsent(fmt.Errorf("%w; %s; check that the authorization event URL (授权事件接收URL) reaches ServeHTTP", what, started))
}

// lastPush says when the last push came.
func (c *component) lastPush(ctx context.Context) string {
	c.tickets.mu.Lock()
	last := c.tickets.pushed
	c.tickets.mu.Unlock()
	noted, err := get[moment](ctx, &c.p.store, c.p.name("push"))
	if at := time.Unix(noted.value.At, 0); err == nil && noted.raw != nil && at.After(last) {
		last = at
	}
	if last.IsZero() {
		return "no push has come yet"
	}
	return "the last push came at " + last.UTC().Format(time.RFC3339)
}

// start sends api_start_push_ticket, unless this or another process did in the last
// 10 minutes, and describes the outcome.
func (c *component) start(ctx context.Context, secret string) string {
	p, now := c.p, time.Now()
	c.tickets.mu.Lock()
	recent := now.Sub(c.tickets.started) < startEvery
	if !recent {
		c.tickets.started = now
	}
	c.tickets.mu.Unlock()
	if recent {
		return "pushes were asked for in the last 10 minutes"
	}
	// The first process to store something there may send, until the cache drops it.
	first, err := put(ctx, &p.store, p.name("start"), stored[moment]{}, moment{now.Unix()}, startEvery)
	switch {
	case err != nil:
		c.tickets.mu.Lock()
		c.tickets.started = time.Time{}
		c.tickets.mu.Unlock()
		return "pushes were not asked for, since the cache did not answer"
	case !first:
		return "another process asked for pushes in the last 10 minutes"
	}
	_, err = p.send(ctx, request{
		path: startPath, once: true, secrets: []string{secret},
		body: map[string]any{"component_appid": p.appID, "component_secret": secret},
	})
	if err != nil {
		return fmt.Sprintf("asking for pushes failed: %s", strings.TrimPrefix(err.Error(), "wxtoken: "))
	}
	return "pushes have just been asked for"
}

// look reports whether another process has stored a ticket.
func (c *component) look(ctx context.Context) bool {
	t, err := c.ticket(ctx)
	return err == nil && t.Value != ""
}

// detached returns a ctx for work that must finish even if the caller has gone.
func detached(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeout(guard.Detach(ctx), d)
}
