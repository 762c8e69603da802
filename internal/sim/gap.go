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
	active      int       // processes that make calls
	idleSince   time.Time // since when there was none; zero: there was always one
	token, used gap       // until Token returns a token; until an API accepts one
}

// A gap is the time during which a group's callers want something and do not have it.
// It goes on between two processes that both end without it. The pause before the
// process that gets it is not part of it: nobody could have used it then.
type gap struct {
	what           string
	since          time.Time    // zero: they have it
	pause          [2]time.Time // the last one, if no process has ended after it; zero: none
	served         time.Time    // when they got it last
	total, longest time.Duration
}

func (w *world) newGroup(good bool) *group {
	g := &group{w: w, good: good, token: gap{what: "a token"}, used: gap{what: "a good token"}}
	w.groups = append(w.groups, g)
	return g
}

func (g *group) gaps() []*gap { return []*gap{&g.token, &g.used} }

// born records that a process makes calls from now on.
func (g *group) born() {
	if g.active++; g.active > 1 || g.idleSince.IsZero() {
		return
	}
	for _, x := range g.gaps() {
		x.pause = [2]time.Time{g.idleSince, time.Now()}
	}
}

// rests records that a process makes no more calls.
func (g *group) rests() {
	for _, x := range g.gaps() {
		x.pause = [2]time.Time{} // it lies between two processes that got nothing, or the gap has ended
	}
	if g.active--; g.active == 0 {
		g.idleSince = time.Now()
	}
}

// wants records a call that started at began, and has not got it yet.
func (g *group) wants(x *gap, began time.Time) {
	if x.since.IsZero() {
		x.since = later(began, x.served)
	}
}

// gets records that a call that started at began has got it.
func (g *group) gets(x *gap, began time.Time) {
	g.wants(x, began)
	from := later(x.since, g.w.settled)
	d := time.Since(from)
	if x.pause[0] = later(x.pause[0], from); x.pause[1].After(x.pause[0]) {
		d -= x.pause[1].Sub(x.pause[0])
	}
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
		for _, x := range g.gaps() {
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
