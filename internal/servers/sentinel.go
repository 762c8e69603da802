package servers

import (
	"os"
	"path/filepath"
	"strings"
)

// SentinelGroup is one Redis master with two replicas, watched by three sentinels
// that promote a replica when the master has been silent for about a second.
type SentinelGroup struct {
	MasterName string
	Nodes      []*Server // the master and its replicas
	Sentinels  []*Server

	tb TB
}

// MasterName is the name of the master in every SentinelGroup.
const MasterName = "wxtoken-master"

// Sentinel starts a group and waits until the replicas are in sync and all sentinels
// know each other.
func Sentinel(tb TB) *SentinelGroup {
	tb.Helper()
	g := &SentinelGroup{MasterName: MasterName, tb: tb}
	for range 3 {
		g.Nodes = append(g.Nodes, Redis(tb, "--repl-diskless-sync-delay", "0"))
	}
	master := g.Nodes[0]
	for _, replica := range g.Nodes[1:] {
		must(tb, replica, "REPLICAOF", "127.0.0.1", master.portString())
	}
	for range 3 {
		g.Sentinels = append(g.Sentinels, g.startSentinel(master))
	}
	await(tb, "replicas in sync", func() bool {
		for _, replica := range g.Nodes[1:] {
			if !replica.says("master_link_status:up", "INFO", "replication") {
				return false
			}
		}
		return true
	})
	await(tb, "sentinels to know the group", func() bool {
		for _, s := range g.Sentinels {
			known, _ := s.cli("SENTINEL", "MASTER", g.MasterName)
			if !hasField(known, "num-slaves", "2") || !hasField(known, "num-other-sentinels", "2") {
				return false
			}
		}
		return true
	})
	return g
}

func (g *SentinelGroup) startSentinel(master *Server) *Server {
	g.tb.Helper()
	config := filepath.Join(g.tb.TempDir(), "sentinel.conf") // a sentinel keeps its state there
	if err := os.WriteFile(config, nil, 0o600); err != nil {
		g.tb.Fatalf("servers: %v", err)
	}
	p := redisProgram(g.tb, "redis-server", nil)
	redisArgs := p.args
	p.args = func(port int) []string { return append([]string{config, "--sentinel"}, redisArgs(port)...) }
	s := start(g.tb, p)

	// Supported since Redis 7; without it sentinels take longer to find each other,
	// and 30 s to trust the clock again after a pause.
	_, _ = s.cli("SENTINEL", "DEBUG", "INFO-PERIOD", "500", "PUBLISH-PERIOD", "200", "TILT-PERIOD", "1000")
	must(g.tb, s, "SENTINEL", "MONITOR", g.MasterName, "127.0.0.1", master.portString(), "2")
	must(g.tb, s, "SENTINEL", "SET", g.MasterName, "down-after-milliseconds", "1000", "failover-timeout", "3000")
	return s
}

// SentinelAddrs returns the addresses for a failover client.
func (g *SentinelGroup) SentinelAddrs() []string {
	addrs := make([]string, len(g.Sentinels))
	for i, s := range g.Sentinels {
		addrs[i] = s.Addr()
	}
	return addrs
}

// Master returns the node that a sentinel names and that agrees; nil while the group
// has none.
func (g *SentinelGroup) Master() *Server {
	for _, s := range g.Sentinels {
		named, err := s.cli("SENTINEL", "GET-MASTER-ADDR-BY-NAME", g.MasterName)
		if err != nil {
			continue
		}
		for _, node := range g.Nodes {
			if hasField(named, "127.0.0.1", node.portString()) && node.says("role:master", "INFO", "replication") {
				return node
			}
		}
	}
	return nil
}

// KillMaster kills the master and returns it. A later Restart brings it back as a
// replica.
func (g *SentinelGroup) KillMaster() *Server {
	g.tb.Helper()
	var master *Server
	await(g.tb, "a master to kill", func() bool {
		master = g.Master()
		return master != nil
	})
	master.Kill()
	return master
}

// AwaitPromotion waits until another node than old is the master, and returns it.
func (g *SentinelGroup) AwaitPromotion(old *Server) *Server {
	g.tb.Helper()
	var master *Server
	await(g.tb, "the promotion of a replica", func() bool {
		master = g.Master()
		return master != nil && master != old
	})
	return master
}

// hasField reports whether redis-cli printed name with value on the next line.
func hasField(said, name, value string) bool {
	return strings.Contains("\n"+said+"\n", "\n"+name+"\n"+value+"\n")
}
