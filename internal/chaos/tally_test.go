//go:build linux

package chaos

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/wxtoken/wxtoken"
)

// A tally is what came of a round.
type tally struct {
	backend string
	seed    uint64
	length  time.Duration
	faults  map[string]int // that struck, by kind

	calls       int // that got a token
	unreachable int // of those, without an answer since the platform was cut off
	first       int // refused at first
	firstPaused int // of those, stopped by SIGSTOP between Token and the answer
	second      excused
	errors      map[string]int // of Token, by kind

	fetches     map[string]int // by reason
	events      map[string]int // that the Sources reported, by kind
	issued      int            // tokens, by the platform's count
	duplicates  int            // fetches that no fault explains
	outage      outage         // the longest, other than by a stop
	otherOutage outage         // the longest of a worker that could reach platform and cache
	stalls      int            // of the machine
}

// excused are the calls refused also after one retry, by what excuses them.
type excused struct {
	paused   int // stopped by SIGSTOP between the second Token and the answer
	late     int // asked again, held up by the machine, when the refused token was no longer kept back
	platform int // the platform was cut off meanwhile
	not      []call
}

func (e excused) total() int { return e.paused + e.late + e.platform + len(e.not) }

// An outage is the time between two successful calls of a worker.
type outage struct {
	window
	during []string // the kinds of faults meanwhile
}

func (o outage) length() time.Duration { return o.To.Sub(o.From) }

func (r *round) tally() tally {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := tally{
		backend: r.backend.name, seed: r.cfg.seed, length: r.ended.Sub(r.began), stalls: len(r.stalls),
		faults: map[string]int{}, errors: map[string]int{}, fetches: map[string]int{},
		events:     maps.Clone(r.events),
		issued:     r.platform.Stats().Fetches()[0],
		duplicates: len(r.unexplained()),
	}
	for _, in := range r.injected {
		if !strings.HasPrefix(in.kind, platformPrefix) {
			c.faults[in.kind]++
		}
	}
	for kind, n := range r.platform.Stats().Faults {
		c.faults[platformPrefix+kind] = n
	}
	for _, f := range r.fetches {
		c.fetches[f.Why]++
	}
	delete(c.events, string(wxtoken.EventFetch)) // told elsewhere
	delete(c.events, string(wxtoken.EventAdopt)) // no news
	for _, call := range r.calls {
		r.count(&c, call)
	}
	c.outage, c.otherOutage = r.outages()
	return c
}

// count adds one call; r.mu is held.
func (r *round) count(c *tally, done call) {
	for _, a := range []*attempt{&done.First, done.Second} {
		if a != nil && a.Code == noToken {
			c.errors[a.Err]++
		}
	}
	if done.First.Code == noToken {
		return
	}
	c.calls++
	if done.First.Code == unreachable || done.Second != nil && done.Second.Code == unreachable {
		c.unreachable++
	}
	if done.Second == nil {
		return
	}
	c.first++
	w := r.workers[done.worker]
	if w.stopped(done.First.inUse()) {
		c.firstPaused++
	}
	if done.Second.Code <= 0 {
		return
	}
	switch {
	case w.stopped(done.Second.inUse()):
		c.second.paused++
	case done.Told == cacheUnavailable && done.Second.Got.Sub(done.ToldAt) >= localAge/22:
		c.second.late++
	case r.met(window{done.Start, done.Second.End}, func(in injection) bool { return in.kind == kindPlatformCut }):
		c.second.platform++
	default:
		c.second.not = append(c.second.not, done)
	}
}

// inUse is the time in which the attempt held a token for granted.
func (a attempt) inUse() window { return window{a.Got, a.End} }

// met reports whether a fault of the wanted kind met the window; r.mu is held.
func (r *round) met(w window, want func(injection) bool) bool {
	return slices.ContainsFunc(r.injected, func(in injection) bool { return in.meets(w) && want(in) })
}

// unexplained gives the fetches that neither the end of a token's life nor a
// fault accounts for: the first fetch finds no record, and every other is the
// only one at the end of its predecessor's life. A fault excuses what comes of
// it for as long as a doubt and a cooldown last; so under chaos this says
// little, and without faults everything. r.mu is held.
func (r *round) unexplained() []fetch {
	const lasting = 30 * time.Second
	var odd []fetch
	replaced := map[string]bool{}
	for i, f := range r.fetches {
		ordinary := f.Why == whyDue && !replaced[f.Token] || f.Why == whyAbsent && i == 0
		replaced[f.Token] = true
		before := window{f.At.Add(-lasting), f.At}
		if !ordinary && !r.met(before, func(injection) bool { return true }) && !anyMeets(r.stalls, before) {
			odd = append(odd, f)
		}
	}
	return odd
}

func anyMeets(all []window, w window) bool { return slices.ContainsFunc(all, w.meets) }

// outages gives the longest outage of a worker, and the longest of one that
// nothing kept from platform or cache; r.mu is held.
func (r *round) outages() (longest, other outage) {
	type life struct{ worker, generation int }
	since := map[life]time.Time{}
	for _, c := range r.calls {
		id := life{c.worker, c.generation}
		if since[id].IsZero() {
			since[id] = c.Start
		}
		last := c.First
		if c.Second != nil {
			last = *c.Second
		}
		if last.Code != 0 {
			continue
		}
		o := outage{window: window{since[id], last.End}}
		since[id] = last.End
		if o.length() <= other.length() || r.workers[c.worker].stopped(o.window) {
			continue
		}
		o.during = r.kinds(o.window)
		if !r.met(o.window, func(in injection) bool { return in.isolates(c.worker) }) {
			other = o
		}
		if o.length() > longest.length() {
			longest = o
		}
	}
	return longest, other
}

// isolates reports whether the fault keeps a worker from the platform or from
// the cache, for as long as it lasts.
func (in injection) isolates(worker int) bool {
	switch in.kind {
	case kindCut, kindLongCut, kindBlackHole:
		return slices.Contains(in.workers, worker)
	case kindPlatformCut, kindRedisDown, kindMemcachedDown, kindSentinel, kindCluster:
		return true
	}
	return false
}

// kinds names the faults that met a window; r.mu is held.
func (r *round) kinds(w window) []string {
	kinds := map[string]bool{}
	for _, in := range r.injected {
		if in.meets(w) {
			kinds[in.kind] = true
		}
	}
	return slices.Sorted(maps.Keys(kinds))
}

// check asserts what must hold.
func (r *round) check() {
	r.t.Helper()
	c := r.tally()
	r.t.Logf("%s, seed %d: longest outage %s\n%s", c.backend, c.seed, c.outage.during, table([]tally{c}))
	for i, done := range c.second.not {
		trace := ""
		if i == 0 {
			trace = ", trace:\n" + r.lately(done.Second.End, 15*time.Second)
		}
		r.t.Errorf("worker %d was refused with token %s and, told %q, with %s%s",
			done.worker, done.First.Token, done.Told, done.Second.Token, trace)
	}
	require.Greater(r.t, c.calls, 100, "calls")
	assert.Zero(r.t, c.duplicates, "fetches that no fault explains")
	if len(r.injected) == 0 && len(r.stalls) == 0 {
		r.checkCalm(c)
	}
}

// checkCalm asserts what holds without faults, on a machine that keeps up.
func (r *round) checkCalm(c tally) {
	assert.Zero(r.t, c.first, "refused")
	assert.Empty(r.t, c.errors, "errors of Token")
	assert.Equal(r.t, len(r.fetches), c.issued)
	assert.Equal(r.t, 1, c.fetches[whyAbsent])
	assert.Equal(r.t, c.issued-1, c.fetches[whyDue], "each fetch but the first is at the end of a life")
	ends := int(c.length / (r.cfg.lifetime * 3 / 4))
	assert.InDelta(r.t, ends+1, c.issued, 1, "one fetch in each lifetime less refresh-ahead")
}

// table is the tallies in Markdown, one column for each.
func table(tallies []tally) string {
	var b strings.Builder
	row := func(name string, cell func(tally) any) {
		fmt.Fprintf(&b, "| %s |", name)
		for _, c := range tallies {
			fmt.Fprintf(&b, " %v |", cell(c))
		}
		b.WriteByte('\n')
	}
	row("", func(c tally) any { return c.backend })
	b.WriteString("|---|" + strings.Repeat("---|", len(tallies)) + "\n")
	row("seed", func(c tally) any { return c.seed })
	row("seconds", func(c tally) any { return int(c.length.Seconds()) })
	perKind(row, tallies, "", func(c tally) map[string]int { return c.faults })
	row("**faults in all**", func(c tally) any { return sum(c.faults) })
	row("**calls with a token**", func(c tally) any { return c.calls })
	row("**refused at first**", func(c tally) any { return c.first })
	row("of these, stopped between Token and the answer", func(c tally) any { return c.firstPaused })
	row("**refused after one retry**", func(c tally) any { return c.second.total() })
	row("of these, stopped between Token and the answer", func(c tally) any { return c.second.paused })
	row("of these, the cache unreachable and the retry late", func(c tally) any { return c.second.late })
	row("of these, the platform cut off", func(c tally) any { return c.second.platform })
	row("calls without an answer", func(c tally) any { return c.unreachable })
	perKind(row, tallies, "error of Token: ", func(c tally) map[string]int { return c.errors })
	row("**fetches**", func(c tally) any { return sum(c.fetches) })
	perKind(row, tallies, "for: ", func(c tally) map[string]int { return c.fetches })
	perKind(row, tallies, "event: ", func(c tally) map[string]int { return c.events })
	row("tokens issued", func(c tally) any { return c.issued })
	row("**fetches that no fault explains**", func(c tally) any { return c.duplicates })
	row("**longest outage of a worker**", func(c tally) any { return c.outage.text() })
	row("longest of one that could reach platform and cache", func(c tally) any { return c.otherOutage.text() })
	return b.String()
}

func (o outage) text() string {
	return fmt.Sprintf("%.1f s", o.length().Seconds())
}

// perKind adds a row for each kind that one of the tallies has.
func perKind(row func(string, func(tally) any), tallies []tally, prefix string, of func(tally) map[string]int) {
	kinds := map[string]bool{}
	for _, c := range tallies {
		for kind := range of(c) {
			kinds[kind] = true
		}
	}
	for _, kind := range slices.Sorted(maps.Keys(kinds)) {
		row(prefix+kind, func(c tally) any { return of(c)[kind] })
	}
}

func sum(counts map[string]int) (n int) {
	for _, k := range counts {
		n += k
	}
	return n
}
