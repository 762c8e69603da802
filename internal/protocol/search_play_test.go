//go:build !race

package protocol

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// What the search found, as short stories.

// play does one deed after the other, each told as in a trace.
func play(t *testing.T, w *world, deeds ...string) *world {
	t.Helper()
	for _, told := range deeds {
		moves := w.moves(true)
		i := slices.IndexFunc(moves, func(m move) bool { return m.deed.String() == told })
		require.GreaterOrEqual(t, i, 0, "cannot happen now: %s", told)
		w = moves[i].world
	}
	return w
}

func TestDoubtOutlivesTheRecord(t *testing.T) {
	w := play(t, newWorld(rules{n: 1}, endless),
		"P1 reads",
		"P1 takes the lease",
		"P1 gets no reply to its fetch",
		"the store loses the record",
		"P1 swaps in vain",
		"P1 reads",
		"P1 adds to what is owed",
		"a moment passes",
		"P1 reads",
		"P1 takes the lease",
		"P1 has its fetch answered",
		"P1 publishes its token",
		"a late request lands",
	)
	assert.NotEqual(t, w.latest.Token, w.stores[0].Token)
	assert.Positive(t, w.stores[0].Owed)
}

func TestDoubtIsRestoredWithTheToken(t *testing.T) {
	w := play(t, newWorld(rules{n: 1}, endless),
		"P1 reads",
		"P1 takes the lease",
		"P1 has its fetch answered",
		"P1 publishes its token",
		"tokens come near their end",
		"P1 reads",
		"P1 takes the lease",
		"P1 gets no reply to its fetch",
		"P1 gives the lease back",
	)
	doubt := w.stores[0].Owed
	w = play(t, w, "the store goes back", "P1 reads", "P1 gives the lease back")
	assert.Equal(t, doubt, w.stores[0].Owed)
}

func TestFetchUnderWayDoesNotPayForARestoredToken(t *testing.T) {
	w := play(t, newWorld(rules{n: 2, splits: true}, endless),
		"P1 reads",
		"P2 reads",
		"P1 is alone with another master",
		"P1 takes the lease",
		"P2 takes the lease",
		"P1 has its fetch answered",
		"P2 has its fetch answered",
		"P2 publishes its token",
		"the other master wins",
		"P2 reads",
		"P2 writes its newer token back",
		"P1 swaps in vain",
		"P1 reads",
		"P1 publishes its token",
	)
	assert.NotEqual(t, w.latest.Token, w.stores[0].Token)
	assert.Positive(t, w.stores[0].Owed)
}

func TestDoubtWithoutATokenIsKnown(t *testing.T) {
	w := play(t, newWorld(rules{n: 2}, endless),
		"P1 reads",
		"P2 reads",
		"P1 takes the lease",
		"P1 gets no reply to its fetch",
		"P1 gives the lease back",
		"the store loses the record",
		"P2 takes the lease",
		"P2 has its fetch answered",
		"P2 publishes its token",
		"a late request lands",
	)
	assert.NotEqual(t, w.latest.Token, w.stores[0].Token)
	w = play(t, w, "P1 reads", "P1 adds to what is owed")
	assert.Positive(t, w.stores[0].Owed)
}

func TestDoubtWithoutATokenIsKnownWhenTheStoreWentBack(t *testing.T) {
	w := play(t, newWorld(rules{n: 2}, endless),
		"P1 reads",
		"P2 reads",
		"P1 takes the lease",
		"the store loses the record",
		"P2 takes the lease",
		"P2 has its fetch answered",
		"P1 has its fetch answered",
		"P1 swaps in vain",
		"P1 reads",
		"P1 adds to what is owed",
		"the store goes back",
		"P2 publishes its token",
	)
	assert.NotEqual(t, w.latest.Token, w.stores[0].Token)
	w = play(t, w, "P1 reads", "P1 adds to what is owed")
	assert.Positive(t, w.stores[0].Owed)
}

func TestDoubtIsKnownInAnotherEpoch(t *testing.T) {
	w := play(t, newWorld(rules{n: 2}, endless),
		"P1 reads",
		"P1 takes the lease",
		"P1 has its fetch answered",
		"P1 publishes its token",
		"tokens come near their end",
		"P1 reads",
		"P1 takes the lease",
		"P1 gets no reply to its fetch",
		"P1 gives the lease back",
		"the store loses the record",
		"P2 reads",
		"P2 takes the lease",
		"P2 has its fetch answered",
		"P2 publishes its token",
		"a late request lands",
	)
	assert.NotEqual(t, w.latest.Token, w.stores[0].Token)
	assert.Zero(t, w.stores[0].Owed)
	w = play(t, w, "P1 reads", "P1 adds to what is owed")
	assert.Positive(t, w.stores[0].Owed)
}

func TestDoubtOutlivesATokenThatIsDropped(t *testing.T) {
	w := play(t, newWorld(rules{n: 1}, endless),
		"P1 reads",
		"P1 takes the lease",
		"P1 gets no reply to its fetch",
		"P1 gives the lease back",
		"a moment passes",
		"P1 reads",
		"P1 takes the lease",
		"P1 has its fetch answered, and is paused before the token is there",
		"13 s pass",
		"13 s pass", // the store drops the record
		"P1 wakes up in time after all",
		"P1 swaps in vain",
		"P1 reads",
		"P1 adds to what is owed",
		"P1 takes the lease",
		"P1 has its fetch answered",
		"P1 publishes its token",
		"a late request lands",
	)
	assert.NotEqual(t, w.latest.Token, w.stores[0].Token)
	assert.Positive(t, w.stores[0].Owed)
}

func TestDoubtIsKnownBesideAnExpiredCopy(t *testing.T) {
	w := play(t, newWorld(rules{n: 2}, endless),
		"P1 reads",
		"P1 takes the lease",
		"P1 has its fetch answered",
		"P1 publishes its token",
		"tokens expire",
		"P1 reads",
		"P1 takes the lease, and is paused before it fetches",
		"13 s pass",
		"13 s pass", // the store drops the record
		"P1 wakes up and has no reply",
		"P1 swaps in vain",
		"P1 reads",
		"P1 adds to what is owed",
		"the store loses the record",
		"P2 reads",
		"P2 takes the lease",
		"P2 has its fetch answered",
		"P2 publishes its token",
		"a late request lands",
		"P1 reads",
		"P1 adds to what is owed",
	)
	assert.NotEqual(t, w.latest.Token, w.stores[0].Token)
	assert.Positive(t, w.stores[0].Owed)
}

func TestDoubtIsKnownWhenTheStoreWentBackBehindIt(t *testing.T) {
	w := play(t, newWorld(rules{n: 2}, endless),
		"P1 reads",
		"P1 takes the lease",
		"P2 reads",
		"P1 has its fetch answered",
		"P1 publishes its token",
		"tokens come near their end",
		"P1 reads",
		"P2 reads",
		"P1 takes the lease",
		"the store goes back",
		"P2 takes the lease",
		"P2 has its fetch answered",
		"P1 has its fetch answered",
		"P1 swaps in vain",
		"P1 reads",
		"P1 adds to what is owed",
		"the store goes back",
		"P2 publishes its token",
	)
	assert.NotEqual(t, w.latest.Token, w.stores[0].Token)
	assert.Zero(t, w.stores[0].Owed)
	w = play(t, w, "P1 reads", "P1 adds to what is owed")
	assert.Positive(t, w.stores[0].Owed)
}

func TestTokenThatWasWrittenBackIsNotPublishedAgain(t *testing.T) {
	w := play(t, newWorld(rules{n: 2}, endless),
		"P1 reads",
		"P1 takes the lease",
		"P1 has its fetch answered",
		"P1 gets no reply to its CAS",
		"a late CAS takes effect",
		"P2 reads",
		"the store goes back",
		"P2 reads",
		"P2 writes its newer token back",
		"P1 reads",
	)
	owed := w.stores[0].Owed
	require.Positive(t, owed)
	w = play(t, w, "P1 gives the lease back")
	assert.Equal(t, owed, w.stores[0].Owed)
}

func TestOwnerOfAnAbandonedLeaseIsNoted(t *testing.T) {
	begun := []string{
		"P1 reads",
		"P1 takes the lease",
		"P2 reads",
		"P1 crashes and restarts",
		"13 s pass",
	}
	for name, deeds := range map[string][]string{
		"taken over": {"P2 reads", "P2 takes the lease over"},
		"dropped":    {"a moment passes", "P2 reads", "P2 takes the lease"},
	} {
		t.Run(name, func(t *testing.T) {
			w := play(t, newWorld(rules{n: 2, members: true}, endless), slices.Concat(begun, deeds)...)
			c := w.stores[0].Cooldown
			require.NotNil(t, c)
			assert.Equal(t, "a", c.Member)
			assert.False(t, c.Lifted)
			assert.Equal(t, noon.UnixMilli(), c.Until, "the lease took longer than the others wait")
		})
	}
}
