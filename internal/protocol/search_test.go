//go:build !race

package protocol

import (
	"flag"
	"fmt"
	"maps"
	"reflect"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var searchDeep = flag.Bool("search.deep", false, "let TestEveryInterleaving search further: some minutes, and 2 GB")

// A bound says which worlds are searched.
type bound struct {
	faults int
	leases int // that are taken in one run; endless: any number
	rules
}

const endless = -1

var (
	shallow = []bound{
		{2, 2, rules{n: 2}},
		{1, endless, rules{n: 2}},
		{1, 2, rules{n: 3}},
		{1, 2, rules{n: 2, rejects: true}},
		{1, 2, rules{n: 2, splits: true, members: true}},
		{1, endless, rules{n: 2, repeatable: true}},
		{1, 2, rules{n: 2, members: true, givesUp: true}},
	}
	deep = []bound{
		{1, endless, rules{n: 2, splits: true, members: true}},
		{2, 2, rules{n: 2, members: true}},
		{2, 3, rules{n: 2}}, // any number of leases makes tens of millions of states
	}
)

func (b bound) String() string {
	s := fmt.Sprintf("%d processes, %d faults, %d leases", b.n, b.faults, b.leases)
	for _, trait := range []struct {
		has  bool
		name string
	}{{b.rejects, "rejections"}, {b.splits, "splits"}, {b.repeatable, "repeatable"}, {b.members, "members"}, {b.givesUp, "callers give up"}} {
		if trait.has {
			s += ", " + trait.name
		}
	}
	return strings.ReplaceAll(s, "-1 leases", "any leases")
}

// TestEveryInterleaving looks at every state that a small world can come to,
// whatever the order of the processes' steps and whenever the faults happen, and
// checks in each of them what docs/protocol.md promises.
func TestEveryInterleaving(t *testing.T) {
	debug.SetGCPercent(300) // most of what there is stays
	bounds := shallow
	if *searchDeep {
		bounds = deep
	}
	for _, b := range bounds {
		t.Run(b.String(), func(t *testing.T) {
			if !*searchDeep { // which takes the memory of one search at a time
				t.Parallel()
			}
			started := time.Now()
			s := search{bound: b}
			s.run()
			t.Logf("%d states in %s; the slowest recovers in %d actions", len(s.states), time.Since(started).Round(time.Second/10), s.slowest)
			s.log(t)
			require.Empty(t, s.wrong)
		})
	}
}

// A search visits every world within a bound.
type search struct {
	bound
	seen    map[key]int32
	states  []state
	deeds   []told // that led to states
	told    map[told]int32
	queues  [][]visit // by the number of faults so far
	rounds  []round   // of worlds in which all is quiet
	silent  map[string]*silence
	slowest int // how many actions it takes to recover
	wrong   string
}

// A state is how a world first came about, and how it recovers. There are millions.
type state struct {
	from int32 // -1: at the start
	by   int32 // of search.deeds
	heal int32 // the world after the next action of a run without more faults, or below
}

// told is a deed as a trace tells it.
type told struct {
	deed
	fault string
}

// A round leads from a world to the one after everyone has called.
type round struct {
	from int32
	to   key
}

const (
	isWell    = -1 - iota
	healLater // by search.rounds
)

type visit struct {
	world *world
	id    int32
}

// A silence is a class of worlds in which the record holds a superseded token
// and nothing says so.
type silence struct {
	states int
	first  int32
}

func (s *search) run() {
	s.seen, s.told, s.silent = map[key]int32{}, map[told]int32{}, map[string]*silence{}
	s.queues = make([][]visit, s.faults+1)
	s.find(move{world: newWorld(s.rules, s.leases)}, 0, -1)
	for faults := range s.queues {
		for s.next(faults) {
			for s.next(s.faults) { // most worlds come after the last fault: visited at once, few wait at a time
			}
		}
	}
	if s.wrong == "" && s.leases == endless {
		s.heal()
	}
}

// next visits the next world with that many faults, and returns false if none waits.
func (s *search) next(faults int) bool {
	q := s.queues[faults]
	if len(q) == 0 || s.wrong != "" {
		return false
	}
	v := q[0]
	q[0].world = nil // for the garbage collector
	s.queues[faults] = q[1:]
	s.expand(v, faults)
	return true
}

// find adds the world after m, unless it has been found with no more faults. Worlds
// after the last fault have keys of their own, and can be visited before the others.
func (s *search) find(m move, faults int, from int32) int32 {
	k := m.world.key(faults < s.faults)
	if id, ok := s.seen[k]; ok {
		m.world.drop()
		return id
	}
	id := int32(len(s.states))
	s.seen[k] = id
	by := told{m.deed, m.fault}
	deed, ok := s.told[by]
	if !ok {
		deed = int32(len(s.deeds))
		s.told[by], s.deeds = deed, append(s.deeds, by)
	}
	s.states = append(s.states, state{from, deed, healLater})
	s.queues[faults] = append(s.queues[faults], visit{m.world, id})
	s.check(m.world, id, faults)
	return id
}

func (s *search) expand(v visit, faults int) {
	canBreak := faults < s.faults
	heal := int32(healLater)
	well := v.world.well()
	if well {
		heal = isWell
	}
	for _, m := range v.world.moves(canBreak) {
		after := faults + bit(m.fault != "")
		s.checkMove(v.world, m, after, well)
		id := s.find(m, after, v.id)
		if heal == healLater && m.fault == "" && !m.call {
			heal = id
		}
	}
	s.states[v.id].heal = heal
	if heal == healLater && s.leases == endless {
		s.rounds = append(s.rounds, round{v.id, v.world.round(canBreak).key(canBreak)})
	}
}

// checkMove looks for broken promises in what m changes.
func (s *search) checkMove(w *world, m move, faults int, well bool) {
	switch {
	case m.world.wrong != "":
	case faults == 0 && w.latest.left(noon) > aging && m.world.latest.Token != w.latest.Token:
		m.world.wrong = "I4: a fetch for a token with life left"
	case well && w.stores[0].left(noon) > aging && m.fault == "" && m.world.claimed():
		m.world.wrong = "I4: a fetch although nothing is the matter"
	}
	for i, p := range w.each() {
		was, is := &p.view.copy, &m.world.procs[i].view.copy
		if was.Rejected && !is.Rejected && was.Token == is.Token && was.IssuedAt == is.IssuedAt && !is.expired(noon) {
			m.world.wrong = "a rejection is forgotten"
		}
	}
}

// check looks for broken promises in a world.
func (s *search) check(w *world, id int32, faults int) {
	wrong := w.wrong
	switch {
	case wrong != "":
	case w.silent() && w.excuse == 0:
		wrong = "I2: the record holds a superseded token and nothing says so"
	case w.silent():
		class := s.class(w, id)
		if s.silent[class] == nil {
			s.silent[class] = &silence{first: id}
		}
		s.silent[class].states++
	case faults == 0 && (len(w.requests) > 1 || w.stores[0].Owed > 0):
		wrong = "I4: a second fetch without a fault"
	}
	if wrong != "" && s.wrong == "" {
		s.wrong = wrong + s.trace(id)
	}
}

// silent reports whether the record holds a superseded token, and neither it
// nor any process says so.
func (w *world) silent() bool {
	r := w.stores[0].Record
	return !w.split && !w.repeatable && r.usable(noon) && r.Token != w.latest.Token && r.Owed == 0 && r.Lease == "" &&
		len(w.requests) == 0 && !w.claimed() && !w.knows()
}

// well reports whether every process holds the latest token and nothing is in doubt.
func (w *world) well() bool {
	r := w.stores[0].Record
	for _, p := range w.each() {
		if c := p.view.copy; p.phase != idle || c.Token != r.Token || c.Rejected {
			return false
		}
	}
	return r.usable(noon) && (w.repeatable || r.Token == w.latest.Token) && r.Owed == 0 && r.Lease == "" &&
		!w.split && len(w.requests) == 0 && len(w.casts) == 0 && !w.claimed()
}

// round is a quiet world after each process has been called once and a tick has
// passed; or, if that changes nothing, minutes, or the life of its tokens.
func (w *world) round(past bool) *world {
	before := w.key(past)
	for i := range w.n {
		moves := w.acts()
		w = moves[slices.IndexFunc(moves, func(m move) bool { return m.proc == i+1 })].world
		for !w.quiet() {
			moves := w.acts()
			w = moves[slices.IndexFunc(moves, func(m move) bool { return !m.call })].world
		}
	}
	for _, d := range []time.Duration{tick, minutes} {
		if next := w.after(d); next.key(past) != before {
			return next
		}
	}
	return w.after(fresh)
}

// heal checks that every world recovers if nothing else breaks, at the latest
// when the token expires.
func (s *search) heal() {
	for _, r := range s.rounds {
		next, ok := s.seen[r.to]
		if !ok {
			s.wrong = "the search missed the world after a round" + s.trace(r.from)
			return
		}
		s.states[r.from].heal = next
	}
	const unseen, underway = -1, -2
	steps := slices.Repeat([]int32{unseen}, len(s.states))
	for i := range s.states {
		var path []int32
		id := int32(i)
		for ; id >= 0 && steps[id] == unseen; id = s.states[id].heal {
			steps[id] = underway
			path = append(path, id)
		}
		n := int32(0)
		if id >= 0 {
			n = steps[id] + 1
		}
		if n < 0 {
			s.wrong = "it never recovers" + s.trace(int32(i))
			return
		}
		for _, id := range slices.Backward(path) {
			steps[id] = n
			s.slowest = max(s.slowest, int(n))
			n++
		}
	}
}

// class names what protocol.md admits as causes of the silence in w, and the
// faults on the way there.
func (s *search) class(w *world, id int32) string {
	var causes, faults []string
	for i, cause := range []string{"a request outlasted the fetch that verified it", "a process died and nobody watched", "the store went back"} {
		if w.excuse&(1<<i) != 0 {
			causes = append(causes, cause)
		}
	}
	for ; id >= 0; id = s.states[id].from {
		if fault := s.deeds[s.states[id].by].fault; fault != "" {
			faults = append(faults, fault)
		}
	}
	slices.Sort(faults)
	return strings.Join(causes, ", ") + ": " + strings.Join(faults, " + ")
}

// trace tells how a world came about.
func (s *search) trace(id int32) string {
	var lines []string
	for ; s.states[id].from >= 0; id = s.states[id].from {
		lines = append(lines, "\n    "+s.deeds[s.states[id].by].String())
	}
	slices.Reverse(lines)
	return strings.Join(lines, "")
}

// log prints the table of silent states. The first of each cause has its trace.
func (s *search) log(t *testing.T) {
	told := map[string]bool{}
	for _, class := range slices.Sorted(maps.Keys(s.silent)) {
		c := s.silent[class]
		cause, _, _ := strings.Cut(class, ":")
		trace := s.trace(c.first)
		if told[cause] {
			trace = ""
		}
		told[cause] = true
		t.Logf("%6d silent states, %s%s", c.states, class, trace)
	}
}

// TestSearchKnowsEveryField fails when a field is added that the key of a world
// may have to tell apart, or that time has to pass for: see keyer and world.after.
func TestSearchKnowsEveryField(t *testing.T) {
	assert.Equal(t, 16, reflect.TypeFor[Record]().NumField()) // seen: there is one clock
	assert.Equal(t, 10, reflect.TypeFor[Cooldown]().NumField())
	assert.Equal(t, 14, reflect.TypeFor[Process]().NumField()) // old: only held tokens are reported here; Unwanted is chosen at each step
	assert.Equal(t, 15, reflect.TypeFor[run]().NumField())
	assert.Equal(t, 14, reflect.TypeFor[Step]().NumField())
	assert.Equal(t, 9, reflect.TypeFor[View]().NumField())
	assert.Equal(t, 11, reflect.TypeFor[observed]().NumField())
	assert.Equal(t, 7, reflect.TypeFor[claim]().NumField())
	assert.Equal(t, 5, reflect.TypeFor[Result]().NumField())
	assert.Equal(t, 7, reflect.TypeFor[failure]().NumField())
	assert.Equal(t, 2, reflect.TypeFor[memo]().NumField())
}
