package servers

import (
	"bufio"
	"net"
	"strings"
	"testing"
	"time"
)

func TestSentinelPromotesAReplica(t *testing.T) {
	t.Parallel()
	g := Sentinel(t)
	setReplicated(t, g.Master(), "k", "2")

	old := g.KillMaster()
	promoted := g.AwaitPromotion(old)
	if got := must(t, promoted, "GET", "k"); got != "v" {
		t.Errorf("the promoted replica has k=%q", got)
	}

	old.Restart()
	await(t, "the old master's return as a replica", func() bool {
		return old.says("role:slave", "INFO", "replication") && old.says("v", "GET", "k")
	})
	if len(g.SentinelAddrs()) != 3 {
		t.Errorf("sentinels: %v", g.SentinelAddrs())
	}
}

func TestClusterMovesASlotAndPromotesAReplica(t *testing.T) {
	t.Parallel()
	g := Cluster(t)
	const key = "wxtoken:token:wx1"
	from := g.MasterFor(key)
	must(t, from, "SET", key, "v")

	var between *Server
	to := g.MoveSlot(key, func() { between = g.MasterFor(key) })
	if between != from || to == from || g.MasterFor(key) != to {
		t.Fatalf("slot went from %s to %s, by way of %s", from.Addr(), to.Addr(), between.Addr())
	}
	if got := must(t, to, "GET", key); got != "v" {
		t.Errorf("the new master has %q", got)
	}
	setReplicated(t, to, key, "1")

	old := g.KillMasterFor(key)
	if old != to {
		t.Errorf("killed %s, not %s", old.Addr(), to.Addr())
	}
	promoted := g.AwaitPromotion(key, old)
	if got := must(t, promoted, "GET", key); got != "v" {
		t.Errorf("the promoted replica has %q", got)
	}
	old.Restart()
	await(t, "the old master's return as a replica", func() bool {
		return old.says("role:slave", "INFO", "replication") && old.says("master_link_status:up", "INFO", "replication")
	})
	if g.MasterFor(key) != promoted || len(g.Addrs()) != 6 {
		t.Errorf("the slot went back to its old master, or a node is missing from %v", g.Addrs())
	}
}

// setReplicated sets key to "v" and waits until that many replicas have it. WAIT
// counts the writes of its own connection, so both commands use one.
func setReplicated(t *testing.T, s *Server, key, replicas string) {
	t.Helper()
	conn, err := net.Dial("tcp", s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(2 * readyTimeout))
	_, _ = conn.Write([]byte("SET " + key + " v\r\nWAIT " + replicas + " 60000\r\n"))
	lines := bufio.NewReader(conn)
	set, _ := lines.ReadString('\n')
	wait, _ := lines.ReadString('\n')
	if strings.TrimSpace(set) != "+OK" || strings.TrimSpace(wait) != ":"+replicas {
		t.Fatalf("SET: %q, WAIT: %q", set, wait)
	}
}
