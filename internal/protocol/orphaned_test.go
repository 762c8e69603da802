package protocol

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestOwnerOfALease(t *testing.T) {
	for lease, want := range map[string][2]string{
		"":         {"", ""},
		"you":      {"you", ""}, // as version 0.1 wrote it
		"you.n":    {"you", ""},
		"you.n.":   {"you", ""},
		"you.n.m":  {"you", "m"},
		"you..m":   {"you", "m"},
		"you.n.m.": {"you", "m."},
	} {
		id, member := owner(lease)
		assert.Equal(t, want, [2]string{id, member}, lease)
	}
}

// The failure of a process that was killed has the kind of the last one of its member,
// and what is in force for all processes stays so.
func TestCooldownOfAnAbandonedLease(t *testing.T) {
	at := clock.UnixMilli()
	first := &Cooldown{Until: at, Message: unanswered, By: "you", Member: "m"}
	second := *first
	second.Step = 1
	after := func(c Cooldown) *Cooldown { c.Before = "n"; return &c }
	for name, test := range map[string]struct{ prev, want *Cooldown }{
		"none before":             {nil, first},
		"without member":          {&Cooldown{Until: at, Code: 45009, By: "you"}, &second},
		"another member":          {&Cooldown{Until: at, Code: 45009, By: "she", Member: "n", Row: 3}, after(second)},
		"another member, lifted":  {&Cooldown{Until: at, By: "she", Member: "n", Row: 3, Lifted: true}, after(*first)},
		"another of many":         {&Cooldown{Until: at, By: "she", Member: "n", Step: 4}, &Cooldown{Until: at + 20_000, Message: unanswered, By: "you", Member: "m", Before: "n", Step: 5}},
		"the most of many":        {&Cooldown{Until: at, Member: "n", Step: maxCount - 1}, &Cooldown{Until: at + 48_000, Message: unanswered, By: "you", Member: "m", Before: "n", Step: maxCount - 1}},
		"the fifth":               {&Cooldown{Until: at, Member: "n", Before: "o p m", Row: 3}, &Cooldown{Until: at, Message: unanswered, By: "you", Member: "m", Before: "n o p", Step: 1}},
		"an hour before":          {&Cooldown{Until: clock.Add(-time.Hour).UnixMilli(), Member: "m", Row: 3}, first},
		"another, an hour before": {&Cooldown{Until: clock.Add(-time.Hour).UnixMilli(), Member: "n", Step: 3}, first},
		"less before":             {&Cooldown{Until: clock.Add(-time.Hour).UnixMilli() + 1, Member: "m"}, &Cooldown{Until: at, By: "you", Member: "m", Row: 1}},
		"a clock ahead":           {&Cooldown{Until: clock.Add(8 * time.Hour).UnixMilli(), Member: "m", Row: 1}, &Cooldown{Until: at, By: "you", Member: "m", Row: 2}},
		"a secret":                {&Cooldown{Until: at, Code: 40125, Message: "wrong", Scope: "5a5a", Step: 2, Member: "m"}, &Cooldown{Until: at, Code: 40125, Message: "wrong", Scope: "5a5a", Step: 2, By: "you", Member: "m", Row: 1}},
		"lifted":                  {&Cooldown{Until: at, Code: 7, Member: "m", Row: 5, Lifted: true}, &Cooldown{Until: at, Code: 7, By: "you", Member: "m", Row: 6}},
		"the longest row":         {&Cooldown{Until: at, Code: 7, Member: "m", Row: maxCount - 1}, &Cooldown{Until: at, Code: 7, By: "you", Member: "m", Row: maxCount - 1}},
	} {
		before := Cooldown{}
		if test.prev != nil {
			before = *test.prev
		}
		p := Process{Rules: usual}
		assert.Equal(t, test.want, p.orphaned("you.n.m", test.prev, clock), name)
		if test.prev != nil {
			assert.Equal(t, before, *test.prev, "the one that was read stays as it is")
		}
		assert.Nil(t, p.orphaned("you.n", test.prev, clock))
		assert.Nil(t, p.orphaned("", test.prev, clock))
	}
}

// watching is a process of the member m that has just started, and has seen the lease of
// another of its processes in r.
func watching(t *testing.T, r Record) *drive {
	r.Version, r.Epoch, r.Lease, r.LeaseFor, r.Noted = 1, "e", "you.n.m", 12000, true
	d := newDrive(t, usual, r)
	d.began = d.now
	d.Member = func() string { return "m" }
	d.Begin(false, d.now)
	d.read()
	d.expect(Read)
	d.after(14 * time.Second)
	return d
}

// drop lets the store drop the record, and the process see that.
func (d *drive) drop() {
	d.store = Record{}
	d.DidRead(d.store, d.now, d.now)
}

func TestADroppedLeaseIsRememberedUntilARecordIsThere(t *testing.T) {
	twice := &Cooldown{Until: clock.UnixMilli(), By: "she", Member: "m", Row: 1}
	d := watching(t, Record{Cooldown: twice})
	d.drop()
	for range 3 { // swaps that are not stored
		note := d.expect(Swap).Next
		require.Empty(t, note.Lease)
		require.NotNil(t, note.Cooldown)
		assert.Equal(t, 2, note.Cooldown.Row, "it is counted once")
		d.DidSwap(false, d.now, d.now)
		d.after(10 * time.Millisecond).read()
	}
	d.swap()
	st := d.expect(Fail)
	assert.Equal(t, 15*time.Second, st.Until.Sub(clock), "2 s after it failed, which was a second before that was seen")
	assert.ErrorContains(t, st.Cause.Err, "the last fetch failed")

	d = watching(t, Record{Cooldown: twice})
	d.drop()
	d.expect(Swap)
	d.DidSwap(false, d.now, d.now)
	d.store = Record{Version: 1, Epoch: "f", Seq: 1} // another process was first
	d.read()
	assert.Nil(t, d.expect(Swap).Next.Cooldown, "what the record says counts")
	d.DidSwap(false, d.now, d.now)
	d.DidRead(Record{}, d.now, d.now) // which is lost, too, and had no lease
	assert.Nil(t, d.expect(Swap).Next.Cooldown)
}

// A takeover that was not stored has noted nothing: if the store drops the record then,
// the failure is counted once.
func TestADroppedLeaseThatWasNotTakenOver(t *testing.T) {
	d := watching(t, Record{Cooldown: &Cooldown{Until: clock.UnixMilli(), By: "she", Member: "m", Row: 1}})
	d.DidRead(d.store, d.now, d.now)
	assert.Equal(t, 2, d.expect(Swap).Next.Cooldown.Row)
	d.DidSwap(false, d.now, d.now)
	d.drop()
	assert.Equal(t, 2, d.expect(Swap).Next.Cooldown.Row)
}

// A lease that is given back is no failure, and a cooldown is waited for as before.
func TestCooldownOfALeaseThatIsGivenBack(t *testing.T) {
	d := watching(t, Record{Cooldown: &Cooldown{Until: clock.Add(time.Minute).UnixMilli(), By: "she", Member: "n", Step: 5}})
	first := d.view.leaseSeen
	d.DidRead(d.store.unleased(), d.now, d.now)
	st := d.expect(Fail)
	assert.Equal(t, 32*time.Second, st.Until.Sub(first), "since it saw that first")
}

// The row of a member ends with its next token, as far as this process knows.
func TestADroppedLeaseAfterTheMemberHasFetched(t *testing.T) {
	d := newDrive(t, usual, Record{Version: 1, Epoch: "e", Cooldown: &Cooldown{Until: clock.UnixMilli(), Code: 41002, By: "she", Member: "m", Row: 2}})
	d.Begin(false, d.now)
	d.read()
	d.End()
	d.store = Record{Version: 1, Epoch: "e", Seq: 1, Token: "t", IssuedAt: clock.UnixMilli(), ExpiresAt: clock.Add(3 * time.Second).UnixMilli()}
	d.after(time.Second).Begin(false, d.now)
	d.read()
	d.End()
	d.store.Lease, d.store.LeaseFor, d.store.Noted = "you.n.m", 12000, true
	d.after(3*time.Second).Begin(false, d.now)
	d.read()
	d.expect(Read)
	d.after(14 * time.Second).drop()
	c := d.expect(Swap).Next.Cooldown
	require.NotNil(t, c)
	assert.Zero(t, c.Row)
	assert.Zero(t, c.Code)
}

// What the store dropped may be written back: with the failure.
func TestADroppedLeaseBesideACopy(t *testing.T) {
	for name, r := range map[string]Record{
		"of what is owed":     {Seq: 3, Owed: 2},
		"of a rejected token": change(aged("t", time.Hour), func(r *Record) { r.Rejected, r.Early = true, 1 }),
	} {
		d := watching(t, r)
		d.drop()
		d.swap()
		require.NotNil(t, d.store.Cooldown, name)
		assert.Equal(t, "m", d.store.Cooldown.Member, name)
		assert.Equal(t, r.Token, d.store.Token, name)
		assert.Equal(t, max(r.Owed, 1), d.store.Owed, name)
		d.swap()
		assert.Equal(t, "n.n.m", d.store.Lease, name)
		assert.NotNil(t, d.store.Cooldown, name)
	}
}

// A member whose processes are killed in each fetch is soon asked to wait for long,
// however it is found out.
func TestAMemberThatIsKilledInEachFetch(t *testing.T) {
	for name, dropped := range map[string]bool{"taken over": false, "dropped": true} {
		store, now, fetches := Record{}, clock, 0
		for now.Sub(clock) < time.Hour {
			d := newDrive(t, usual, store)
			d.began, d.now = now, now
			d.Member = func() string { return "m" }
			d.Begin(false, d.now)
			d.read()
		life:
			for steps := 0; d.now.Sub(now) < time.Minute; steps++ {
				require.Less(t, steps, 1000, name)
				switch st := d.Next("n", d.now); st.Do {
				case Read:
					d.after(max(st.Pause, 100*time.Millisecond))
					if dropped && d.store.Lease != "" && d.now.Sub(d.view.leaseSeen) > 11*time.Second {
						d.store = Record{}
					}
					d.DidRead(d.store, d.now, d.now)
				case Swap:
					d.store = st.Next
					d.DidSwap(true, d.now, d.now)
				case Fetch:
					fetches++
					break life // killed
				default:
					break life
				}
			}
			store, now = d.store, d.now.Add(time.Second)
		}
		assert.LessOrEqual(t, fetches, 20, name)
		assert.GreaterOrEqual(t, fetches, 10, name)
	}
}
