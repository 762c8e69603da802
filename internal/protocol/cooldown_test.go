package protocol

import (
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// How long a process that failed waits, and the others, at first and after many
// failures in a row, of several processes. 0: the others do not wait.
func TestPenalties(t *testing.T) {
	const s, m = time.Second, time.Minute
	type waits struct{ own, ownLast, others, othersLast time.Duration }
	type failed struct {
		name   string
		result Result
		want   waits
	}
	denied := func(want waits, codes ...int) (list []failed) {
		for _, code := range codes {
			list = append(list, failed{fmt.Sprint("errcode ", code), Result{Outcome: Denied, Code: code}, want})
		}
		return list
	}
	tests := []failed{
		{"unknown outcome", Result{Outcome: Unknown}, waits{5 * s / 4, 10 * m, s, 8 * m}},
		{"not sent", Result{Outcome: Unsent}, waits{s, 30 * s, 0, 0}},
	}
	tests = append(tests, denied(waits{m, 10 * m, s, 8 * m}, 40001, 40125)...) // the others with the same secret
	tests = append(tests, denied(waits{m, 5 * m, 0, 0}, 40164, 61004, 89501, 89503)...)
	tests = append(tests, denied(waits{10 * m, 10 * m, 0, 0}, 89506, 89507)...)
	tests = append(tests, denied(waits{15 * m, 30 * m, s, 24 * m}, 45009)...)
	tests = append(tests, denied(waits{m, m, s, 48 * s}, 45011)...)
	tests = append(tests, denied(waits{5 * s / 4, 30 * s, s, 24 * s}, -1, -1000)...)
	tests = append(tests, denied(waits{10 * m, 10 * m, s, 8 * m}, 40002, 40013, 40243, 41002, 41004, 43002, 50004, 50007, 61024)...)
	tests = append(tests, denied(waits{5 * s, 10 * m, s, 8 * m}, 1, -2, 99999)...)
	for _, test := range tests {
		p := &Process{Rules: usual, id: "me"}
		p.Fingerprint = "5a5a"
		now, cool := clock, (*Cooldown)(nil)
		var got waits
		for n := range 15 {
			cool = p.fail(&p.view, cool, test.result, now)
			got.ownLast, got.othersLast = p.view.own.wait, 0
			if cool != nil {
				got.othersLast = time.UnixMilli(cool.Until).Sub(now)
				require.Equal(t, "me", cool.By, test.name)
				cool.By = "you" // as if another one had failed in between
			}
			if n == 0 {
				got.own, got.others = got.ownLast, got.othersLast
			}
			now = now.Add(p.view.own.wait)
		}
		assert.Equal(t, test.want, got, test.name)
	}
}

// A process's own steps begin again after a success, or an hour without failures.
func TestOwnStepsBeginAnew(t *testing.T) {
	waitAfter := func(between func(d *drive)) time.Duration {
		d := newDrive(t, usual, Record{})
		for range 8 {
			d.fail(&d.view, nil, Result{Outcome: Unknown}, d.now)
			d.after(d.view.own.wait)
		}
		between(d)
		d.fail(&d.view, nil, Result{Outcome: Unknown}, d.now)
		return d.view.own.wait
	}
	assert.Equal(t, 256*time.Second, waitAfter(func(*drive) {}))
	assert.Equal(t, 256*time.Second, waitAfter(func(d *drive) { d.after(time.Hour - 1) }))
	assert.Equal(t, 1250*time.Millisecond, waitAfter(func(d *drive) { d.after(time.Hour) }))
	assert.Equal(t, 1250*time.Millisecond, waitAfter(func(d *drive) {
		d.fetch("t")
		d.swap()
		d.End()
	}))
}

// After a failure of another kind, a process's own wait starts where it is not much
// shorter than the one before, but for long waits: those say little of the new one.
func TestStepAfterAnotherKind(t *testing.T) {
	const s, m = time.Second, time.Minute
	seconds := penalty{suspect, s, 10 * m}
	for _, test := range []struct {
		pen   penalty
		wait  time.Duration // of the failure before
		step  int
		first time.Duration // to wait now
	}{
		{seconds, 0, 0, s},
		{seconds, s / 2, 0, s},
		{seconds, s, 1, 2 * s},
		{seconds, 5 * s / 4, 2, 4 * s},
		{seconds, 2 * s, 2, 4 * s},
		{seconds, 16 * s, 5, 32 * s},
		{seconds, 16*s + 1, 6, 64 * s},
		{seconds, 30 * s, 6, 64 * s}, // the first that is a minute
		{seconds, 10 * m, 6, 64 * s},
		{seconds, 24 * time.Hour, 6, 64 * s},
		{penalty{suspect, 5 * s, 10 * m}, 10 * m, 4, 80 * s},
		{penalty{suspect, 5 * s, 10 * m}, 5 * s, 1, 10 * s},
		{penalty{suspect, s, 30 * s}, 8 * s, 4, 16 * s},
		{penalty{suspect, s, 30 * s}, 10 * m, 5, 30 * s},
		{penalty{oneself, m, 5 * m}, 10 * m, 0, m},
		{penalty{suspect, m, m}, 10 * m, 0, m},
		{penalty{oneself, 10 * m, 10 * m}, s, 0, 10 * m},
		{penalty{suspect, 15 * m, 30 * m}, 30 * m, 0, 15 * m},
	} {
		step := test.pen.after(test.wait)
		assert.Equal(t, test.step, step, "%v after %s", test.pen, test.wait)
		assert.Equal(t, test.first, test.pen.delay(step), "%v after %s", test.pen, test.wait)
	}
}

func TestOwnWaitsAfterAnotherKind(t *testing.T) {
	d := newDrive(t, usual, Record{})
	fail := func(result Result) time.Duration {
		d.fail(&d.view, nil, result, d.now)
		d.after(d.view.own.wait)
		return d.view.own.wait
	}
	address, unknown, busy := Result{Outcome: Denied, Code: 89507}, Result{Outcome: Unknown}, Result{Outcome: Denied, Code: -1}
	assert.Equal(t, 10*time.Minute, fail(address))
	assert.Equal(t, 64*time.Second, fail(unknown))
	assert.Equal(t, 128*time.Second, fail(unknown), "and grows from there")
	assert.Equal(t, 30*time.Second, fail(busy))
	assert.Equal(t, 64*time.Second, fail(unknown))
	d.after(time.Hour)
	assert.Equal(t, 1250*time.Millisecond, fail(busy), "nothing is left of it after an hour")
}

// What all wait for grows only if another process fails. If that is about another kind
// of failure, or another secret, it grows up to a minute; a process that failed last as
// well, in another way, begins again.
func TestSharedSteps(t *testing.T) {
	step := func(prev Cooldown, result Result) int {
		p := &Process{Rules: usual, id: "me"}
		p.Fingerprint = "5a5a"
		return p.fail(&p.view, &prev, result, clock).Step
	}
	prev := Cooldown{Code: 45009, Step: 4, By: "me"}
	assert.Equal(t, 4, step(prev, Result{Outcome: Denied, Code: 45009}), "that may be the fault of one, too")
	assert.Equal(t, 5, step(Cooldown{Code: 45009, Step: 4, By: "you"}, Result{Outcome: Denied, Code: 45009}))
	assert.Equal(t, 0, step(prev, Result{Outcome: Denied, Code: -1}))
	assert.Equal(t, 0, step(prev, Result{Outcome: Unknown}))
	assert.Equal(t, 5, step(Cooldown{Code: 41002, Step: 4, By: "you"}, Result{Outcome: Denied, Code: 40013}), "of one kind")
	assert.Equal(t, 4, step(Cooldown{Code: 41002, Step: 4, By: "me"}, Result{Outcome: Denied, Code: 40013}))
	assert.Equal(t, 5, step(Cooldown{Step: 4}, Result{Outcome: Unknown}), "of version 0.1, which does not say whose")
	assert.Equal(t, 5, step(Cooldown{Code: 40125, Step: 4, Scope: "5a5a"}, Result{Outcome: Denied, Code: 40125}))
	assert.Equal(t, 5, step(Cooldown{Code: 40125, Step: 4, Scope: "old"}, Result{Outcome: Denied, Code: 40125}))
	assert.Equal(t, 6, step(Cooldown{Code: 40125, Step: 7, Scope: "old"}, Result{Outcome: Denied, Code: 40125}))
	assert.Equal(t, 5, step(Cooldown{Code: 45009, Step: 4, By: "you"}, Result{Outcome: Unknown}))
	assert.Equal(t, 6, step(Cooldown{Code: 45009, Step: 7, By: "you"}, Result{Outcome: Unknown}))
	assert.Equal(t, 5, step(Cooldown{Step: 9, By: "you"}, Result{Outcome: Denied, Code: -1}), "30 s is its most")
	assert.Equal(t, 0, step(Cooldown{Code: 45009, Step: 4, By: "you", Lifted: true}, Result{Outcome: Unknown}))
}

// What another member's success leaves of a cooldown is for the member that failed.
func TestLifted(t *testing.T) {
	of := func(member string, ago time.Duration) *Cooldown {
		return &Cooldown{Until: clock.Add(-ago).UnixMilli(), Code: 41002, Step: 2, By: "you", Member: member, Row: 3}
	}
	p := &Process{Rules: usual, id: "me"}
	p.Member = func() string { return "m" }
	assert.Nil(t, p.lifted(nil, clock))
	assert.Nil(t, p.lifted(of("", 0), clock), "of a process that was not brief")
	assert.Nil(t, p.lifted(of("m", 0), clock), "its own")
	for _, ago := range []time.Duration{-24 * time.Hour, 0, time.Hour} {
		before := of("other", ago)
		want := *before
		want.Until -= 3000 // as if step were 0: past for version 0.1, which takes it to be in force
		want.Step, want.Lifted = 0, true
		assert.Equal(t, &want, p.lifted(before, clock))
		assert.False(t, before.Lifted, "the one that was read stays as it is")
	}
	assert.Nil(t, p.lifted(of("other", time.Hour+time.Millisecond), clock))
	p.Member = nil
	assert.Nil(t, p.lifted(of("me", 0), clock), "without a member it is its id")
	assert.NotNil(t, p.lifted(of("m", 0), clock))
}

// A failure that concerns one process leaves the cooldown of others as it is.
func TestFailureOfOneProcessLeavesTheCooldown(t *testing.T) {
	p := &Process{Rules: usual, id: "me"}
	prev := &Cooldown{Code: 45009, Step: 4, By: "you"}
	for _, result := range []Result{{Outcome: Unsent}, {Outcome: Denied, Code: 40164}, {Outcome: Denied, Code: 40125}} {
		assert.Same(t, prev, p.fail(&p.view, prev, result, clock))
	}
}

func TestOwnFailureNearExpiry(t *testing.T) {
	for left, want := range map[time.Duration]time.Duration{4 * time.Minute: 75 * time.Second, 6 * time.Minute: 10 * time.Minute, 0: 10 * time.Minute} {
		p := &Process{Rules: usual}
		p.fail(&p.view, nil, Result{Outcome: Denied, Code: 89507}, clock)
		st, cools := p.cooling(aged("t", 2*time.Hour-left), clock)
		assert.True(t, cools)
		assert.Equal(t, want, st.Until.Sub(clock), "with %s left", left)
	}
}

// Whatever another process wrote, and whenever, nobody waits for longer than was meant.
func TestCooldownsOfOtherClocks(t *testing.T) {
	for _, until := range []int64{math.MaxInt64, math.MinInt64, 0, clock.UnixMilli(), clock.Add(10 * time.Second).UnixMilli(), clock.Add(time.Hour).UnixMilli()} {
		for _, code := range []int{0, -1, 45009, 45011, 41002, 7} {
			p := &Process{Rules: usual}
			c := &Cooldown{Until: until, Code: code, Step: maxCount - 1}
			p.view.cooldown, p.view.cooledSeen = c, clock
			st, cools := p.cooling(Record{Cooldown: c}, clock)
			if until <= clock.UnixMilli() {
				assert.False(t, cools)
				continue
			}
			require.True(t, cools)
			wait := st.Until.Sub(clock)
			assert.Positive(t, wait)
			assert.LessOrEqual(t, wait, map[int]time.Duration{0: 10 * time.Minute, -1: 30 * time.Second, 45009: 30 * time.Minute, 45011: time.Minute, 41002: 10 * time.Minute, 7: 10 * time.Minute}[code])
			assert.LessOrEqual(t, wait, time.UnixMilli(until).Sub(clock))
		}
	}
}

// That holds for the member that failed, too, and whatever a third one says of when it
// saw the cooldown.
func TestCooldownsOfAMemberByOtherClocks(t *testing.T) {
	last := map[int]time.Duration{0: 10 * time.Minute, -1: 30 * time.Second, 45009: 30 * time.Minute, 45011: time.Minute, 41002: 10 * time.Minute, 7: 10 * time.Minute}
	for _, until := range []int64{math.MaxInt64, math.MinInt64, 0, clock.Add(-9 * time.Second).UnixMilli(), clock.UnixMilli(), clock.Add(10 * time.Second).UnixMilli(), clock.Add(time.Hour).UnixMilli()} {
		for code, most := range last {
			for _, seen := range []int64{0, 1, clock.Add(-time.Second).UnixMilli(), clock.UnixMilli(), clock.UnixMilli() + 1, math.MaxInt64} {
				for _, c := range []Cooldown{{}, {Row: 1}, {Row: 2}, {Row: maxCount - 1}, {Row: 3, Step: 2}, {Row: 1, Step: maxCount - 1}, {Row: 5, Lifted: true}} {
					c.Until, c.Code, c.Member = until, code, "m"
					p := &Process{Rules: usual, began: clock}
					p.Member = func() string { return "m" }
					p.view.cooldown, p.view.cooledSeen = &c, clock
					r := Record{Cooldown: &c, Seen: seen}
					if st, cools := p.cooling(r, clock); cools {
						assert.Positive(t, st.Until.Sub(clock))
						assert.LessOrEqual(t, st.Until.Sub(clock), most, "%+v", c)
					}
					_, cools := p.cooling(r, clock.Add(most))
					assert.False(t, cools, "%+v", c)
				}
			}
		}
	}
}

// Who met the failure says what it was, and not only what the record has of it.
func TestCauseOfACooldown(t *testing.T) {
	p := &Process{Rules: usual, id: "me"}
	c := p.fail(&p.view, nil, Result{Outcome: Unknown, Err: errOwn}, clock)
	r := Record{Cooldown: c}
	st, _ := p.cooling(r, clock)
	assert.ErrorIs(t, st.Cause.Err, errOwn)
	p.view.own.wait = 0 // only the shared one is left
	p.view.cooledSeen = clock
	st, _ = p.cooling(r, clock)
	assert.ErrorIs(t, st.Cause.Err, errOwn)
	other := &Process{Rules: usual, view: View{observed: observed{cooledSeen: clock}}}
	st, _ = other.cooling(r, clock)
	assert.ErrorContains(t, st.Cause.Err, "no answer that could be understood; see the log of the process that made it")
	st, _ = other.cooling(Record{Cooldown: &Cooldown{Until: math.MaxInt64, Code: 45009, Message: "quota"}}, clock)
	assert.Equal(t, Result{Outcome: Denied, Code: 45009, Message: "quota"}, st.Cause)
}
