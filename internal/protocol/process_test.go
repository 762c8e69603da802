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

func TestHeldUnderALease(t *testing.T) {
	d := newDrive(t, usual, aged("old", 116*time.Minute))
	d.Begin(false, d.now)
	assert.Equal(t, Adopt, d.read())
	d.swap()
	d.expect(Fetch)
	d.issue("new")
	assert.Equal(t, "new", d.after(12*time.Second-1).held())
	assert.Equal(t, "old", d.after(1).held(), "another process may have fetched since")
	d.expect(Swap)
	d.CacheFailed(false)
	assert.Equal(t, "new", d.held(), "the cache is to blame: nothing better is to be had")
	assert.Equal(t, "", d.after(3*time.Hour).held())
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

func TestAges(t *testing.T) {
	for name, test := range map[string]struct {
		change       func(*Record)
		fresh, stale time.Duration // after the read
	}{
		"settled":        {func(*Record) {}, 30 * time.Second, 45 * time.Second},
		"due soon":       {func(r *Record) { r.ExpiresAt = clock.Add(310 * time.Second).UnixMilli() }, 10 * time.Second, 45 * time.Second},
		"due already":    {func(r *Record) { r.ExpiresAt = clock.Add(290 * time.Second).UnixMilli() }, 30 * time.Second, 45 * time.Second},
		"owed":           {func(r *Record) { r.Owed = 1 }, usual.Watch() * 2 / 3, usual.Watch()},
		"a lease":        {func(r *Record) { r.Lease = "you.1" }, usual.Watch() * 2 / 3, usual.Watch()},
		"rejected":       {func(r *Record) { r.Rejected = true }, usual.Watch() * 2 / 3, usual.Watch()},
		"no token there": {func(r *Record) { *r = Record{} }, usual.Watch() * 2 / 3, usual.Watch()},
	} {
		r := aged("t", time.Hour)
		test.change(&r)
		p := &Process{Rules: usual}
		p.Begin(false, clock)
		p.DidRead(r, clock, clock.Add(time.Second))
		fresh, stale := p.Ages(clock)
		assert.Equal(t, test.fresh, fresh.Sub(clock), name)
		assert.Equal(t, test.stale, stale.Sub(clock), name)
	}
	t.Run("while it fetches itself", func(t *testing.T) {
		for _, repeatable := range []bool{false, true} {
			d := newDrive(t, usual, aged("t", 116*time.Minute))
			d.Repeatable = repeatable
			d.Begin(false, d.now)
			d.read()
			d.swap()
			fresh, stale := d.Ages(d.now)
			if repeatable {
				assert.Equal(t, usual.Watch(), stale.Sub(clock))
			} else {
				assert.Equal(t, 12*time.Second, fresh.Sub(clock), "nobody else can fetch")
				assert.Equal(t, fresh, stale)
			}
		}
	})
}

func TestTolerable(t *testing.T) {
	d := newDrive(t, usual, aged("t", time.Minute))
	d.Begin(false, d.now)
	d.read()
	assert.True(t, d.Tolerable(clock.Add(224*time.Second)))
	assert.False(t, d.Tolerable(clock.Add(225*time.Second)), "an hour-old copy is not handed out because the cache is slow")
	d.End()
	d.after(time.Hour).Begin(false, d.now)
	assert.False(t, d.Tolerable(d.now))
	d.expect(Read)
	d.CacheFailed(false)
	assert.True(t, d.Tolerable(d.now), "but because it fails")
	d.End()
	assert.False(t, d.Tolerable(d.now))
}

func TestTTL(t *testing.T) {
	h := time.Hour
	for name, test := range map[string]struct {
		r    Record
		want time.Duration
	}{
		"nothing known":                 {Record{}, h},
		"a token":                       {aged("t", h), 2 * h},
		"an expired token":              {aged("t", 5*h), h},
		"a rejected token":              {change(aged("t", h), func(r *Record) { r.Rejected = true }), 2 * h},
		"30 days":                       {Record{Token: "t", ExpiresAt: clock.Add(MaxLifetime).UnixMilli()}, MaxLifetime + h},
		"the clock of another":          {Record{Token: "t", ExpiresAt: clock.Add(3 * MaxLifetime).UnixMilli()}, MaxLifetime + h},
		"a cooldown":                    {Record{Cooldown: &Cooldown{Until: clock.Add(15 * time.Minute).UnixMilli()}}, h + 15*time.Minute},
		"a cooldown beyond the token":   {change(aged("t", 119*time.Minute), func(r *Record) { r.Cooldown = &Cooldown{Until: clock.Add(10 * time.Minute).UnixMilli()} }), h + 10*time.Minute},
		"a cooldown without end":        {Record{Cooldown: &Cooldown{Until: 1<<63 - 1}}, MaxLifetime + h},
		"a lease":                       {Record{Lease: "l", LeaseFor: 12000}, 14 * time.Second},
		"a lease without length":        {Record{Lease: "l"}, 17 * time.Second},
		"a long lease":                  {Record{Lease: "l", LeaseFor: 101250}, 103250 * time.Millisecond},
		"a lease of a day":              {Record{Lease: "l", LeaseFor: 86400000}, 5*time.Minute + 2*time.Second},
		"a lease of a repeatable fetch": {Record{Lease: "l", LeaseFor: 1000}, 3 * time.Second},
		"a lease and a usable token":    {change(aged("t", h), func(r *Record) { r.Lease = "l" }), h},
		"a lease and a token's last 9s": {change(aged("t", 2*h-9*time.Second), func(r *Record) { r.Lease = "l" }), 17 * time.Second},
		"a lease and a rejected token":  {change(aged("t", h), func(r *Record) { r.Lease, r.Rejected = "l", true }), 17 * time.Second},
		"a lease and an expired token":  {change(aged("t", 3*h), func(r *Record) { r.Lease = "l" }), 17 * time.Second},
		"a lease and a cooldown":        {Record{Lease: "l", Cooldown: &Cooldown{Until: clock.Add(h).UnixMilli()}}, 17 * time.Second},
	} {
		assert.Equal(t, test.want, usual.ttl(test.r, clock), name)
	}
	assert.Equal(t, 3400*time.Millisecond, Rules{Fetch: 2 * time.Second}.ttl(Record{Lease: "l"}, clock), "by its own fetch timeout")
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

func TestEnvelope(t *testing.T) {
	key := Sealer{Keys: [][32]byte{{1}}, CacheKey: "k"}
	for name, seal := range map[string]Sealer{"plain": {}, "sealed": key} {
		raw, err := seal.Wrap(map[string]int{"a": 1})
		require.NoError(t, err)
		var got map[string]int
		require.NoError(t, seal.Unwrap(raw, &got), name)
		assert.Equal(t, map[string]int{"a": 1}, got)
		assert.Equal(t, ErrCorrupt, seal.Unwrap(raw, new(int)), "another type")
		if name == "plain" {
			assert.Equal(t, ErrPlain, key.Unwrap(raw, &got))
			assert.NoError(t, Sealer{Keys: key.Keys, Plain: true}.Unwrap(raw, &got))
		} else {
			assert.Equal(t, ErrNoKey, Sealer{}.Unwrap(raw, &got))
			assert.Equal(t, ErrNoKey, Sealer{Keys: key.Keys, CacheKey: "other"}.Unwrap(raw, &got))
		}
	}
	var got int
	for raw, want := range map[string]error{
		"": ErrCorrupt, "1": ErrCorrupt, `{"v":0}`: ErrCorrupt, `{"v":2}`: ErrNewer, `{"v":1}`: ErrCorrupt, `{"v":1,"value":3}`: nil,
	} {
		assert.Equal(t, want, Sealer{}.Unwrap([]byte(raw), &got), raw)
	}
	_, err := Sealer{}.Wrap(func() {})
	assert.Error(t, err)
	assert.Equal(t, ErrCorrupt, Sealer{}.Unwrap(make([]byte, maxEnvelope+1), &got))
}

// However early a repeatable token is to be replaced, it does not come to that
// callers wait at its expiry.
func TestRefreshAtOfRepeatableTokens(t *testing.T) {
	for _, c := range []struct{ ahead, life, want time.Duration }{
		{5 * time.Minute, 2 * time.Hour, 5 * time.Minute},
		{100 * time.Minute, 2 * time.Hour, 5 * time.Minute},
		{24 * time.Hour, 2 * time.Hour, 5 * time.Minute},
		{90 * time.Minute, 2 * time.Hour, 30 * time.Minute},
		{20 * time.Minute, 20 * time.Minute, 5 * time.Minute}, // repeated with what was left of its life
		{20 * time.Minute, 8 * time.Minute, 2 * time.Minute},
		{20 * time.Minute, 6 * time.Minute, 0},
		{5 * time.Minute, 6 * time.Minute, 0},
	} {
		ru := Rules{Ahead: c.ahead, Repeatable: true}
		r := Record{ExpiresAt: c.life.Milliseconds()}
		assert.Equal(t, c.want, time.UnixMilli(r.ExpiresAt).Sub(ru.refreshAt(r)), "%v", c)
	}
}

func TestTheWatchAgeIsCapped(t *testing.T) {
	long := Rules{Local: 24 * time.Hour}
	assert.Equal(t, 5*time.Second, long.Watch())
}

// A process whose own last fetch failed leaves the next refresh to the others.
func TestRefreshAfterAFailure(t *testing.T) {
	r := aged("t", 115*time.Minute+30*time.Second)
	owed := r
	owed.Owed = 1
	for _, test := range []struct {
		record  Record
		fetch   time.Duration
		failed  time.Duration // when, before it is asked
		at      time.Duration
		due     bool
		because string
	}{
		{r, 10 * time.Second, -1, 0, true, "it did not fail"},
		{r, 10 * time.Second, time.Hour, 0, false, "the others go first"},
		{r, 7 * time.Minute, 8 * time.Hour, 0, false, "however large its ample is"},
		{r, 10 * time.Second, time.Hour, 3*time.Minute + 20*time.Second, true, "they did not"},
		{r, 10 * time.Second, 0, 0, true, "in this refresh only the cooldown counts"},
		{owed, 7 * time.Minute, 0, 0, false, "unless nobody knows what came of it"},
		{owed, 7 * time.Minute, 0, 3*time.Minute + 20*time.Second, true, "and the token is about to expire"},
	} {
		p := &Process{Rules: usual}
		p.Fetch = test.fetch
		p.view.copy, p.view.copySeen = test.record, clock.Add(-115*time.Minute-30*time.Second)
		now := clock.Add(test.at)
		if test.failed >= 0 {
			p.view.own = &failure{at: now.Add(-test.failed)}
		}
		assert.Equal(t, test.due, p.due(test.record, now), test.because)
	}
}
