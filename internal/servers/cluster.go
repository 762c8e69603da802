package servers

import (
	"fmt"
	"os/exec"
	"slices"
	"strings"
)

// ClusterGroup is a Redis Cluster of three masters with one replica each, which
// promotes a replica when its master has been silent for about a second.
type ClusterGroup struct {
	Nodes []*Server

	tb TB
}

// Cluster starts a cluster and waits until every node considers it healthy.
func Cluster(tb TB) *ClusterGroup {
	tb.Helper()
	g := &ClusterGroup{tb: tb}
	create := []string{"--cluster-yes", "--cluster-replicas", "1", "--cluster", "create"}
	for range 6 {
		// A node also listens on its port + 10000. A replica that lags is promoted
		// anyway.
		node := Redis(tb, "--cluster-enabled", "yes", "--cluster-node-timeout", "1000",
			"--cluster-replica-validity-factor", "0", "--repl-diskless-sync-delay", "0")
		g.Nodes = append(g.Nodes, node)
		create = append(create, node.Addr())
	}
	if out, err := exec.Command("redis-cli", create...).CombinedOutput(); err != nil {
		tb.Fatalf("servers: create cluster: %v\n%s", err, out)
	}
	await(tb, "a healthy cluster", func() bool {
		for _, node := range g.Nodes {
			if !g.healthy(node) {
				return false
			}
		}
		return true
	})
	return g
}

// healthy reports whether node sees all slots served, and three masters and three
// replicas, itself in sync.
func (g *ClusterGroup) healthy(node *Server) bool {
	masters, replicas := 0, 0
	for _, n := range node.clusterNodes() {
		if n.master {
			masters++
		} else {
			replicas++
		}
	}
	role, _ := node.cli("INFO", "replication")
	return masters == 3 && replicas == 3 && node.says("cluster_state:ok", "CLUSTER", "INFO") &&
		(strings.Contains(role, "role:master") || strings.Contains(role, "master_link_status:up"))
}

// Addrs returns the addresses for a cluster client.
func (g *ClusterGroup) Addrs() []string {
	addrs := make([]string, len(g.Nodes))
	for i, node := range g.Nodes {
		addrs[i] = node.Addr()
	}
	return addrs
}

// MasterFor returns the master that claims key's slot; nil while there is none.
func (g *ClusterGroup) MasterFor(key string) *Server {
	for _, node := range g.Nodes {
		slot, err := node.cli("CLUSTER", "KEYSLOT", key)
		if err != nil {
			continue
		}
		for _, n := range node.clusterNodes() {
			if n.myself && n.master && n.serves(slot) {
				return node
			}
		}
	}
	return nil
}

// KillMasterFor kills the master of key's slot and returns it. A later Restart brings
// it back as a replica.
func (g *ClusterGroup) KillMasterFor(key string) *Server {
	g.tb.Helper()
	master := g.awaitMaster(key, nil)
	master.Kill()
	return master
}

// AwaitPromotion waits until another node than old serves key's slot, and returns it.
func (g *ClusterGroup) AwaitPromotion(key string, old *Server) *Server {
	g.tb.Helper()
	return g.awaitMaster(key, old)
}

func (g *ClusterGroup) awaitMaster(key string, not *Server) *Server {
	g.tb.Helper()
	var master *Server
	await(g.tb, "a master for "+key, func() bool {
		master = g.MasterFor(key)
		return master != nil && master != not && master.says("cluster_state:ok", "CLUSTER", "INFO")
	})
	return master
}

// MoveSlot moves key's slot and all its keys to another master while clients
// continue, and returns the new master. during, which may be nil, is called when both
// masters know of the move and no key has moved: clients are then redirected with ASK
// if the key is absent.
func (g *ClusterGroup) MoveSlot(key string, during func()) *Server {
	g.tb.Helper()
	from := g.awaitMaster(key, nil)
	slot := must(g.tb, from, "CLUSTER", "KEYSLOT", key)
	var to *Server
	for _, n := range from.clusterNodes() {
		if n.master && !n.myself && !n.failed {
			to = g.node(n.port)
		}
	}
	if to == nil {
		g.tb.Fatalf("servers: no other master to move slot %s to", slot)
	}
	fromID, toID := must(g.tb, from, "CLUSTER", "MYID"), must(g.tb, to, "CLUSTER", "MYID")

	must(g.tb, to, "CLUSTER", "SETSLOT", slot, "IMPORTING", fromID)
	must(g.tb, from, "CLUSTER", "SETSLOT", slot, "MIGRATING", toID)
	if during != nil {
		during()
	}
	for {
		keys := strings.Fields(must(g.tb, from, "CLUSTER", "GETKEYSINSLOT", slot, "100"))
		if len(keys) == 0 {
			break
		}
		move := []string{"MIGRATE", "127.0.0.1", to.portString(), "", "0", "5000", "KEYS"}
		must(g.tb, from, append(move, keys...)...)
	}
	must(g.tb, to, "CLUSTER", "SETSLOT", slot, "NODE", toID)
	must(g.tb, from, "CLUSTER", "SETSLOT", slot, "NODE", toID)
	return to
}

func (g *ClusterGroup) node(port string) *Server {
	i := slices.IndexFunc(g.Nodes, func(s *Server) bool { return s.portString() == port })
	if i < 0 {
		return nil
	}
	return g.Nodes[i]
}

// clusterNode is a line of CLUSTER NODES.
type clusterNode struct {
	port                   string
	myself, master, failed bool
	slots                  []string // "5" or "0-5460"
}

// clusterNodes returns the cluster as this node sees it; empty if it does not answer.
func (s *Server) clusterNodes() []clusterNode {
	said, err := s.cli("CLUSTER", "NODES")
	if err != nil {
		return nil
	}
	var nodes []clusterNode
	for line := range strings.Lines(said) {
		// id ip:port@busport[,hostname] flags master ping pong epoch link slot...
		f := strings.Fields(line)
		if len(f) < 8 {
			continue
		}
		addr, _, _ := strings.Cut(f[1], "@")
		flags := strings.Split(f[2], ",")
		nodes = append(nodes, clusterNode{
			port:   addr[strings.LastIndex(addr, ":")+1:],
			myself: slices.Contains(flags, "myself"),
			master: slices.Contains(flags, "master"),
			failed: slices.Contains(flags, "fail"),
			slots:  f[8:],
		})
	}
	return nodes
}

func (n clusterNode) serves(slot string) bool {
	var want, first, last int
	_, _ = fmt.Sscan(slot, &want)
	for _, r := range n.slots {
		if k, _ := fmt.Sscanf(r, "%d-%d", &first, &last); k == 1 {
			last = first
		} else if k != 2 {
			continue // a slot on the move: "[5->-id]"
		}
		if first <= want && want <= last {
			return true
		}
	}
	return false
}
