//go:build !race

package protocol

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// TestKeys checks that worlds with one key are one world: that the same worlds
// follow, whichever of them is visited. Else the search leaves something out.
func TestKeys(t *testing.T) {
	type node struct {
		world  *world
		faults int // that may still happen
	}
	after := func(n node) map[key]node {
		next := map[key]node{}
		for _, m := range n.world.moves(n.faults > 0) {
			left := n.faults - bit(m.fault != "")
			next[m.world.key(left > 0)] = node{m.world, left}
		}
		return next
	}
	for _, b := range []bound{
		{1, 1, rules{n: 2, splits: true, members: true}},
		{1, 1, rules{n: 2, rejects: true}},
		{1, endless, rules{n: 1, members: true}},
		{0, endless, rules{n: 2, members: true, givesUp: true}},
		{0, endless, rules{n: 2, repeatable: true}},
	} {
		t.Run(b.String(), func(t *testing.T) {
			first := node{newWorld(b.rules, b.leases), b.faults}
			follow := map[key]map[key]node{first.world.key(b.faults > 0): after(first)}
			queue := []map[key]node{after(first)}
			for ; len(queue) > 0; queue = queue[1:] {
				for k, n := range queue[0] {
					next := after(n)
					was, met := follow[k]
					if !met {
						follow[k] = next
						queue = append(queue, next)
						continue
					}
					require.Len(t, next, len(was))
					for other := range next {
						require.Contains(t, was, other)
					}
				}
			}
			t.Logf("%d states", len(follow))
		})
	}
}
