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
)

// met reports whether a fault of the wanted kind met the window; r.mu is held.
func (r *round) met(w window, want func(injection) bool) bool {
	return slices.ContainsFunc(r.injected, func(in injection) bool { return in.meets(w) && want(in) })
}

// isolated is how long a process can be without a token although nothing keeps
// it from cache and platform: a fetch of another that failed, its lease and the
// cooldown after it.
const isolated = 5 * time.Second

// check asserts what must hold, and returns what came of the round.
func (r *round) check() map[string]string {
	r.t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	platformCut := func(in injection) bool { return in.kind == kindPlatformCut }
	for _, c := range r.calls {
		r.counts["call: "+c.Result]++
		if c.Result == rejectedTwice && !r.met(c.window, platformCut) {
			r.t.Errorf("worker %d: %s %s, trace:\n%s", c.worker, c.Result, c.Text, r.between(window{c.To.Add(-15 * time.Second), c.To}))
		}
	}
	assert.Zero(r.t, r.counts["fetch for: "+nothingToFetchFor])
	longest := r.outage()
	assert.Less(r.t, longest.To.Sub(longest.From), isolated, "without a token, though nothing is in the way, trace:\n%s", r.between(longest))
	require.Greater(r.t, len(r.calls), 100, "calls")
	if len(r.injected) == 0 {
		r.checkCalm()
	}
	return r.figures(longest)
}

// outage is the longest time between two calls that were served of a worker that
// lives as long as the round and that nothing isolated meanwhile; r.mu is held.
func (r *round) outage() (longest window) {
	type life struct{ worker, generation int }
	since := map[life]time.Time{}
	for _, c := range r.calls {
		id := life{c.worker, c.generation}
		if since[id].IsZero() {
			since[id] = c.From
		}
		if !c.served() {
			continue
		}
		o := window{since[id], c.To}
		since[id] = c.To
		if c.worker < processes && o.To.Sub(o.From) > longest.To.Sub(longest.From) &&
			!r.met(o, func(in injection) bool { return in.isolates(c.worker) }) {
			longest = o
		}
	}
	return longest
}

// checkCalm asserts what holds without faults, on a machine that keeps up.
func (r *round) checkCalm() {
	issued := r.platform.Stats().Fetches()[0]
	assert.Equal(r.t, len(r.calls), r.counts["call: "+ok], "each call, %v", r.counts)
	assert.Equal(r.t, 1, r.counts["fetch for: no record"])
	assert.Equal(r.t, issued-1, r.counts["fetch for: end of life"], "each fetch but the first is at the end of a life")
	ends := int(r.ended.Sub(r.began) / (r.cfg.lifetime * 3 / 4))
	assert.InDelta(r.t, ends+1, issued, 1, "one fetch in each lifetime less refresh-ahead")
}

// figures is what came of the round; r.mu is held.
func (r *round) figures(longest window) map[string]string {
	for _, in := range r.injected {
		r.counts["fault: "+in.kind]++
	}
	for kind, n := range r.platform.Stats().Faults {
		r.counts["fault: platform: "+kind] = n
	}
	r.counts["tokens issued"] = r.platform.Stats().Fetches()[0]
	figures := map[string]string{
		"seed": fmt.Sprint(r.cfg.seed), "seconds": fmt.Sprint(int(r.ended.Sub(r.began).Seconds())),
		"longest without a token, nothing in the way": fmt.Sprintf("%.1f s", longest.To.Sub(longest.From).Seconds()),
	}
	for what, n := range r.counts {
		figures[what] = fmt.Sprint(n)
	}
	r.t.Log("\n" + table([]string{r.backend.name}, []map[string]string{figures}))
	return figures
}

// table is the figures in Markdown, one column for each round.
func table(names []string, rounds []map[string]string) string {
	rows := map[string]bool{}
	for _, figures := range rounds {
		for what := range figures {
			rows[what] = true
		}
	}
	var b strings.Builder
	fmt.Fprintf(&b, "| | %s |\n|---|%s\n", strings.Join(names, " | "), strings.Repeat("---|", len(names)))
	for _, what := range slices.Sorted(maps.Keys(rows)) {
		fmt.Fprintf(&b, "| %s |", what)
		for _, figures := range rounds {
			fmt.Fprintf(&b, " %s |", figures[what])
		}
		b.WriteByte('\n')
	}
	return b.String()
}
