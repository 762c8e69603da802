package protocol

import (
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// stepped is t as a wall clock that was set by d would have shown it: the
// monotonic reading stays. A time.Time begins with a bit for "has a monotonic
// reading", 33 bits of seconds and 30 of nanoseconds.
func stepped(t time.Time, d time.Duration) time.Time {
	*(*uint64)(unsafe.Pointer(&t)) += uint64(d/time.Second) << 30
	return t
}

// A machine may start with its clock in another zone, and correct it later.
func TestCooldownWhenTheClockIsSet(t *testing.T) {
	failed := time.Now()
	require.Equal(t, 8*time.Hour, stepped(failed, 8*time.Hour).Round(0).Sub(failed.Round(0)))
	require.Zero(t, stepped(failed, 8*time.Hour).Sub(failed))

	other, self := &Process{Rules: usual}, &Process{Rules: usual}
	shared := Record{Version: 1, Epoch: "e"}
	met := &Cooldown{Code: 45011, Step: 5, By: "you"} // then this one waits for the minute of that quota, and the others for 48 s
	shared.Cooldown = self.fail(&self.view, met, Result{Outcome: Denied, Code: 45011, Err: errOwn}, failed)
	other.Begin(false, failed)
	other.DidRead(shared, failed, failed.Add(time.Millisecond))
	for name, test := range map[string]struct {
		process *Process
		record  Record
		wait    time.Duration
	}{
		"of another": {other, shared, 48 * time.Second},
		"its own":    {self, Record{}, time.Minute},
	} {
		cools := func(now time.Time) bool { _, cools := test.process.cooling(test.record, now); return cools }
		for _, step := range []time.Duration{0, -8 * time.Hour} {
			assert.True(t, cools(stepped(failed.Add(test.wait-time.Second), step)), name)
			assert.False(t, cools(stepped(failed.Add(test.wait+time.Second), step)), "%s, the clock was set by %s", name, step)
		}
		// The monotonic clock stands still while a machine is suspended.
		assert.False(t, cools(stepped(failed.Add(time.Second), time.Hour)), name)
	}
}

// A machine that was suspended must see what happened to its lease meanwhile.
func TestLeaseOfASuspendedMachine(t *testing.T) {
	asked := time.Now()
	p := &Process{Rules: usual}
	p.Begin(false, asked)
	require.Equal(t, Read, p.Next("n", asked).Do)
	p.DidRead(Record{}, asked, asked)
	require.Equal(t, Swap, p.Next("n", asked).Do)
	p.DidSwap(true, asked, asked)
	awake, later := asked.Add(time.Second), stepped(asked.Add(time.Second), time.Hour)
	require.Equal(t, Fetch, p.Next("n", awake).Do)
	late := p.Next("n", later)
	assert.Equal(t, Swap, late.Do, "it is too late to fetch")
	assert.Empty(t, late.Next.Lease)

	p.DidFetch(Result{Outcome: Issued, Token: Record{Token: "t", ExpiresAt: asked.Add(2 * time.Hour).UnixMilli()}}, awake)
	_, usable := p.Held(awake)
	assert.True(t, usable)
	_, usable = p.Held(later)
	assert.False(t, usable, "others have had time to take the lease over and to fetch")
}

func TestAMemoEndsByEitherClock(t *testing.T) {
	until := time.Now()
	m := memo{"t", until}
	before := until.Add(-time.Minute)
	assert.True(t, m.holds("t", before))
	assert.False(t, m.holds("other", before))
	assert.False(t, m.holds("t", until))
	assert.False(t, m.holds("t", stepped(before, time.Hour)))
	assert.True(t, m.holds("t", stepped(before, -time.Hour)))
	assert.False(t, m.holds("t", stepped(until, -time.Hour)))
	assert.False(t, memo{"", until}.holds("", before))
}
