//go:build !race

package protocol

import (
	"flag"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var searchDeep = flag.Bool("search.deep", false, "let TestEveryInterleaving search further: ten minutes, and 4 GB")

// A bound says which worlds are searched.
type bound struct {
	procs, faults int
	leases        int  // that are taken in one run; endless: any number
	refuses       bool // APIs refuse superseded tokens
}

const endless = -1

var (
	shallow = []bound{{2, 2, 2, false}, {2, 1, endless, false}, {3, 1, 2, false}, {2, 1, 2, true}}
	deep    = []bound{{2, 2, endless, false}, {3, 1, 4, false}, {3, 2, 2, false}, {2, 1, endless, true}, {2, 2, 3, true}}
)

// TestEveryInterleaving looks at every state that a small world can come to,
// whatever the order of the processes' steps and whenever the faults happen, and
// checks in each of them what docs/protocol.md promises.
func TestEveryInterleaving(t *testing.T) {
	bounds := shallow
	if *searchDeep {
		bounds = deep
	}
	for _, b := range bounds {
		name := fmt.Sprintf("%d processes, %d faults, %d leases, refusals %t", b.procs, b.faults, b.leases, b.refuses)
		t.Run(strings.ReplaceAll(name, "-1 leases", "any leases"), func(t *testing.T) {
			if !*searchDeep { // which takes the memory of one search at a time
				t.Parallel()
			}
			s := search{bound: b}
			s.run()
			require.Empty(t, s.wrong)
			s.log(t)
		})
	}
}

// A search visits every world within a bound.
type search struct {
	bound
	seen    map[key]int32
	states  []state
	queues  [][]visit     // by the number of faults so far
	rounds  map[int32]key // for worlds in which all is quiet, the world after everyone has called
	silent  map[string]*silence
	slowest int // how many actions it takes to get well
	wrong   string
}

// A state is how a world first came about, and how it gets well.
type state struct {
	from  int32 // -1: at the start
	by    deed
	fault string
	heal  int32 // the world after the next action of a run without more faults, or below
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
	s.seen, s.rounds, s.silent = map[key]int32{}, map[int32]key{}, map[string]*silence{}
	s.queues = make([][]visit, s.faults+1)
	s.find(move{world: newWorld(s.procs, s.leases, s.refuses)}, 0, -1)
	for faults := range s.queues {
		for len(s.queues[faults]) > 0 && s.wrong == "" {
			v := s.queues[faults][0]
			s.queues[faults][0].world = nil // for the garbage collector
			s.queues[faults] = s.queues[faults][1:]
			s.expand(v, faults)
		}
	}
	if s.wrong == "" && s.leases == endless {
		s.heal()
	}
}

// find adds the world after m, unless it has been found with no more faults.
func (s *search) find(m move, faults int, from int32) int32 {
	k := m.world.key(faults < s.faults)
	if id, ok := s.seen[k]; ok {
		return id
	}
	id := int32(len(s.states))
	s.seen[k] = id
	s.states = append(s.states, state{from, m.deed, m.fault, healLater})
	s.queues[faults] = append(s.queues[faults], visit{m.world, id})
	s.check(m.world, id, faults)
	return id
}

func (s *search) expand(v visit, faults int) {
	canBreak := faults < s.faults
	heal := int32(healLater)
	if v.world.well() {
		heal = isWell
	}
	for _, m := range v.world.moves(canBreak) {
		after := faults + bit(m.fault != "")
		if faults == 0 && m.world.latest.Token != v.world.latest.Token && v.world.latest.left(noon) > aging {
			m.world.wrong = "I4: a fetch for a token with life left"
		}
		id := s.find(m, after, v.id)
		if heal == healLater && m.fault == "" && !m.call {
			heal = id
		}
	}
	s.states[v.id].heal = heal
	if heal == healLater && s.leases == endless {
		s.rounds[v.id] = v.world.round(canBreak).key(canBreak)
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
	case faults == 0 && (len(w.requests) > 1 || w.store.Owed > 0):
		wrong = "I4: a second fetch without a fault"
	}
	if wrong != "" && s.wrong == "" {
		s.wrong = wrong + s.trace(id)
	}
}

// silent reports whether the record holds a superseded token, and neither it
// nor any process says so.
func (w *world) silent() bool {
	r := w.store
	return r.usable(noon) && r.Token != w.latest.Token && r.Owed == 0 && r.Lease == "" &&
		len(w.requests) == 0 && !w.claimed() &&
		!slices.ContainsFunc(w.procs[:w.n], func(p *proc) bool { return p.view.newer(r, noon) })
}

// well reports whether every process holds the latest token and nothing is in doubt.
func (w *world) well() bool {
	for _, p := range w.procs[:w.n] {
		if p.phase != idle || p.view.Copy.Token != w.latest.Token {
			return false
		}
	}
	r := w.store
	return r.usable(noon) && r.Token == w.latest.Token && r.Owed == 0 && r.Lease == "" &&
		len(w.requests) == 0 && !w.claimed()
}

// round is a quiet world after each process has been called once; or, if that
// changes nothing, after its tokens are over.
func (w *world) round(past bool) *world {
	before := w.key(past)
	for i := range w.n {
		moves := w.moves(false)
		w = moves[slices.IndexFunc(moves, func(m move) bool { return m.proc == i+1 })].world
		for !w.quiet() {
			moves := w.moves(false)
			w = moves[slices.IndexFunc(moves, func(m move) bool { return !m.call })].world
		}
	}
	if w = w.after(tick); w.key(past) == before {
		w = w.after(fresh)
	}
	return w
}

// heal checks that every world gets well if nothing else breaks, at the latest
// when the token is over.
func (s *search) heal() {
	for id, k := range s.rounds {
		next, ok := s.seen[k]
		if !ok {
			s.wrong = "the search missed the world after a round" + s.trace(id)
			return
		}
		s.states[id].heal = next
	}
	const unseen, underway = -1, -2
	steps := slices.Repeat([]int{unseen}, len(s.states))
	for i := range s.states {
		var path []int32
		id := int32(i)
		for ; id >= 0 && steps[id] == unseen; id = s.states[id].heal {
			steps[id] = underway
			path = append(path, id)
		}
		n := 0
		if id >= 0 {
			n = steps[id] + 1
		}
		if n < 0 {
			s.wrong = "it never gets well" + s.trace(int32(i))
			return
		}
		for _, id := range slices.Backward(path) {
			steps[id] = n
			s.slowest = max(s.slowest, n)
			n++
		}
	}
}

// class names what protocol.md admits as causes of the silence in w, and the
// faults on the way there.
func (s *search) class(w *world, id int32) string {
	var causes, faults []string
	for i, cause := range []string{"a request outlasted the doubt", "the doubt was lost with the record", "the store went back"} {
		if w.excuse&(1<<i) != 0 {
			causes = append(causes, cause)
		}
	}
	for ; id >= 0; id = s.states[id].from {
		if fault := s.states[id].fault; fault != "" {
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
		lines = append(lines, "\n    "+s.states[id].by.String())
	}
	slices.Reverse(lines)
	return strings.Join(lines, "")
}

// log prints the table of silent states. The first of each cause has its trace.
func (s *search) log(t *testing.T) {
	t.Logf("%d states; the slowest gets well in %d actions", len(s.states), s.slowest)
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

// play does one deed after the other, each told as in a trace.
func play(t *testing.T, w *world, deeds ...string) *world {
	for _, told := range deeds {
		moves := w.moves(true)
		i := slices.IndexFunc(moves, func(m move) bool { return m.deed.String() == told })
		require.GreaterOrEqual(t, i, 0, "cannot happen now: %s", told)
		w = moves[i].world
	}
	return w
}

// TestSearchKnowsEveryField fails when a field is added that the key of a world
// may have to tell apart, or that time has to pass for: see keyer and world.after.
func TestSearchKnowsEveryField(t *testing.T) {
	assert.Equal(t, 11, reflect.TypeFor[Record]().NumField())
	assert.Equal(t, 5, reflect.TypeFor[Cooldown]().NumField())
	assert.Equal(t, 16, reflect.TypeFor[View]().NumField())
	assert.Equal(t, 6, reflect.TypeFor[claim]().NumField())
	assert.Equal(t, 5, reflect.TypeFor[Result]().NumField())
}

// What the deep search found first, and what a process still knows must stay known.

func TestDoubtOutlivesTheRecord(t *testing.T) {
	w := play(t, newWorld(1, endless, false),
		"P1 reads",
		"P1 takes the lease",
		"P1 gets no reply to its fetch",
		"the store loses the record",
		"P1 swaps in vain",
		"P1 reads",
		"P1 adds to what is owed",
		"P1 takes the lease",
		"P1 has its fetch answered",
		"P1 publishes its token",
		"a late request lands",
	)
	assert.NotEqual(t, w.latest.Token, w.store.Token)
	assert.Positive(t, w.store.Owed)
}

func TestDoubtIsRestoredWithTheToken(t *testing.T) {
	w := play(t, newWorld(1, endless, false),
		"P1 reads",
		"P1 takes the lease",
		"P1 has its fetch answered",
		"P1 publishes its token",
		"tokens come near their end",
		"P1 reads",
		"P1 takes the lease",
		"P1 gets no reply to its fetch",
		"P1 gives the lease back",
	)
	doubt := w.store.Owed
	w = play(t, w, "the store goes back", "P1 reads", "P1 writes its newer token back")
	assert.Equal(t, doubt, w.store.Owed)
}
