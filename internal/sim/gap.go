package sim

import (
	"fmt"
	"time"
)

const (
	warmUp    = time.Minute             // until then nothing is measured
	tolerated = 1100 * time.Millisecond // in Token: the time allowed with a usable copy, and a little more
)

// A group is measured as a whole: a process that lives as long as the run, or all the
// short-lived ones of a Member. Guarded by world.mu.
type group struct {
	w           *world
	good        bool
	fetches     int
	active      int           // processes that make calls
	idle        time.Duration // in which there was none
	idleSince   time.Time
	token, used gap // until Token returns a token; until an API accepts one
}

// A gap is the time during which a group's callers want something and do not have it.
type gap struct {
	what           string
	since          time.Time // zero: they have it
	idle           time.Duration
	served         time.Time // when they got it last
	total, longest time.Duration
}

func (w *world) newGroup(good bool) *group {
	g := &group{w: w, good: good, token: gap{what: "a token"}, used: gap{what: "a good token"}}
	w.groups = append(w.groups, g)
	return g
}

func (g *group) born() {
	if g.active++; g.active == 1 && !g.idleSince.IsZero() {
		g.idle += time.Since(g.idleSince)
	}
}

func (g *group) rests() {
	if g.active--; g.active == 0 {
		g.idleSince = time.Now()
	}
}

// wants records a call that started at began, and has not got it yet.
func (g *group) wants(x *gap, began time.Time) {
	if x.since.IsZero() {
		x.since, x.idle = later(began, x.served), g.idle
	}
}

// gets records that a call that started at began has got it.
func (g *group) gets(x *gap, began time.Time) {
	g.wants(x, began)
	d := time.Since(later(x.since, g.w.settled)) - (g.idle - x.idle)
	x.since, x.served = time.Time{}, time.Now()
	if d <= tolerated || !g.good {
		return
	}
	x.total += d
	if d > x.longest {
		x.longest = d
	}
	g.w.trace(nil, fmt.Sprintf("end of %s without %s", d.Round(time.Millisecond), x.what), nil, "")
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// finishGaps ends the gaps with the run, and reports those of the group with the
// worst figures.
func (w *world) finishGaps() {
	for _, g := range w.groups {
		if g.active == 0 {
			g.born() // what no caller asked for was not missing
		}
		for _, x := range []*gap{&g.token, &g.used} {
			if !x.since.IsZero() {
				g.gets(x, x.since)
			}
		}
		r := &w.report
		r.Without, r.LongestWithout = max(r.Without, g.token.total), max(r.LongestWithout, g.token.longest)
		r.LongestUnused = max(r.LongestUnused, g.used.longest)
	}
}

// A peak is the maximum of something per minute.
type peak struct{ minute, n, most int }

func (p *peak) add(since time.Duration) {
	if minute := int(since / time.Minute); minute != p.minute {
		p.minute, p.n = minute, 0
	}
	p.n++
	p.most = max(p.most, p.n)
}
