//go:build !race

package protocol

import (
	"bytes"
	"crypto/sha256"
	"slices"
	"strings"
	"time"
)

// This file lets time pass in a world, and tells whether two worlds are the
// same but for the names of things.

// after is w a while later. What is nearer its end than d has ended, and ages
// stop where the protocol no longer tells them apart. A request or CAS on its
// own does not survive minutes.
func (w *world) after(d time.Duration) *world {
	c := *w
	c.store, c.prev, c.latest, c.lost = older(w.store, d), older(w.prev, d), older(w.latest, d), older(w.lost, d)
	for i, p := range w.procs[:w.n] {
		c.procs[i] = p.after(d)
	}
	c.requests = slices.Clone(w.requests)
	if d > watchTicks {
		c.casts = nil
		c.requests = slices.DeleteFunc(c.requests, func(r request) bool { return r.by < 0 })
	}
	for i, r := range c.requests {
		c.requests[i].age = min((r.age + d).Truncate(tick), watchTicks)
	}
	c.casts = slices.Clone(c.casts)
	for i, k := range c.casts {
		c.casts[i] = cast{older(k.old, d), older(k.next, d)}
	}
	if c.lost.Epoch != "" && !c.knows() {
		c.lost, c.excuse = Record{}, c.excuse|wentBack
	}
	c.absolve()
	return &c
}

func (p *proc) after(d time.Duration) *proc {
	c := *p
	c.record, c.reply = older(p.record, d), older(p.reply, d)
	c.view.age(d)
	if p.st != nil {
		st := *p.st
		st.Next = older(st.Next, d)
		st.After.age(d)
		c.st = &st
	}
	return &c
}

func (v *View) age(d time.Duration) {
	v.Copy = older(v.Copy, d)
	v.copySeen = aged(v.copySeen, d, 2*tick)
	v.leaseSeen = aged(v.leaseSeen, d, leaseTicks)
	v.seqSeen = aged(v.seqSeen, d, watchTicks)
	v.cooledSeen = aged(v.cooledSeen, d, watchTicks)
	if v.claim != nil {
		c := *v.claim
		c.Token = older(c.Token, d)
		c.asked = aged(c.asked, d, watchTicks)
		c.ends = c.asked.Add(modelRules.lease())
		v.claim = &c
	}
	if v.ownUntil = v.ownUntil.Add(-d); !v.ownUntil.After(noon) {
		v.ownUntil = time.Time{}
	}
	if v.cooldown != nil {
		c := v.cooldown.after(d)
		v.cooldown = &c
	}
}

func aged(seen time.Time, d, most time.Duration) time.Time {
	if seen.IsZero() {
		return seen
	}
	return noon.Add(-min((noon.Sub(seen) + d).Truncate(tick), most))
}

func older(r Record, d time.Duration) Record {
	if r.Token != "" {
		left := r.left(noon) - d
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
		r.ExpiresAt = noon.Add(left).UnixMilli()
		r.IssuedAt = noon.Add(left - fresh).UnixMilli()
	}
	if r.Cooldown != nil {
		c := r.Cooldown.after(d)
		r.Cooldown = &c
	}
	return r
}

func (c Cooldown) after(d time.Duration) Cooldown {
	c.Until = max(c.Until-d.Milliseconds(), noon.UnixMilli()-1)
	return c
}

// same reports whether two records have the same bytes.
func same(a, b Record) bool {
	if a.Cooldown != nil && b.Cooldown != nil && *a.Cooldown == *b.Cooldown {
		a.Cooldown, b.Cooldown = nil, nil
	}
	return a == b
}

// A keyer writes down all of a world that bears on what can still happen.
// Nonces are numbered in the order in which they are met, and the seqs of an
// epoch counted from the first that is met.
type keyer struct {
	buf           []byte
	names         []string
	seqs          []int64
	past, refuses bool
}

type key [16]byte

// key tells worlds apart. past says that the store can still go back.
//
//go:norace
func (w *world) key(past bool) key {
	k := keyer{past: past, refuses: w.refuses}
	k.record(&w.store)
	if past {
		k.record(&w.prev)
	}
	k.token(&w.latest)
	k.seq(w.lost.Epoch, w.lost.Seq)
	k.put(w.leases, int(w.excuse), len(w.requests), len(w.casts))
	for _, r := range w.requests {
		if r.by < 0 {
			k.name(r.nonce)
			k.put(int(r.age/tick), int(r.excuse))
		}
	}
	for i := range w.casts {
		c := &w.casts[i]
		k.record(&c.old)
		k.record(&c.next)
	}
	sum := sha256.Sum256(k.procs(w))
	return key(sum[:16])
}

// orders of up to three processes.
var orders = [maxProcs + 1][][]int{
	1: {{0}},
	2: {{0, 1}, {1, 0}},
	3: {{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}},
}

// procs adds the processes, whose numbers mean nothing, in the order that gives
// the least bytes. What they are about tells most orders apart.
//
//go:norace
func (k *keyer) procs(w *world) []byte {
	var about [maxProcs]int
	for i, p := range w.procs[:w.n] {
		about[i] = int(p.phase)<<8 | bit(p.paused)<<7 | int(p.debt)<<4
		if c := p.view.claim; c != nil {
			about[i] |= 1<<3 | int(c.Outcome)
		}
	}
	var least []byte
	for _, order := range orders[w.n] {
		if !slices.IsSortedFunc(order, func(i, j int) int { return about[i] - about[j] }) {
			continue
		}
		one := k.fork()
		for _, i := range order {
			one.proc(w, i)
		}
		if least == nil || bytes.Compare(one.buf, least) < 0 {
			least = one.buf
		}
	}
	return least
}

// fork is a k that can be added to without changing the other.
//
//go:norace
func (k *keyer) fork() *keyer {
	return &keyer{slices.Clone(k.buf), slices.Clone(k.names), slices.Clone(k.seqs), k.past, k.refuses}
}

const (
	leftOut  = 254
	nameless = 255
)

//go:norace
func (k *keyer) put(values ...int) {
	for _, v := range values {
		k.buf = append(k.buf, byte(v))
	}
}

func bit(b bool) int {
	if b {
		return 1
	}
	return 0
}

// name numbers a nonce. A token has the name of the lease that it was fetched
// under, after a t.
//
//go:norace
func (k *keyer) name(s string) int {
	s = strings.TrimPrefix(s, "t")
	i := slices.Index(k.names, s)
	if i < 0 {
		i = len(k.names)
		k.names, k.seqs = append(k.names, s), append(k.seqs, -1)
	}
	if s == "" {
		i = nameless
	}
	k.put(i)
	return i
}

//go:norace
func (k *keyer) seq(epoch string, seq int64) {
	i := k.name(epoch)
	if i == nameless {
		return
	}
	if k.seqs[i] < 0 {
		k.seqs[i] = seq
	}
	k.put(int(max(-3, min(seq-k.seqs[i], 3))))
}

//go:norace
func (k *keyer) token(r *Record) {
	k.name(r.Token)
	k.put(int(max(r.left(noon), 0)/dying), bit(r.Rejected), r.Early)
}

//go:norace
func (k *keyer) record(r *Record) {
	k.seq(r.Epoch, r.Seq)
	k.token(r)
	k.name(r.Lease)
	k.put(r.Owed)
	if c := r.Cooldown; c == nil {
		k.put(leftOut)
	} else {
		k.put(c.Code, c.Step)
		k.until(time.UnixMilli(c.Until))
	}
}

//go:norace
func (k *keyer) until(t time.Time) { k.put(int(max(t.Sub(noon), 0) / time.Second)) }

//go:norace
func (k *keyer) since(t time.Time) { k.put(int(min(noon.Sub(t)/tick, 9))) }

// view writes down v. Of what the store has left behind, nothing can come back
// unless the store goes back: a lease that is gone, a token or doubt with a lower
// seq. live are the records that count. Left out, too, is what decides nothing here:
// failure, copyRead, calm and kept, and, since there is one clock, when a cooldown
// was first seen.
//
//go:norace
func (k *keyer) view(v *View, live []*Record) {
	matters := func(of func(r *Record) bool) bool { return k.past || slices.ContainsFunc(live, of) }
	if at := &v.Copy; matters(func(r *Record) bool { return at.Epoch == r.Epoch && at.Seq >= r.Seq }) {
		k.seq(at.Epoch, at.Seq)
		k.token(at)
	} else {
		k.put(leftOut)
	}
	if k.refuses && matters(func(r *Record) bool { return v.Copy.Token == r.Token || v.Copy.Epoch == r.Epoch && v.Copy.Seq >= r.Seq }) {
		k.since(v.copySeen)
	} else {
		k.put(leftOut)
	}
	if v.lease != "" && matters(func(r *Record) bool { return v.lease == r.Lease }) {
		k.name(v.lease)
		k.since(v.leaseSeen)
	} else {
		k.put(leftOut)
	}
	if matters(func(r *Record) bool { return v.epoch == r.Epoch && v.seq+int64(bit(r.Owed > 0)) > r.Seq }) {
		k.seq(v.epoch, v.seq)
		k.since(v.seqSeen)
	} else {
		k.put(leftOut)
	}
	if c := v.claim; c == nil {
		k.put(leftOut)
	} else {
		k.name(c.nonce)
		k.put(int(c.Outcome))
		for _, r := range live {
			k.put(int(max(-3, min(c.settles-r.Seq, 3))))
		}
		k.put(bit(c.late()))
		k.token(&c.Token)
	}
	k.until(v.ownUntil)
	k.put(v.ownStep)
}

//go:norace
func (k *keyer) proc(w *world, i int) {
	p := w.procs[i]
	k.put(int(p.phase), bit(p.paused), int(p.debt))
	live := []*Record{&w.store, &w.prev, &p.record, &p.reply}
	if !k.past {
		live[1] = live[0]
	}
	for i := range w.casts {
		live = append(live, &w.casts[i].next)
	}
	k.view(&p.view, live)
	switch p.phase {
	case heard:
		k.record(&p.reply)
		return
	case swapping, swapped:
		k.record(&p.st.Next)
		k.put(bit(p.stored), bit(p.st.Event == Restore), p.st.After.ownStep)
		k.until(p.st.After.ownUntil)
		k.put(bit(p.st.After.claim != nil))
	case sending:
		k.since(p.view.claim.asked)
	case fetching:
		r := w.request(p.view.claim)
		k.put(int(r.age/tick), int(r.excuse))
	case fetched:
		k.token(&p.reply)
	}
	k.record(&p.record)
}
