//go:build !race

package protocol

import (
	"bytes"
	"crypto/sha256"
	"slices"
	"strings"
	"time"
)

// This file tells whether two worlds are the same but for the names of things.
// TestKeys checks that what it leaves out bears on nothing.

// A keyer writes down all of a world that bears on what can still happen.
// Nonces are numbered in the order in which they are met, and the seqs of an
// epoch counted from the first that is met.
type keyer struct {
	buf           []byte
	names         []string
	seqs          []int64
	tokens        []string // that are met
	pasts         []string
	past, rejects bool
	losses        bool              // the store has lost the record, or can still lose it
	failures      bool              // or a fetch can still fail, or a member that failed is known
	least         []byte            // of the orders so far
	before        []int64           // seqs, before an order
	ids           map[string]string // of tokens
	met           []string          // ids of those that are met
	places        [maxProcs]int     // of the processes in an order
}

type key [16]byte

// key tells worlds apart. past says that the store can still go back.
func (w *world) key(past bool) key {
	k := w.keyer
	k.past, k.rejects, k.buf = past, w.rejects, k.buf[:0]
	k.losses = past || w.losses()
	k.failures = k.losses || w.failures()
	k.names, k.seqs, k.tokens, k.pasts = k.names[:0], k.seqs[:0], k.tokens[:0], k.pasts[:0]
	k.put(bit(past))
	for i := range 1 + bit(w.split) {
		k.record(&w.stores[i].Record)
		k.put(int(w.stores[i].ttl / time.Second))
	}
	if past {
		k.record(&w.prev)
	}
	k.name(w.latest.Token)
	if w.repeatable { // else its life bears on nothing
		k.token(&w.latest)
	}
	k.put(w.leases, int(w.excuse), bit(w.back), bit(w.split), len(w.requests), len(w.casts))
	for _, r := range w.requests {
		if r.by < 0 {
			k.request(r)
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
func (k *keyer) procs(w *world) []byte {
	var about [maxProcs]int
	for i, p := range w.each() {
		about[i] = int(p.phase)<<9 | bit(p.paused)<<8 | p.side<<7 | int(p.debt)<<4
		if c := p.view.claim; c != nil {
			about[i] |= 1<<3 | int(c.Outcome)
		}
	}
	buf, names, tokens, pasts := len(k.buf), len(k.names), len(k.tokens), len(k.pasts)
	k.before, k.least = append(k.before[:0], k.seqs...), k.least[:0]
	for _, order := range orders[w.n] {
		if !slices.IsSortedFunc(order, func(i, j int) int { return about[i] - about[j] }) {
			continue
		}
		k.buf, k.names, k.tokens, k.pasts = k.buf[:buf], k.names[:names], k.tokens[:tokens], k.pasts[:pasts]
		k.seqs = append(k.seqs[:0], k.before...)
		for place, i := range order {
			k.places[i] = place
		}
		for _, i := range order {
			k.proc(w, i)
		}
		k.follow()
		if len(k.least) == 0 || bytes.Compare(k.buf, k.least) < 0 {
			k.least = append(k.least[:0], k.buf...)
		}
	}
	return k.least
}

const (
	leftOut  = 254
	nameless = 255
)

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

func (k *keyer) seq(epoch string, seq int64) {
	i := k.name(epoch)
	if i == nameless {
		return
	}
	if k.seqs[i] < 0 {
		k.seqs[i] = seq
	}
	k.put(int(max(-4, min(seq-k.seqs[i], 4))))
}

func (k *keyer) token(r *Record) {
	k.name(r.Token)
	if r.Token == "" {
		return
	}
	if !slices.Contains(k.tokens, r.Token) {
		k.tokens = append(k.tokens, r.Token)
	}
	left := r.left(noon)
	k.put(int(max(left, 0)/dying), int(r.IssuedAt-noon.Add(left-fresh).UnixMilli()))
}

func (k *keyer) record(r *Record) {
	k.seq(r.Epoch, r.Seq)
	k.token(r)
	k.name(r.Lease)
	k.put(int(r.LeaseFor/1000), r.Owed, r.Early, bit(r.Doubted)<<2|bit(r.Rejected)<<1|bit(r.Noted))
	k.pasts = append(k.pasts, r.Past)
	k.cooldown(r.Cooldown)
}

func (k *keyer) cooldown(c *Cooldown) {
	if c == nil {
		k.put(leftOut)
		return
	}
	until := time.UnixMilli(c.Until)
	k.put(c.Code, c.Step, min(c.Row, 6), bit(c.Member != "")<<3|bit(c.Before != "")<<2|bit(c.Lifted)<<1|bit(c.Member+c.Before != "" && !c.recent(noon)))
	k.until(until)
	k.until(until.Add(modelRules.memberWaits(c)))
}

// party adds which process id is, and whose members.
func (k *keyer) party(w *world, id string, members ...string) {
	by := nameless
	for i, p := range w.each() {
		if id != "" && p.id == id {
			by = k.places[i]
		}
	}
	k.put(by, len(members))
	for _, member := range members {
		of := nameless
		for i, p := range w.each() {
			if p.member() == member {
				of = k.places[i]
			}
		}
		k.put(of)
	}
}

// memberWaits is for how much longer than the others the member that failed waits, at
// most.
func (ru Rules) memberWaits(c *Cooldown) time.Duration {
	pen := ru.penaltyFor(c.cause())
	shared := pen.shared().delay(c.Step)
	wait := max(shared, pen.delay(c.Row))
	if c.Before != "" {
		wait = max(wait, shared+min(max(shared, time.Minute), pen.last/4))
	}
	return wait*5/4 - shared
}

// place is where member is among those that failed; 0: nowhere.
func (c *Cooldown) place(member string) int {
	switch {
	case c == nil:
		return 0
	case c.Member == member:
		return 1
	}
	i := slices.Index(strings.Fields(c.Before), member)
	return i + 1 + bit(i >= 0)
}

// follow adds which of the tokens met the records met come after.
func (k *keyer) follow() {
	k.met = k.met[:0]
	for _, token := range k.tokens {
		id, ok := k.ids[token]
		if !ok {
			id = tokenID(token)
			k.ids[token] = id
		}
		k.met = append(k.met, id)
	}
	for i, past := range k.pasts {
		if past == "" {
			k.put(0)
			continue
		}
		bits := 0
		for j, id := range k.met {
			bits |= bit(strings.Contains(past, id)) << j
		}
		k.put(i, bits, min(int(Record{Past: past}.pastCount()), 4))
	}
}

func (k *keyer) until(t time.Time) { k.put(int(max(t.Sub(noon), 0) / time.Second)) }

func (k *keyer) since(t time.Time, most time.Duration) { k.put(int(min(noon.Sub(t), most) / tick)) }

func (k *keyer) request(r request) {
	k.name(r.lease)
	k.put(int(r.age/tick), int(r.excuse), bit(r.orphan))
}

// view writes down v, but for what bears on nothing here: copyRead, settled and,
// since there is one clock and no cooldown for all outlasts the first jump, when one
// was first seen; and for what the store has left behind. live are the records that it holds or can come to hold.
func (k *keyer) view(w *world, p *proc, v *View, live []*Record) {
	any := func(of func(r *Record) bool) bool { return slices.ContainsFunc(live, of) }
	if v.copy.Token == "" {
		k.put(leftOut, v.copy.Owed)
		if v.copy.Owed > 0 {
			k.seq(v.copy.Epoch, v.copy.Seq)
			k.pasts = append(k.pasts, v.copy.Past)
		}
	} else {
		k.seq(v.copy.Epoch, v.copy.Seq)
		k.token(&v.copy)
		k.put(v.copy.Owed, v.copy.Early, bit(v.copy.Rejected))
		k.pasts = append(k.pasts, v.copy.Past)
		for _, r := range live {
			k.put(bit(v.born == r.Epoch))
		}
		if k.rejects {
			k.since(v.copySeen, minutes)
		} else if !v.copy.expired(noon) { // when the record goes
			k.put(bit(noon.Sub(v.copySeen) >= minutes))
		}
	}
	k.watched(w, p, v, live)
	longer := v.longer
	if longer > 0 && longer <= p.shortest() || !k.failures && v.epoch == w.stores[p.side].Epoch {
		longer = 0 // no lease is shorter, or it is 0 before this process takes one
	}
	k.put(int(longer / time.Second))
	for _, r := range live {
		k.put(bit(longer > 0 && v.epoch == r.Epoch && v.lease != "")) // reading r resets it
	}
	if v.losses > 0 {
		k.put(min(v.losses, 6), bit(noon.Sub(v.lostAt) > time.Hour))
	}
	if any(func(r *Record) bool { return v.epoch == r.Epoch && v.seq+int64(bit(r.Owed > 0)) > r.Seq }) {
		k.seq(v.epoch, v.seq)
		most := watched
		if k.failures { // a process that failed waits twice as long for what is owed
			most = minutes
		}
		k.since(v.seqSeen, most)
	} else {
		k.put(leftOut)
	}
	if v.unkept > 0 {
		k.put(int(min(v.unkept, 3)))
	}
	k.claim(p, v.claim, live)
	if f := v.own; f == nil {
		k.put(leftOut)
	} else {
		k.until(f.at.Add(f.wait))
		if noon.Sub(f.at) < f.wait+time.Hour { // else the next one is a first one
			k.put(f.step, int(f.pen.scope), int(f.pen.last/(10*time.Second)), int(f.wait/time.Second))
		}
	}
	k.memo(v.resort)
}

// shortest is how long each lease lasts at least.
func (ru *Rules) shortest() time.Duration {
	if ru.Repeatable {
		return min(ru.Patience(), ru.lease())
	}
	return ru.lease()
}

// watched adds what v knows of the lease read last, and of the cooldown, to which a
// failure is added if the store drops the record with a lease.
func (k *keyer) watched(w *world, p *proc, v *View, live []*Record) {
	i := -1
	if p.others(v.lease) {
		i = slices.IndexFunc(live, func(r *Record) bool { return v.lease == r.Lease })
	}
	id, member := "", ""
	if k.losses {
		id, member = owner(v.lease)
	}
	switch {
	case i >= 0:
		k.name(v.lease)
		k.since(v.leaseSeen, p.leaseOf(*live[i])+p.announce()+tick)
	case member != "":
		k.party(w, id, member)
	default:
		k.put(leftOut)
	}
	if c := v.cooldown; k.losses && c != nil { // it is written back
		k.cooldown(c)
		k.party(w, c.By, append([]string{c.Member}, strings.Fields(c.Before)...)...)
	} else {
		k.put(leftOut)
	}
}

func (k *keyer) claim(p *proc, c *claim, live []*Record) {
	if c == nil {
		k.put(leftOut)
		return
	}
	k.name(c.lease)
	k.put(int(c.Outcome))
	if c.Outcome != Pending && c.Outcome != Issued {
		return
	}
	k.put(bit(c.kept && p.Repeatable), int(c.ends.Sub(c.asked)/time.Second))
	k.since(c.asked, watched)
	for _, r := range live {
		if r.Lease == c.lease {
			k.put(bit(r.Owed > 1 && c.settles == r.Seq)) // a fetch pays one in any case
		} else {
			k.put(bit(c.base == r.Token))
		}
	}
	k.token(&c.Token)
}

func (k *keyer) memo(m memo) {
	if m.token == "" {
		k.put(leftOut)
		return
	}
	k.name(m.token)
	k.until(m.until)
}

func (k *keyer) proc(w *world, i int) {
	p := w.procs[i]
	k.put(int(p.phase), bit(p.paused), p.side, int(p.debt), bit(p.began.IsZero()))
	k.since(p.began, youth)
	if k.failures {
		k.put(bit(p.brief(noon)))
	}
	live := append(make([]*Record, 0, 8), &w.stores[0].Record)
	if w.split {
		live = append(live, &w.stores[1].Record)
	}
	if k.past {
		live = append(live, &w.prev)
	}
	for i := range w.casts {
		live = append(live, &w.casts[i].next)
	}
	if p.run != nil {
		live = append(live, &p.run.record)
		if p.run.swap != nil {
			live = append(live, &p.run.swap.Next)
		}
	}
	k.view(w, p, &p.view, live)
	for _, r := range live {
		c := r.Cooldown
		k.put(bit(p.owns(r.Lease)), bit(c != nil && c.By == p.id), c.place(p.member()))
		if k.losses && w.members {
			_, member := owner(r.Lease)
			k.put(bit(member == p.member()))
		}
	}
	for _, token := range p.pending {
		k.name(token)
	}
	if p.rejects.row > 0 {
		k.put(int(min(p.rejects.row, 6)), int(min(p.rejects.issues, 3)))
		k.since(p.rejects.at, minutes)
	}
	k.memo(p.withheld)
	k.memo(p.ignored)
	k.put(bit(p.swapFailed)<<1 | bit(p.declined))
	if p.run == nil {
		return
	}
	run := p.run
	k.put(bit(run.verdictsOnly), bit(run.known), bit(run.offline), bit(run.leaveAlone), bit(run.tried), min(run.failures, 2), bit(run.wroteBack && p.view.keepsNone()))
	k.record(&run.record)
	if run.swap != nil {
		k.record(&run.swap.Next)
		k.put(bit(run.swap.Event == Restore), bit(run.swap.take))
		k.view(w, p, &run.swap.after, live)
	}
	switch p.phase {
	case sending:
		k.put(bit(Passed(noon, p.until)))
	case fetching:
		k.put(bit(Passed(noon, p.until)))
		k.request(w.requests[slices.IndexFunc(w.requests, func(r request) bool { return r.by == i })])
	case fetched:
		k.put(bit(Passed(noon, p.until)))
		k.token(&p.reply)
	}
}
