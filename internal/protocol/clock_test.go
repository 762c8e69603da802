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

// A machine may start with its clock in another zone, and be put right later.
func TestCooldownWhenTheClockIsSet(t *testing.T) {
	var ru Rules
	failed := time.Now()
	require.Equal(t, 8*time.Hour, stepped(failed, 8*time.Hour).Round(0).Sub(failed.Round(0)))
	require.Zero(t, stepped(failed, 8*time.Hour).Sub(failed))

	r := Record{Cooldown: penalty{everyone, time.Minute, time.Minute}.after(nil, Result{Outcome: Denied, Code: 45011}, "", failed)}
	v := View{}
	v.Observe(r, failed, failed.Add(time.Millisecond))
	cools := func(r Record, v View, now time.Time) bool {
		_, cools := ru.cooling(r, v, now)
		return cools
	}
	own := View{ownUntil: failed.Add(time.Minute)}
	for _, step := range []time.Duration{0, -8 * time.Hour} {
		assert.True(t, cools(r, v, stepped(failed.Add(59*time.Second), step)))
		assert.False(t, cools(r, v, stepped(failed.Add(61*time.Second), step)), "the clock was set by %s", step)
		assert.True(t, cools(Record{}, own, stepped(failed.Add(59*time.Second), step)))
		assert.False(t, cools(Record{}, own, stepped(failed.Add(61*time.Second), step)))
	}
	// The monotonic clock stands still while a machine is suspended.
	assert.False(t, cools(r, v, stepped(failed.Add(time.Second), time.Hour)))
	assert.False(t, cools(Record{}, own, stepped(failed.Add(time.Second), time.Hour)))
}

// A machine that was suspended must see what happened to its lease meanwhile.
func TestLeaseOfASuspendedMachine(t *testing.T) {
	ru := Rules{Fetch: 10 * time.Second, Local: 45 * time.Second}
	asked := time.Now()
	st := ru.Decide(Record{}, View{}, "nonce", asked)
	require.Equal(t, Take, st.Do)
	awake, later := asked.Add(time.Second), stepped(asked.Add(time.Second), time.Hour)
	assert.Equal(t, Ask, ru.Decide(st.Next, st.After, "", awake).Do)
	late := ru.Decide(st.Next, st.After, "", later)
	assert.Equal(t, Swap, late.Do, "it is too late to fetch")
	assert.Empty(t, late.Next.Lease)

	v := st.After
	v.Fetched(Result{Outcome: Issued, Token: Record{Token: "t", ExpiresAt: asked.Add(2 * time.Hour).UnixMilli()}})
	_, usable := v.Held(awake)
	assert.True(t, usable)
	_, usable = v.Held(later)
	assert.False(t, usable, "others have had time to take the lease over and to fetch")
}
