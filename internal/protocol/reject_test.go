package protocol

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// holding is a process that has read r and handed its token out.
func holding(t *testing.T, ru Rules, r Record) *drive {
	d := newDrive(t, ru, r)
	d.Begin(false, d.now)
	d.read()
	d.expect(Return)
	d.End()
	return d
}

func TestAgeFromWhichARejectionIsBelieved(t *testing.T) {
	want := []time.Duration{time.Second, 20 * time.Second, 40 * time.Second, 80 * time.Second, 160 * time.Second, 300 * time.Second, 300 * time.Second, 300 * time.Second}
	for early, from := range want {
		for _, age := range []time.Duration{from - time.Millisecond, from} {
			r := aged("t", age) // by the clock of the process that fetched it
			r.Early = early
			p := &Process{Rules: usual}
			p.view.copy, p.view.copySeen = r, clock.Add(-age)
			verdict := p.verdictOn(r, clock)
			assert.Equal(t, age == from, verdict.Believed, "%d before it, age %s", early, age)
			assert.Equal(t, age, verdict.Age)
			p.view.copy = Record{} // has just started
			assert.Equal(t, age == from && early == 0, p.verdictOn(r, clock).Believed)
			assert.Equal(t, early == 0 || age == from, p.verdictOn(r, clock.Add(2*time.Minute)).Believed, "the issuer's clock may be two minutes off")
		}
	}
}

// Where the issuer's clock was ahead, the first rejection is believed at once: a
// short-lived process could not see the token get old. Further ones have to wait.
func TestRejectionOfATokenFromTheFuture(t *testing.T) {
	for _, c := range []struct {
		ahead, seen time.Duration
		early       int
		believed    bool
	}{
		{3 * time.Hour, 0, 0, true},
		{2*time.Minute + time.Second, 50 * time.Millisecond, 0, true},
		{2 * time.Minute, 900 * time.Millisecond, 0, false},
		{2 * time.Minute, time.Second, 0, true},
		{3 * time.Hour, 900 * time.Millisecond, 1, false},
		{3 * time.Hour, 19 * time.Second, 1, false},
		{3 * time.Hour, 20 * time.Second, 1, true},
	} {
		d := holding(t, usual, change(aged("t", -c.ahead-c.seen), func(r *Record) { r.Early = c.early }))
		d.after(c.seen)
		_, decided := d.Reject("t", d.now)
		require.False(t, decided)
		d.Begin(true, d.now)
		d.read()
		if d.Next("n", d.now).Do == Swap {
			d.DidSwap(true, d.now, d.now)
		}
		assert.Equal(t, c.believed, d.End()["t"].Believed, c)
	}
}

func TestReject(t *testing.T) {
	d := holding(t, usual, change(aged("t", time.Hour), func(r *Record) { r.Past = tokenID("before") }))
	verdict, decided := d.Reject("before", d.now)
	assert.True(t, decided)
	assert.True(t, verdict.Believed, "an old token is no longer handed out")
	assert.Equal(t, "t", d.held())

	_, decided = d.Reject("t", d.now)
	assert.False(t, decided)
	assert.Empty(t, d.held(), "withheld until it is decided on")
	assert.True(t, d.Withholds(d.now))
	_, decided = d.Reject("t", d.now)
	assert.False(t, decided)
	d.Begin(true, d.now)
	d.read()
	st := d.expect(Swap)
	assert.Equal(t, Reject, st.Event)
	assert.Equal(t, time.Hour, st.Age)
	assert.Equal(t, Reject, d.DidSwap(true, d.now, d.now))
	d.expect(Return)
	assert.Equal(t, map[string]Verdict{"t": {Believed: true, Age: time.Hour, Early: 1}}, d.End())
	assert.Empty(t, d.held())
	assert.False(t, d.Withholds(d.now))
	verdict, decided = d.Reject("t", d.now)
	assert.True(t, decided)
	assert.True(t, verdict.Believed)
}

// A token that this process has not seen may be newer than its copy: so it reads the
// record before it takes the token for an old one.
func TestRejectionOfATokenNotSeen(t *testing.T) {
	d := holding(t, usual, aged("t1", time.Hour))
	look := func(token string) map[string]Verdict {
		verdict, decided := d.Reject(token, d.now)
		require.False(t, decided)
		assert.Equal(t, Verdict{Believed: true}, verdict, "without a look it is taken for old")
		assert.NotEmpty(t, d.held(), "nothing is withheld")
		d.Begin(true, d.now)
		d.read()
		if d.Next("n", d.now).Do == Swap {
			d.store = d.run.swap.Next
			d.DidSwap(true, d.now, d.now)
			d.expect(Return)
		}
		return d.End()
	}
	d.store = change(aged("t2", 0), func(r *Record) { r.Seq, r.Past = 2, tokenID("t1") })
	d.after(900 * time.Millisecond)
	verdict := look("t2")["t2"]
	assert.Equal(t, Verdict{Age: 900 * time.Millisecond, Young: time.Second, Until: d.now.Add(100 * time.Millisecond)}, verdict)

	d.store = change(aged("t3", 0), func(r *Record) { r.Seq, r.Past = 3, tokenID("t2")+" "+tokenID("t1") })
	d.after(time.Minute)
	assert.Equal(t, map[string]Verdict{"t3": {Believed: true, Age: d.now.Sub(clock), Early: 1}}, look("t3"))
	assert.True(t, d.store.Rejected)
	assert.Empty(t, d.held())

	d = holding(t, usual, aged("t1", time.Hour))
	for range 3 {
		assert.Equal(t, map[string]Verdict{"older": {Believed: true}}, look("older"))
		assert.False(t, d.store.Rejected)
		assert.Equal(t, "t1", d.held())
		for _, age := range []time.Duration{0, usual.Watch() - 1} {
			_, decided := d.after(age).Reject("older", d.now)
			assert.True(t, decided, "remembered")
		}
		d.after(1)
	}
}

// A verdict of "not yet" is remembered until it can change, for at most the watch age.
func TestAVerdictIsRemembered(t *testing.T) {
	r := aged("t", 0)
	r.Early = 2
	d := holding(t, usual, r)
	looks := 0
	for range 100 { // over 50 s
		verdict, decided := d.Reject("t", d.now)
		if !decided {
			looks++
			d.Begin(true, d.now)
			d.read()
			if st := d.Next("n", d.now); st.Do == Swap {
				break
			}
			verdict = d.End()["t"]
		}
		require.False(t, verdict.Believed)
		require.Equal(t, 40*time.Second, verdict.Young)
		require.Equal(t, d.now.Sub(clock), verdict.Age)
		require.LessOrEqual(t, verdict.Until.Sub(d.now), usual.Watch())
		assert.Equal(t, "t", d.held())
		d.after(500 * time.Millisecond)
	}
	assert.InDelta(t, 18, looks, 2)
	assert.Equal(t, 40*time.Second, d.now.Sub(clock))
}

func TestWithheldOnceInAnOutage(t *testing.T) {
	d := holding(t, usual, aged("t", time.Hour))
	flight := func(works bool) {
		d.Begin(true, d.now)
		if works {
			d.read()
			d.Next("n", d.now)
			d.End()
			return
		}
		d.expect(Read)
		d.CacheFailed(false)
		d.expect(Read)
		d.CacheFailed(false)
		d.expect(Fail)
		d.End()
	}
	withheld := func() bool { _, usable := d.Held(d.now); return !usable }
	d.Reject("t", d.now)
	flight(false)
	assert.True(t, withheld())
	d.after(usual.Watch() - 1)
	d.Reject("t", d.now)
	flight(false)
	assert.True(t, withheld())
	d.after(1)
	assert.False(t, withheld(), "for the watch age, from the first report on")
	for range 10 {
		d.Reject("t", d.now)
		d.Reject("another", d.now)
		flight(false)
		assert.False(t, withheld(), "once in an outage")
		d.after(usual.Watch())
	}
	flight(true)
	d.Reject("t", d.now)
	assert.True(t, withheld())
}

// A store that can be read and not written to is down for this purpose.
func TestWithheldWhileTheStoreIsReadOnly(t *testing.T) {
	d := holding(t, usual, aged("t", time.Hour))
	d.Reject("t", d.now)
	for _, judging := range []bool{true, false} { // the second flight has the report still to decide on
		d.Begin(judging, d.now)
		for range 2 {
			d.read()
			d.expect(Swap)
			d.CacheFailed(false)
		}
		d.expect(Fail)
		assert.Empty(t, d.End(), "nothing was decided")
		assert.True(t, d.Withholds(d.now))
		d.after(time.Second)
	}
	assert.Equal(t, "t", d.after(time.Second).held(), "after the watch age")
}

// The token that is rejected is older than the one in hand: it must not come back
// when that is dropped, also if a swap is under way.
func TestRejectionWhileANewerTokenIsInHand(t *testing.T) {
	for _, swapping := range []bool{false, true} {
		d := newDrive(t, usual, aged("old", 116*time.Minute))
		d.fetch("new")
		if swapping {
			d.expect(Swap)
		}
		verdict, decided := d.Reject("old", d.now)
		assert.True(t, decided)
		assert.True(t, verdict.Believed)
		if !swapping {
			d.expect(Swap)
		}
		d.store = change(aged("old", 116*time.Minute), func(r *Record) { r.Lease, r.Seq = "you.1", 4 })
		d.DidSwap(false, d.now, d.now)
		d.after(16 * time.Second)
		d.read()
		assert.True(t, d.expect(Swap).Next.Rejected, "the record learns of it")
		d.DidSwap(true, d.now, d.now)
		assert.Empty(t, d.held())
	}
}

// A token that is not published yet is decided on when the record has it.
func TestRejectionOfAnUnpublishedToken(t *testing.T) {
	d := newDrive(t, usual, aged("old", 116*time.Minute))
	d.fetch("new")
	d.after(16 * time.Second) // its lease has ended, and the copy is handed out
	require.Equal(t, "old", d.held())
	_, decided := d.Reject("new", d.now)
	assert.False(t, decided)
	d.expect(Swap)
	d.swap()
	assert.Equal(t, "new", d.store.Token)
	d.swap()
	assert.True(t, d.store.Rejected)
	d.expect(Swap) // the next lease
	d.CacheFailed(false)
	assert.True(t, d.End()["new"].Believed)
}

func TestRejectionsWithoutTheCache(t *testing.T) {
	ru := usual
	ru.Repeatable = true
	d := holding(t, ru, aged("t1", time.Hour))
	offline := func(want Action) {
		d.Begin(want == Return, d.now)
		for range 2 {
			d.expect(Read)
			d.CacheFailed(false)
		}
		d.expect(want)
	}
	d.Reject("t1", d.now)
	offline(Return)
	assert.Equal(t, map[string]Verdict{"t1": {Believed: true, Age: time.Hour, Early: 1}}, d.End())
	assert.Empty(t, d.held())
	offline(Fetch)
	d.issue("t2")
	d.End()
	assert.Equal(t, "t2", d.held())
	assert.Equal(t, "t1", aged("t1", time.Hour).Token)

	d.after(19 * time.Second)
	d.Reject("t2", d.now)
	offline(Fail)
	verdict := d.End()["t2"]
	assert.Equal(t, Verdict{Age: 19 * time.Second, Young: 20 * time.Second, Early: 1, Until: d.now.Add(time.Second)}, verdict)
	assert.Equal(t, "t2", d.held())

	d.after(time.Second)
	d.Reject("t2", d.now)
	offline(Fetch)
	d.DidFetch(Result{Outcome: Unknown, Err: errOwn}, d.now)
	verdict = d.End()["t2"]
	assert.Equal(t, Verdict{Age: 20 * time.Second, Early: 2, Until: d.now.Add(usual.Fetch)}, verdict)
	assert.Equal(t, "t2", d.held(), "two in a row: the reports may be wrong, and the fetch goes on")
	d.after(usual.Fetch)
	assert.Equal(t, "t2", d.held(), "nor has that brought a better one")
	fresh, stale := d.Ages(d.now)
	assert.True(t, Passed(d.now, fresh) && Passed(d.now, stale), "but the next fetch may")

	d.Begin(false, d.now) // the cache is back, and the record still has t1
	assert.Empty(t, d.read(), "which this process rejected")
	d.swap()
	assert.True(t, d.store.Rejected)
	assert.Equal(t, "t1", d.store.Token)
	assert.Equal(t, 2, d.store.Early)
	assert.Empty(t, d.held())
}

// A report on the copy that a flight did not come to is left to the next one:
// nobody else may ever tell. Other reports are forgotten.
func TestReportsThatAFlightDidNotComeTo(t *testing.T) {
	for _, leaveAlone := range []bool{true, false} {
		d := holding(t, usual, aged("t", time.Hour))
		d.Reject("t", d.now)
		d.Reject("other", d.now)
		d.Begin(true, d.now)
		for st := d.expect(Read); st.Do == Read; st = d.Next("n", d.now) {
			d.CacheFailed(leaveAlone)
		}
		assert.Empty(t, d.End())

		d.after(10*time.Minute).Begin(false, d.now) // the cache is back
		assert.Equal(t, "t", d.held(), "withheld for the watch age only")
		d.read()
		assert.Empty(t, d.held(), "nobody gets it before that is decided")
		assert.Equal(t, Reject, d.swap())
		verdicts := d.End()
		assert.True(t, verdicts["t"].Believed)
		assert.NotContains(t, verdicts, "other")
	}
}

// A rejection is no doubt: a fetch that comes after all that is owed settles it,
// whenever the token before is rejected.
func TestARejectionLeavesNothingMoreOwed(t *testing.T) {
	for _, c := range []struct {
		name     string
		owed     int
		watched  time.Duration // until the rejection
		during   bool          // it comes during the fetch
		doubt    bool          // so does a doubt
		leftOver int
	}{
		{"just before the fetch", 2, usual.verify() - time.Second, false, false, 0},
		{"long before the fetch", 1, time.Second, false, false, 0},
		{"during the fetch", 2, usual.verify(), true, false, 0},
		{"during the fetch, three owed", 3, usual.verify(), true, false, 0},
		{"too soon", 2, usual.verify() - 2*time.Second, true, false, 1},
		{"with a doubt", 2, usual.verify(), true, true, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := change(aged("old", time.Hour), func(r *Record) { r.Owed = c.owed })
			fetching, rejecting := holding(t, usual, r), holding(t, usual, r)
			reject := func() {
				rejecting.store, rejecting.now = fetching.store, fetching.now
				rejecting.Reject("old", rejecting.now)
				rejecting.Begin(true, rejecting.now)
				rejecting.read()
				require.Equal(t, Reject, rejecting.swap())
				rejecting.End()
				fetching.store = rejecting.store
			}
			fetching.after(c.watched)
			if !c.during {
				reject()
				fetching.after(max(usual.verify()-c.watched, 0))
			} else if c.watched < usual.verify() { // it does not wait for that
				fetching.store = change(fetching.store, func(r *Record) { r.ExpiresAt = fetching.now.Add(time.Minute).UnixMilli() })
			}
			fetching.Begin(false, fetching.now)
			fetching.read()
			fetching.swap()
			fetching.expect(Fetch)
			if c.during {
				reject()
			}
			if c.doubt {
				fetching.store.Seq++
			}
			fetching.issue("new")
			fetching.expect(Swap)
			fetching.DidSwap(false, fetching.now, fetching.now)
			fetching.read()
			fetching.swap()
			assert.Equal(t, "new", fetching.store.Token)
			assert.Equal(t, c.leftOver, fetching.store.Owed)
		})
	}
}
