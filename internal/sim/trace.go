package sim

import (
	"fmt"
	"strings"
	"time"
)

// An entry is one line of the trace, formatted only when it is printed.
type entry struct {
	at    time.Time
	node  int // -1: none
	what  string
	rec   *record
	token string
}

// A ring keeps the last entries.
type ring struct {
	entries [120]entry
	next    int
}

func (w *world) trace(n *node, what string, rec *record, token string) {
	id := -1
	if n != nil {
		id = n.id
	}
	e := entry{time.Now(), id, what, rec, token}
	if w.cfg.Log != nil {
		fmt.Fprintln(w.cfg.Log, e.line(w.start))
	}
	r := &w.watch.ring
	r.entries[r.next%len(r.entries)] = e
	r.next++
}

// lines formats what the ring holds, oldest first.
func (r *ring) lines(start time.Time) []string {
	var lines []string
	for i := max(0, r.next-len(r.entries)); i < r.next; i++ {
		lines = append(lines, r.entries[i%len(r.entries)].line(start))
	}
	return lines
}

func (e *entry) line(start time.Time) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%14s ", e.at.Sub(start).Round(time.Millisecond))
	if e.node >= 0 {
		fmt.Fprintf(&b, "node %-3d ", e.node)
	} else {
		b.WriteString("         ")
	}
	b.WriteString(e.what)
	if n := number(e.token); n >= 0 {
		fmt.Fprintf(&b, " token %d", n)
	} else if e.token != "" {
		b.WriteString(" " + e.token)
	}
	if e.rec != nil {
		b.WriteString(" " + e.rec.String())
	}
	return b.String()
}

func (r *record) String() string {
	s := fmt.Sprintf("{seq %d token %d owed %d", r.Seq, number(r.Token), r.Owed)
	if r.Lease != "" {
		s += " lease " + r.Lease[:min(6, len(r.Lease))]
	}
	if r.Rejected {
		s += " rejected"
	}
	if len(r.Cooldown) > 0 {
		s += " cooldown " + string(r.Cooldown)
	}
	return s + "}"
}

// A Violation is a broken invariant and what led to it.
type Violation struct {
	Rule  string // I1 … I5 as in docs/design.md, or what else is wrong
	Text  string
	At    time.Duration // since the start
	Trace []string
}

func (v Violation) String() string {
	return fmt.Sprintf("%s at %s: %s\n\t%s", v.Rule, v.At, v.Text, strings.Join(v.Trace, "\n\t"))
}

const tracedViolations = 3 // of each rule; the others are only counted

func (w *world) violation(rule, text string) {
	w.report.Broken++
	seen := 0
	for _, v := range w.report.Violations {
		if v.Rule == rule {
			seen++
		}
	}
	if seen < tracedViolations {
		w.report.Violations = append(w.report.Violations,
			Violation{rule, text, time.Since(w.start), w.watch.ring.lines(w.start)})
	}
}
