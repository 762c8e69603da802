package main

import (
	"fmt"
	"path/filepath"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/wxtoken/wxtoken/internal/servers"
)

// hot measures a call for a token that is at hand.
func (b *bench) hot() *section {
	s := &section{title: "The hot path: a token that is at hand", command: b.commandFor("hot")}
	redis := servers.Redis(b.servers)
	subjects := cached(redis.Addr(), filepath.Join(b.servers.TempDir(), "fastwego"))
	m := method{rounds: b.scale(11, 3), tries: b.scale(10, 2), each: 4 * time.Millisecond, goroutines: 1}
	serial := m.interleave(subjects)
	m.goroutines = runtime.GOMAXPROCS(0)
	parallel := m.interleave(subjects)
	at := func(name string) int {
		return slices.IndexFunc(subjects, func(s subject) bool { return s.name == name })
	}
	load, clock, reference, ours := at(nameLoad), at(nameClock), at(nameOAuth2), at(nameOurs)

	s.text("%d rounds; in each, every subject in turn, the fastest of %d tries of %v. Parallel is %d goroutines on as many processors. "+
		"A ratio is taken within its round; both its smallest and its middle value are given. "+
		"ns is the middle value on this machine, and tells nothing about yours.", m.rounds, m.tries, m.each, m.goroutines)
	var rows [][]string
	for i, subject := range subjects {
		allocs := testing.AllocsPerRun(100, func() { subject.run(1) })
		rows = append(rows, []string{
			subject.name, digits(allocs),
			bothOf(serial[i].over(serial[reference])), bothOf(parallel[i].over(parallel[reference])),
			bothOf(serial[i].over(serial[load])),
			digits(serial[i].median()), digits(parallel[i].median()),
		})
	}
	s.table([]string{"", "allocs", "serial ÷ oauth2, min / median", "parallel ÷ oauth2, min / median",
		"serial ÷ load, min / median", "serial ns", "parallel ns"}, rows)

	var pairs []pair
	for i, subject := range subjects {
		pairs = append(pairs, pair{subject.name, serial[i].over(serial[load]).median(), parallel[i].over(parallel[load]).median()})
	}
	s.picture(b.dots("hotpath", "A call for a token at hand, in atomic loads", [2]string{"serial", "parallel"}, pairs))
	s.text("Not to be downloaded as modules, so measured elsewhere, with a load at 1.5 ns, x/oauth2 at 68 / 74 ns: " +
		"PowerWeChat v3.2.58 2,130 / 2,858 ns and 19 allocs; chanxuehong 3ccc67d 1.9 ns, as it never looks whether the token has expired.")

	allocs := testing.AllocsPerRun(1000, func() { subjects[ours].run(1) })
	s.expect(allocs == 0, "hot path: allocations", "0", digits(allocs))
	s.expectRatio("hot path, serial ÷ x/oauth2", serial[ours].over(serial[reference]), 0.2)
	s.expectRatio("hot path, parallel ÷ x/oauth2", parallel[ours].over(parallel[reference]), 0.1)
	s.expectRatio("hot path ÷ an atomic load + time.Now", serial[ours].over(serial[clock]), 1.15)
	return s
}

func bothOf(r series) string { return digits(r.min()) + " / " + digits(r.median()) }

func (s *section) expectRatio(what string, r series, most float64) {
	s.expect(r.median() <= most, what+" (median)", "≤ "+fmt.Sprint(most), digits(r.median()))
}
