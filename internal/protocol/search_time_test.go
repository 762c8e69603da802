//go:build !race

package protocol

import (
	"slices"
	"time"
)

// This file lets time pass in a world. It stands still at noon: to let it pass,
// all that bears a date is moved back. Ages have few values: whole ticks up to
// the longest that the protocol watches for, minutes, and hours. A token's
// remaining life has four. So states repeat, and the search ends although every
// process makes as many calls as it likes.

// modelRules keep the order of the default durations, with fewer ticks between.
var modelRules = Rules{Fetch: 10 * time.Second, Local: 12 * time.Second, Ahead: 5 * time.Minute}

const (
	tick    = 13 * time.Second // longer than a lease, not than the store keeps that
	youth   = 2 * tick         // past youth
	watched = 3 * tick         // verify; 2 is past lease + announce
	minutes = 8 * tick         // past respite
	hours   = 2 * time.Hour
)

// A token's remaining life stays what it is until a long jump lowers it.
const (
	fresh = 2 * time.Hour
	aging = 290 * time.Second // less than ahead
	dying = 50 * time.Second  // less than ample
)

var noon = time.Unix(1_700_000_000, 0)

var jumps = []struct {
	d    time.Duration
	name string
}{
	{8 * time.Second, "a moment passes"}, // a cooldown, or what the store keeps little longer than a lease
	{tick, "13 s pass"},
	{minutes, "minutes pass"},
	{fresh - aging, "tokens come near their end"},
	{aging - dying, "tokens near their end come nearer"},
	{fresh, "tokens expire"},
}

// after is w a while later. A request or CAS on its own does not survive minutes.
func (w *world) after(d time.Duration) *world {
	c := w.copy()
	c.prev, c.latest = older(w.prev, d), older(w.latest, d)
	for i, p := range w.each() {
		c.procs[i], c.own[i] = p.clone(w.pools), true
		c.procs[i].age(d)
	}
	if d > watched {
		c.casts = nil
		c.requests = slices.DeleteFunc(c.requests, func(r request) bool { return r.by < 0 })
	}
	for i, r := range c.requests {
		c.requests[i].age = min((r.age + d).Truncate(tick), watched)
	}
	for i, k := range c.casts {
		c.casts[i].old, c.casts[i].next = older(k.old, d), older(k.next, d)
	}
	for i := range c.stores {
		c.expire(i, d)
	}
	return c
}

// expire ends the store's record where it was to be kept no longer.
func (w *world) expire(side int, d time.Duration) {
	m := &w.stores[side]
	m.Record = older(m.Record, d)
	switch {
	case m.ttl > 0:
		if m.ttl > d {
			m.ttl -= d.Truncate(tick)
			return
		}
	case m.Lease == "" || !m.expired(noon):
		return
	}
	was := m.Record
	*m = master{}
	w.prev, w.casts = Record{}, nil
	w.forget(was)
}

func (p *proc) age(d time.Duration) {
	p.began, p.rejects.at = agedBy(p.began, d), agedBy(p.rejects.at, d)
	p.view.age(d)
	p.withheld.until, p.ignored.until = sooner(p.withheld.until, d), sooner(p.ignored.until, d)
	p.until = sooner(p.until, d.Truncate(tick))
	p.reply = older(p.reply, d)
	if p.run != nil {
		p.run.record, p.run.last = older(p.run.record, d), noon
		if st := p.run.swap; st != nil {
			st.Next = older(st.Next, d)
			st.after.age(d)
		}
	}
}

func (v *View) age(d time.Duration) {
	v.copy = older(v.copy, d)
	v.copySeen, v.leaseSeen = agedBy(v.copySeen, d), agedBy(v.leaseSeen, d)
	v.seqSeen, v.cooledSeen = agedBy(v.seqSeen, d), agedBy(v.cooledSeen, d)
	v.resort.until = sooner(v.resort.until, d)
	if d > time.Hour {
		v.lostAt = time.Time{}
	}
	if v.claim != nil {
		c := *v.claim
		c.Token = older(c.Token, d)
		c.asked = agedBy(c.asked, d)
		c.ends = c.asked.Add(v.claim.ends.Sub(v.claim.asked))
		v.claim = &c
	}
	if v.own != nil {
		f := *v.own
		f.at = f.at.Add(-d)
		v.own = &f
	}
	if v.cooldown != nil {
		c := v.cooldown.after(d)
		v.cooldown = &c
	}
}

// agedBy is when something was seen that has become older by d.
func agedBy(seen time.Time, d time.Duration) time.Time {
	if seen.IsZero() {
		return seen
	}
	age := noon.Sub(seen) + d
	switch {
	case age >= hours:
		age = hours
	case age >= minutes:
		age = minutes
	default:
		age = min(age.Truncate(tick), watched)
	}
	return noon.Add(-age)
}

func sooner(t time.Time, d time.Duration) time.Time {
	if t.IsZero() {
		return t
	}
	if t = t.Add(-d); t.Before(noon) {
		return noon
	}
	return t
}

func older(r Record, d time.Duration) Record {
	if r.Token != "" {
		was := r.left(noon)
		left := was - d
		switch {
		case left <= 0:
			left = -time.Second
		case left <= dying:
			left = dying
		case left <= aging:
			left = aging
		default:
			left = fresh
		}
		r.ExpiresAt += (left - was).Milliseconds()
		r.IssuedAt += (left - was).Milliseconds()
	}
	if r.Cooldown != nil {
		c := r.Cooldown.after(d)
		r.Cooldown = &c
	}
	return r
}

// after keeps how long ago c has passed: its member waits longer than the others, and
// remembers it for an hour.
func (c Cooldown) after(d time.Duration) Cooldown {
	c.Until = max(c.Until-d.Milliseconds(), noon.Add(-hours).UnixMilli())
	return c
}

// same reports whether two records have the same bytes.
func same(a, b Record) bool {
	if a.Cooldown != nil && b.Cooldown != nil && *a.Cooldown == *b.Cooldown {
		a.Cooldown, b.Cooldown = nil, nil
	}
	return a == b
}
