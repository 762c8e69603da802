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
