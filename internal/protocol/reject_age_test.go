package protocol

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The store has lost the record, and the copy is rejected before it is written back.
func TestRejectionOfATokenThatTheStoreLost(t *testing.T) {
	for _, c := range []struct {
		age  time.Duration
		want Verdict
	}{
		{time.Hour, Verdict{Believed: true, Age: time.Hour, Early: 1}},
		{300 * time.Millisecond, Verdict{Age: 300 * time.Millisecond, Young: time.Second, Until: clock.Add(700 * time.Millisecond)}},
	} {
		d := holding(t, usual, aged("t", c.age))
		d.store = Record{}
		_, decided := d.Reject("t", d.now)
		require.False(t, decided)
		d.Begin(true, d.now)
		d.read()
		assert.Equal(t, Lost, d.swap())
		assert.Equal(t, c.want, d.End()["t"])
		assert.Equal(t, "t", d.store.Token)
		assert.Equal(t, c.want.Believed, d.store.Rejected)
		assert.Equal(t, c.want.Early, d.store.Early)
		assert.Equal(t, 1, d.store.Owed)
	}
}

// By a clock that is behind each token is old. One process believes its second rejection
// 20 s after the first at the earliest, whatever the record says.
func TestRejectionsInARowOfOneProcess(t *testing.T) {
	d := holding(t, usual, aged("t1", time.Hour))
	verdict := func(token string) Verdict {
		_, decided := d.Reject(token, d.now)
		require.False(t, decided)
		d.Begin(true, d.now)
		d.read()
		if d.Next("n", d.now).Do == Swap {
			d.DidSwap(true, d.now, d.now)
		}
		return d.End()[token]
	}
	require.True(t, verdict("t1").Believed)
	d.store = change(aged("t2", time.Hour), func(r *Record) { r.Seq, r.Past = 2, tokenID("t1") })
	d.after(5 * time.Second)
	age := time.Hour + 5*time.Second
	assert.Equal(t, Verdict{Age: age, Young: age + 15*time.Second, Early: 1, Until: d.now.Add(usual.Watch())}, verdict("t2"))
	d.after(15*time.Second - 1)
	assert.False(t, verdict("t2").Believed)
	d.after(usual.Watch())
	assert.True(t, verdict("t2").Believed)
}

// The space grows with the tokens that a process first sees after a rejection, and
// starts again an hour after one.
func TestSpaceOfTheRejectionsOfOneProcess(t *testing.T) {
	p := Process{Rules: usual}
	seen := 0
	see := func(n int) {
		for range n {
			seen++
			p.observe(change(aged(fmt.Sprint("t", seen), time.Minute), func(r *Record) { r.Seq = int64(seen) }), false, clock, clock)
		}
	}
	expect := func(want time.Duration, at time.Time) { t.Helper(); assert.Equal(t, want, p.rejects.rest(p.Fetch, at)) }
	see(9)
	expect(0, clock)
	p.rejects.count(clock)
	expect(20*time.Second, clock)
	see(1)
	expect(20*time.Second, clock)
	see(2)
	expect(60*time.Second, clock)
	see(147)
	expect(2000*time.Second, clock) // 100 are counted

	p.rejects.count(clock.Add(time.Hour))
	expect(40*time.Second, clock.Add(time.Hour))
	see(1)
	p.rejects.count(clock.Add(2*time.Hour + 1))
	expect(20*time.Second, clock.Add(2*time.Hour+1))
}

// However far ahead the clock of the issuer is, a further rejection in a row is not
// believed before this process has seen the token get old.
func TestRejectionOfATokenOfAnotherCentury(t *testing.T) {
	for _, years := range []int{1, 100, 300, 5000} {
		r := aged("t", 0)
		r.IssuedAt, r.Early = clock.AddDate(years, 0, 0).UnixMilli(), 1
		r.ExpiresAt = r.IssuedAt + (2 * time.Hour).Milliseconds()
		d := newDrive(t, usual, r)
		_, decided := d.Reject("t", d.now)
		require.False(t, decided)
		d.Begin(true, d.now)
		d.read()
		st := d.expect(Swap)
		assert.False(t, st.Next.Rejected, "%d years ahead", years)
		assert.Equal(t, d.now.UnixMilli(), st.Next.Seen, "%d years ahead", years)
	}
}
