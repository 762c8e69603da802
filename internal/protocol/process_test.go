package protocol

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A drive is a Process with a record and a clock, driven step by step.
type drive struct {
	*Process
	t     *testing.T
	now   time.Time
	store Record
}

func newDrive(t *testing.T, ru Rules, r Record) *drive {
	return &drive{&Process{Rules: ru, began: clock.Add(-time.Hour)}, t, clock, r}
}

func (d *drive) after(dur time.Duration) *drive { d.now = d.now.Add(dur); return d }

// expect is Next, which must ask for want.
func (d *drive) expect(want Action) Step {
	d.t.Helper()
	st := d.Next("n", d.now)
	require.Equal(d.t, want, st.Do)
	return st
}

// read expects a Read, and answers it.
func (d *drive) read() string {
	d.t.Helper()
	d.now = d.now.Add(d.expect(Read).Pause)
	return d.DidRead(d.store, d.now, d.now)
}

// swap expects a Swap, and stores it.
func (d *drive) swap() string {
	d.t.Helper()
	d.store = d.expect(Swap).Next
	return d.DidSwap(true, d.now, d.now)
}

func (d *drive) held() string {
	if r, usable := d.Held(d.now); usable {
		return r.Token
	}
	return ""
}

// token is the record of a token of the given age that lives for two hours.
func aged(name string, age time.Duration) Record {
	issued := clock.Add(-age)
	return Record{Version: 1, Epoch: "e", Seq: 1, Token: name, IssuedAt: issued.UnixMilli(), ExpiresAt: issued.Add(2 * time.Hour).UnixMilli()}
}

func (d *drive) issue(name string) {
	d.DidFetch(Result{Outcome: Issued, Token: Record{Token: name, IssuedAt: d.now.UnixMilli(), ExpiresAt: d.now.Add(2 * time.Hour).UnixMilli()}}, d.now)
}

// fetch is a flight up to an answer with a token, which is not published yet.
func (d *drive) fetch(name string) {
	d.t.Helper()
	d.Begin(false, d.now)
	d.read()
	d.swap()
	d.expect(Fetch)
	d.issue(name)
}

func TestAFlightFromNothingToAToken(t *testing.T) {
	d := newDrive(t, usual, Record{})
	d.Begin(false, d.now)
	assert.Empty(t, d.read())
	assert.Empty(t, d.swap())
	st := d.expect(Fetch)
	assert.Equal(t, d.now.Add(12*time.Second), st.Until)
	d.after(300 * time.Millisecond).issue("t1")
	assert.True(t, d.Unpublished())
	assert.Equal(t, "t1", d.held())
	assert.Empty(t, d.swap(), "its own token is none that it adopts")
	assert.False(t, d.Unpublished())
	assert.Equal(t, "t1", d.held())
	d.expect(Return)
	assert.Empty(t, d.End())
	assert.Equal(t, "t1", d.store.Token)
	assert.EqualValues(t, 1, d.store.Seq)
	assert.Empty(t, d.store.Lease)
}

// A record says that a lease is there, although the swap did not.
func TestLeaseOfASwapWithoutReply(t *testing.T) {
	for name, fail := range map[string]func(*drive){
		"false": func(d *drive) { d.DidSwap(false, d.now, d.now) },
		"error": func(d *drive) { d.CacheFailed(false) },
	} {
		d := newDrive(t, usual, Record{})
		d.Begin(false, d.now)
		d.read()
		d.store = d.expect(Swap).Next
		fail(d)
		d.read()
		d.expect(Fetch)
		d.issue("t1")
		stored := d.expect(Swap).Next
		fail(d)
		d.store = stored
		if name == "error" { // the second one: the next flight goes on
			d.expect(Fail)
			assert.Equal(t, "t1", d.held())
			d.End()
			d.Begin(false, d.now)
		}
		assert.Empty(t, d.read(), "its own token is none that it adopts")
		d.expect(Return)
		assert.Equal(t, "t1", d.held())
	}
}

func TestSwapsThatNeverStoreAreRepeatedEverMoreSlowly(t *testing.T) {
	d := newDrive(t, usual, Record{})
	d.Begin(false, d.now)
	reads, last := 0, time.Duration(0)
	st := d.Next("n", d.now)
	for ; st.Do != Fail; st = d.Next("n", d.now) {
		if st.Do == Swap {
			d.DidSwap(false, d.now, d.now)
			continue
		}
		require.Equal(t, Read, st.Do)
		require.GreaterOrEqual(t, st.Pause, last)
		require.LessOrEqual(t, st.Pause, time.Second)
		last = st.Pause
		reads++
		d.after(st.Pause).DidRead(d.store, d.now, d.now)
	}
	assert.True(t, st.Spent)
	assert.Less(t, reads, 90)
	assert.InDelta(t, 60*time.Second, d.now.Sub(clock), float64(time.Second))
	d.End()
}

// The time for which a process stood still is not held against its flight.
func TestAFlightGivesUp(t *testing.T) {
	d := newDrive(t, usual, Record{})
	for _, pause := range []time.Duration{10 * time.Second, time.Hour} {
		d.Begin(false, d.now)
		flights := 0
		for d.Next("n", d.now).Do != Fail {
			d.store.Lease = "you." + string(rune('a'+flights)) // another one each time
			d.DidRead(d.store, d.now, d.now)
			require.Equal(t, Read, d.Next("n", d.now).Do)
			d.after(pause).CacheFailed(false)
			flights++
		}
		assert.Equal(t, 6, flights, "%s", pause)
		d.End()
	}
}

func TestTheCacheFailsTwice(t *testing.T) {
	for name, test := range map[string]struct {
		ru         Rules
		leaveAlone bool
		want       Action
	}{
		"nobody fetches without it":                  {usual, false, Fail},
		"except where a fetch supersedes nothing":    {Rules{Fetch: usual.Fetch, Local: usual.Local, Ahead: usual.Ahead, Repeatable: true}, false, Fetch},
		"but not beside a record of a newer version": {Rules{Fetch: usual.Fetch, Local: usual.Local, Ahead: usual.Ahead, Repeatable: true}, true, Fail},
	} {
		d := newDrive(t, test.ru, Record{})
		d.Begin(false, d.now)
		d.expect(Read)
		if !test.leaveAlone {
			assert.False(t, d.CacheFailed(false), "a single failure is no outage")
			d.expect(Read)
		}
		assert.True(t, d.CacheFailed(test.leaveAlone), name)
		st := d.expect(test.want)
		assert.Zero(t, st.Cause, name)
		if test.want == Fetch {
			assert.Equal(t, d.now.Add(10*time.Second), st.Until)
			d.issue("t1")
			assert.Equal(t, "t1", d.held())
			d.expect(Fail) // and hands the token out
		}
		d.End()
	}
}

func TestAFetchWithoutTheCacheIsMadeOnce(t *testing.T) {
	d := newDrive(t, Rules{Fetch: 10 * time.Second, Local: 45 * time.Second, Ahead: 5 * time.Minute, Repeatable: true}, Record{})
	offline := func() {
		d.Begin(false, d.now)
		for range 2 {
			d.expect(Read)
			d.CacheFailed(false)
		}
	}
	offline()
	d.expect(Fetch)
	d.DidFetch(Result{Outcome: Denied, Code: 45009, Message: "quota", Err: errOwn}, d.now)
	st := d.expect(Fail)
	assert.ErrorIs(t, st.Cause.Err, errOwn)
	assert.Equal(t, 15*time.Minute, st.Until.Sub(d.now))
	d.End()
	d.after(14 * time.Minute)
	offline()
	assert.ErrorIs(t, d.expect(Fail).Cause.Err, errOwn, "its own failure blocks it")
	d.End()
	d.after(2 * time.Minute)
	offline()
	d.expect(Fetch)
	d.DidFetch(Result{Outcome: Issued, Token: Record{Token: "late", ExpiresAt: d.now.UnixMilli()}}, d.now)
	assert.Zero(t, d.expect(Fail).Cause, "expired when it came")
	d.End()
}

// A token that could not be published, and need not be: it is the process's copy.
func TestUnpublishedTokenWithoutTheCache(t *testing.T) {
	ru := usual
	ru.Repeatable = true
	d := newDrive(t, ru, aged("old", 116*time.Minute))
	d.fetch("new")
	for range 2 {
		d.Next("n", d.now)
		d.CacheFailed(false)
	}
	d.expect(Fail)
	d.End()
	assert.Equal(t, "new", d.held())
	assert.False(t, d.Unpublished())
	d.after(time.Minute).Begin(false, d.now)
	d.read()
	d.swap()
	assert.Equal(t, "new", d.store.Token)
	assert.Empty(t, d.store.Lease, "its own lease goes with it")
	assert.Equal(t, tokenID("old"), d.store.Past)
	d.expect(Return)
}

// A denial that the record cannot be told, as the lease is gone, still makes this
// process wait.
func TestDeniedUnderALostLease(t *testing.T) {
	for _, result := range []Result{{Outcome: Denied, Code: 40164, Err: errOwn}, {Outcome: Unsent, Err: errOwn}} {
		d := newDrive(t, usual, Record{})
		d.Begin(false, d.now)
		d.read()
		d.swap()
		d.expect(Fetch)
		d.DidFetch(result, d.now)
		d.expect(Swap)
		d.DidSwap(false, d.now, d.now)
		d.store = Record{}
		d.read()
		assert.ErrorIs(t, d.expect(Fail).Cause.Err, errOwn)
	}
}

func TestAPauseBeforeEachFetchOfAFlight(t *testing.T) {
	d := newDrive(t, usual, Record{})
	d.Begin(false, d.now)
	d.read()
	var pauses []time.Duration
	for range 7 {
		d.swap()
		st := d.expect(Fetch)
		pauses = append(pauses, st.Pause)
		d.after(st.Pause)
		d.DidFetch(Result{Outcome: Issued, Token: Record{Token: "t", IssuedAt: d.now.UnixMilli(), ExpiresAt: d.now.UnixMilli()}}, d.now) // expired when it comes
		d.swap()
	}
	ms := time.Millisecond
	assert.Equal(t, []time.Duration{0, 100 * ms, 200 * ms, 400 * ms, 800 * ms, 1000 * ms, 1000 * ms}, pauses)
}

func TestWaitingForAnotherIsNoFailureOfTheCache(t *testing.T) {
	d := newDrive(t, usual, Record{Version: 1, Epoch: "e", Lease: "you.1", LeaseFor: 12000, Noted: true})
	d.Begin(false, d.now)
	for range 20 {
		d.expect(Read)
		require.False(t, d.CacheFailed(false))
		d.read()
		d.after(20 * time.Millisecond)
	}
}

func change(r Record, how func(*Record)) Record { how(&r); return r }

func TestTheSecretIsAskedForOnceInAWhile(t *testing.T) {
	d := newDrive(t, usual, Record{Version: 1, Epoch: "e", Cooldown: &Cooldown{Until: clock.Add(5 * time.Minute).UnixMilli(), Code: 40125, Scope: "old", Step: 9}})
	d.Fingerprint, d.Changeable = "old", true
	asked := 0
	for range 100 { // flights, in 10 s
		d.Begin(false, d.now)
		d.read()
		st := d.Next("n", d.now)
		if st.Do == Secret {
			asked++
			st = d.Next("n", d.now)
		}
		require.Equal(t, Fail, st.Do)
		d.End()
		d.after(100 * time.Millisecond)
	}
	assert.Equal(t, 5, asked)

	d.Local = 100 * time.Millisecond
	d.after(time.Second).Begin(false, d.now)
	d.read()
	d.expect(Secret)
	d.after(300 * time.Millisecond)
	d.expect(Fail) // once in a flight, however long the function takes
	d.End()
	d.Local = usual.Local
	d.Begin(false, d.after(3*time.Second).now)
	d.read()
	d.expect(Secret)
	d.Fingerprint = "new"
	assert.NotEmpty(t, d.expect(Swap).Next.Lease, "a process with the corrected secret is not blocked")
}

func TestForgive(t *testing.T) {
	d := newDrive(t, usual, Record{})
	d.fail(&d.view, nil, Result{Outcome: Denied, Code: 40164, Err: errOwn}, d.now)
	d.Begin(false, d.now)
	d.read()
	d.expect(Fail)
	d.End()
	d.Forgive()
	d.Begin(false, d.now)
	d.read()
	d.expect(Swap)
}

func TestSeek(t *testing.T) {
	d := newDrive(t, usual, Record{})
	d.Begin(true, d.now)
	d.read()
	d.expect(Return)
	d.Seek()
	d.expect(Swap)
}

// A counter that has come to its limit stays there.
func TestCountersAtTheirLimit(t *testing.T) {
	r := aged("t", time.Hour)
	r.Seq, r.Early = maxSeq, maxCount-1
	d := newDrive(t, usual, r)
	_, decided := d.Reject("t", d.now)
	require.False(t, decided)
	d.Begin(true, d.now)
	d.read()
	st := d.expect(Swap)
	assert.EqualValues(t, int64(maxSeq), st.Next.Seq)
	assert.EqualValues(t, maxCount-1, st.Next.Early)
	assert.True(t, st.Next.sane())

	next := d.fail(&d.view, &Cooldown{Code: 45009, Step: maxCount - 1}, Result{Outcome: Denied, Code: 45009}, d.now)
	assert.EqualValues(t, maxCount-1, next.Step)
	assert.True(t, Record{Version: 1, Epoch: "e", Cooldown: next}.sane())
}
