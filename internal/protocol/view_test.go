package protocol

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

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
