package protocol

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A store that cannot keep a token loses the lease as well, and what is written back
// then is not a token: the next lease is longer all the same.
func TestLeasesGrowAcrossALostRecord(t *testing.T) {
	for _, length := range []time.Duration{20 * time.Second, 90 * time.Second, 5 * time.Minute} {
		d := newDrive(t, usual, Record{Version: 1, Epoch: "e", Seq: 3, Owed: 2, Lease: "you.1", LeaseFor: length.Milliseconds(), Noted: true})
		d.Begin(false, d.now)
		d.read()
		d.expect(Read)
		d.after(length)
		d.store = Record{}
		d.DidRead(d.store, d.now, d.now)
		d.swap()
		assert.Equal(t, 2, d.store.Owed, "written back")
		assert.Empty(t, d.store.Lease)
		d.swap()
		assert.Equal(t, min(length*3/2, maxLease).Milliseconds(), d.store.LeaseFor)
	}
}

// What this process publishes where the store did not keep what it wrote back may be
// lost as well: the next lease is longer. A token or the end of a lease that it reads
// says that the store keeps records.
func TestLeasesGrowWhereTokensAreLost(t *testing.T) {
	d := newDrive(t, usual, aged("t0", 119*time.Minute+50*time.Second))
	swaps := 0
	swap := func() { // each with a nonce of its own
		swaps++
		st := d.Next(fmt.Sprint("n", swaps), d.now)
		require.Equal(t, Swap, st.Do)
		d.store = st.Next
		d.DidSwap(true, d.now, d.now)
	}
	fetch := func(name string) time.Duration {
		swap()
		length := d.store.LeaseFor
		d.expect(Fetch)
		d.issue(name)
		swap()
		require.Equal(t, name, d.view.copy.Token)
		d.End()
		return time.Duration(length) * time.Millisecond
	}
	begin := func(r Record) { d.store = r; d.Begin(false, d.now); d.read() }
	begin(d.store)
	d.End()
	begin(Record{})
	swap() // written back
	d.End()
	d.after(11 * time.Second) // it has expired
	begin(Record{})
	assert.Equal(t, 12*time.Second, fetch("t1"))
	d.after(3 * time.Hour)
	begin(Record{})
	assert.Equal(t, 18*time.Second, fetch("t2"))

	leased := d.store
	leased.Lease, leased.LeaseFor, leased.Noted = "you.1", 40_000, true
	leased.Token, leased.IssuedAt, leased.ExpiresAt = "", 0, 0
	d.after(3 * time.Hour)
	begin(leased)
	begin(leased.unleased())
	assert.Equal(t, 12*time.Second, fetch("t3"))
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
