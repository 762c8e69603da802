package sim

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// A Report is the result of a run.
type Report struct {
	Seed   uint64
	Grace  Grace
	Length time.Duration

	Calls         int // that got a token, the repeated ones not counted
	Rejected      int // at first use
	RejectedTwice int // of those, also after Invalidate and a second Token
	Failed        int // calls of Token that returned an error
	Errors        map[string]int
	LongestWait   time.Duration // in Token, the process's pauses not counted

	// Of the rejected ones, those on a node that could not reach the store.
	RejectedCut, RejectedTwiceCut int

	// For the good Members' callers, the process or group with the worst figures,
	// after the first minute and while the platform works: how long Token returned no
	// token, or blocked; the longest such time; and the longest time until a token
	// was accepted.
	Without, LongestWithout, LongestUnused time.Duration

	Asked    int // fetches, whatever their outcome
	Fetches  int // of the nodes that the platform answered with a token
	Issued   int // new tokens, foreign ones included
	Denied   int // with an errcode
	MaxToday int // most answered fetches in a day, foreign ones included
	Foreign  int

	Events                map[string]int // that the Sources reported, by kind
	ReadsPeak, EventsPeak int            // the most in a minute
	BytesPeak             uint64         // the most that one call of Token allocated, if that was measured

	Reads, Writes                  int // cache operations
	Leases, Takeovers, WrittenBack int // leases taken; from another; tokens put back

	// How often and how long the record held a superseded token without saying so,
	// by excuse.
	StaleTimes map[string]int
	StaleFor   map[string]time.Duration

	// Faults that were injected.
	Pauses, Restarts, LateRequests, LostReplies, CacheErrors int
	Flushes, FallBacks, Partitions, Splits, Rotations        int

	Broken     int // invariants, in all
	Violations []Violation
}

func (w *world) finish() {
	r, p := &w.report, &w.platform
	r.Seed, r.Grace, r.Length = w.cfg.Seed, w.cfg.Grace, w.cfg.Length
	w.finishGaps()
	r.ReadsPeak, r.EventsPeak = w.reads.most, w.events.most
	r.Fetches, r.Issued, r.Denied, r.MaxToday = p.answered, len(p.tokens), p.denied, p.maxToday
	if h := &w.watch; h.stale != "" {
		r.StaleFor[h.stale] += time.Since(h.staleSince)
	}
}

// PerMillion is the rejected calls at first use, and those still rejected
// after one retry, per million calls.
func (r *Report) PerMillion() (first, retried float64) {
	calls := float64(max(r.Calls, 1))
	return float64(r.Rejected) * 1e6 / calls, float64(r.RejectedTwice) * 1e6 / calls
}

// FetchesADay returns how often the platform had to answer with a token.
func (r *Report) FetchesADay() float64 { return float64(r.Fetches) / (r.Length.Hours() / 24) }

// Add makes r the sum of runs of the same kind, so that its figures are means.
func (r *Report) Add(o Report) {
	if r.Errors == nil {
		*r = newReport()
		r.Seed, r.Grace = o.Seed, o.Grace
	}
	r.Length += o.Length
	for _, f := range []struct{ to, from *int }{
		{&r.Calls, &o.Calls}, {&r.Rejected, &o.Rejected}, {&r.RejectedTwice, &o.RejectedTwice}, {&r.Failed, &o.Failed},
		{&r.RejectedCut, &o.RejectedCut}, {&r.RejectedTwiceCut, &o.RejectedTwiceCut},
		{&r.Asked, &o.Asked}, {&r.Fetches, &o.Fetches}, {&r.Issued, &o.Issued}, {&r.Denied, &o.Denied}, {&r.Foreign, &o.Foreign},
		{&r.Reads, &o.Reads}, {&r.Writes, &o.Writes}, {&r.Leases, &o.Leases}, {&r.Takeovers, &o.Takeovers}, {&r.WrittenBack, &o.WrittenBack},
		{&r.Pauses, &o.Pauses}, {&r.Restarts, &o.Restarts}, {&r.LateRequests, &o.LateRequests}, {&r.LostReplies, &o.LostReplies},
		{&r.CacheErrors, &o.CacheErrors}, {&r.Flushes, &o.Flushes}, {&r.FallBacks, &o.FallBacks}, {&r.Partitions, &o.Partitions}, {&r.Splits, &o.Splits}, {&r.Rotations, &o.Rotations},
		{&r.Broken, &o.Broken},
	} {
		*f.to += *f.from
	}
	r.MaxToday = max(r.MaxToday, o.MaxToday)
	r.LongestWait = max(r.LongestWait, o.LongestWait)
	r.Without, r.LongestWithout, r.LongestUnused = max(r.Without, o.Without), max(r.LongestWithout, o.LongestWithout), max(r.LongestUnused, o.LongestUnused)
	r.ReadsPeak, r.EventsPeak = max(r.ReadsPeak, o.ReadsPeak), max(r.EventsPeak, o.EventsPeak)
	add(r.Events, o.Events)
	add(r.Errors, o.Errors)
	add(r.StaleTimes, o.StaleTimes)
	add(r.StaleFor, o.StaleFor)
	r.Violations = append(r.Violations, o.Violations...)
}

func add[N int | time.Duration](to, from map[string]N) {
	for k, n := range from {
		to[k] += n
	}
}

// String formats the report, without the violations' traces.
func (r *Report) String() string {
	var b strings.Builder
	first, retried := r.PerMillion()
	fmt.Fprintf(&b, "seed %d, %s, %.1f days: %d calls, %.2f rejected per million (%d), %.2f after one retry (%d), %.2f fetches a day (most in a day %d), longest wait %s\n",
		r.Seed, r.Grace, r.Length.Hours()/24, r.Calls, first, r.Rejected, retried, r.RejectedTwice, r.FetchesADay(), r.MaxToday, r.LongestWait.Round(time.Millisecond))
	fmt.Fprintf(&b, "  without the store: %d rejected, %d after one retry; failed %d\n", r.RejectedCut, r.RejectedTwiceCut, r.Failed)
	fmt.Fprintf(&b, "  platform: %d issued, %d denied, %d foreign; cache: %d reads, %d writes; leases %d, takeovers %d, written back %d\n",
		r.Issued, r.Denied, r.Foreign, r.Reads, r.Writes, r.Leases, r.Takeovers, r.WrittenBack)
	fmt.Fprintf(&b, "  faults: %d pauses, %d restarts, %d late, %d lost replies, %d cache errors, %d flushes, %d fall-backs, %d partitions, %d splits, %d rotations\n",
		r.Pauses, r.Restarts, r.LateRequests, r.LostReplies, r.CacheErrors, r.Flushes, r.FallBacks, r.Partitions, r.Splits, r.Rotations)
	fmt.Fprintf(&b, "  fetches %d, answered or not; without a token %s, at most %s, %s until one was accepted; in a minute %d reads and %d events, of %v\n",
		r.Asked, r.Without.Round(time.Millisecond), r.LongestWithout.Round(time.Millisecond), r.LongestUnused.Round(time.Millisecond), r.ReadsPeak, r.EventsPeak, r.Events)
	for _, k := range slices.Sorted(maps.Keys(r.Errors)) {
		fmt.Fprintf(&b, "  error %s: %d\n", k, r.Errors[k])
	}
	for _, k := range slices.Sorted(maps.Keys(r.StaleTimes)) {
		fmt.Fprintf(&b, "  silently stale, %s: %d times, %s\n", k, r.StaleTimes[k], r.StaleFor[k].Round(time.Second))
	}
	fmt.Fprintf(&b, "  violations: %d\n", r.Broken)
	return b.String()
}
