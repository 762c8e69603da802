package main

import (
	"context"
	"fmt"
	"os/exec"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/wxtoken/wxtoken/internal/servers"
)

// traffic measures what the processes of an application ask of the cache and of
// the platform.
func (b *bench) traffic() *section {
	s := &section{title: "Traffic", command: b.commandFor("traffic")}
	b.realTraffic(s)
	b.virtualTraffic(s)
	s.text("Measured elsewhere: PowerWeChat v3.2.58 sends 2 commands for each call, lixinio 0.8.6 one.")
	return s
}

// realTraffic has eight processes call at full pace, and asks Redis what it saw.
func (b *bench) realTraffic(s *section) {
	const processes, perSecond = 8, 10_000
	seconds := b.scale(60, 2)
	var rows [][]string
	for _, c := range []struct {
		library            string
		perSecond, seconds int
	}{{"wxtoken", perSecond, seconds}, {"silenceper", 100, b.scale(5, 1)}} {
		store := servers.Redis(b.servers).Addr()
		p := b.platform(platformLatency)
		f := b.fleet(processes, setup{Library: c.library, Store: "redis", Addr: store, Platform: p.url})
		warm := order{PerSecond: 100, Seconds: 1, Keep: true}
		f.do(warm)
		before := commands(b, store)
		calls := 0
		for _, o := range f.do(order{PerSecond: c.perSecond, Seconds: c.seconds, Keep: true}) {
			calls += o.Calls
		}
		sent := commands(b, store) - before
		f.stop()
		minutes := float64(c.seconds) / 60
		perProcess := float64(sent) / minutes / processes
		name := c.library
		if name == "wxtoken" {
			name = nameOurs
			s.expect(perProcess <= 2.5, "traffic: Redis commands a minute and process, 8 processes at 10,000 calls/s", "≤ 2.5", digits(perProcess))
		}
		rows = append(rows, []string{name, thousands(c.perSecond), thousands(calls), thousands(sent),
			fmt.Sprintf("%.2g", float64(sent)/float64(calls)), digits(perProcess)})
	}
	s.text("%d processes, each on one token for %d s in real time, on Redis. Commands are what INFO commandstats counts, without the set-up of connections.",
		processes, seconds)
	s.table([]string{"", "calls a second and process", "calls", "Redis commands", "commands per call", "commands a minute and process"}, rows)
}

// commands counts what clients have asked of the server. A swap of wxtoken is
// one EVALSHA; the GET and SET in it count as well.
func commands(b *bench, addr string) int {
	client := redis.NewClient(&redis.Options{Addr: addr})
	defer client.Close()
	info, err := client.Info(context.Background(), "commandstats").Result()
	if err != nil {
		b.servers.Fatalf("bench: %v", err)
	}
	total := 0
	for line := range strings.Lines(info) {
		var calls int
		name, stats, _ := strings.Cut(strings.TrimPrefix(line, "cmdstat_"), ":")
		switch name {
		case "get", "set", "setnx", "eval", "evalsha":
			if n, _ := fmt.Sscanf(stats, "calls=%d", &calls); n == 1 {
				total += calls
			}
		}
	}
	return total
}

// virtualTraffic runs the tests that play days in virtual time.
func (b *bench) virtualTraffic(s *section) {
	const command = "go test -count=1 -v ./virtual"
	out, err := exec.Command("go", strings.Fields(command)[1:]...).CombinedOutput()
	if err != nil {
		b.servers.Fatalf("bench: %s: %v\n%s", command, err, out)
	}
	var rows [][]string
	for line := range strings.Lines(string(out)) {
		var processes int
		var perMinute, perDay float64
		if n, _ := fmt.Sscanf(line, "figure busy %d %f", &processes, &perMinute); n == 2 {
			rows = append(rows, []string{fmt.Sprint(processes), "10,000 a second", "10 minutes", digits(perMinute), ""})
			s.expect(perMinute <= 2.5, "traffic: cache operations a minute and process, the same in virtual time", "≤ 2.5", digits(perMinute))
		}
		if n, _ := fmt.Sscanf(line, "figure days %d %f %f", &processes, &perMinute, &perDay); n == 3 {
			rows = append(rows, []string{fmt.Sprint(processes), "3 a minute", "2 days", digits(perMinute), digits(perDay)})
			s.expect(12 <= perDay && perDay <= 13, fmt.Sprintf("fetches a day, %d processes", processes), "12 to 13", digits(perDay))
		}
	}
	s.text("Longer spans in the virtual time of testing/synctest (`cd bench && %s`), with a counting cache; rotations are in the two days.", command)
	s.table([]string{"processes", "calls of each", "span", "cache operations a minute and process", "fetches a day"}, rows)
	s.text("An operation is one command on Redis. On Memcached a Get is one, and a CompareAndSwap, of which a rotation takes two, is two (gets and cas).")
}
