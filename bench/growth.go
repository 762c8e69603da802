package main

import (
	"context"
	"fmt"
	"runtime"
	"time"

	"github.com/silenceper/wechat/v2/cache"

	"github.com/wxtoken/wxtoken"
	"github.com/wxtoken/wxtoken/internal/servers"
)

// growth measures how costs grow with goroutines, processes and Sources.
func (b *bench) growth() *section {
	s := &section{title: "Growth", command: b.commandFor("growth")}
	b.growGoroutines(s)
	b.growProcesses(s)
	b.growSources(s)
	return s
}

func (b *bench) growGoroutines(s *section) {
	ours := wxtokenSource()
	subjects := []subject{
		{nameOurs, func(n int) {
			for range n {
				tok, err := ours.Token(context.Background())
				check(err == nil && tok.Value != "")
			}
		}},
		oauth2Subject(), googleSubject(), awsSubject(), silenceperSubject(nameSilenceper, cache.NewMemory()), loadFloor(),
	}
	counts := []int{1, 10, 100, 1000, 10_000}
	lines := make([]curve, len(subjects))
	var first, last float64
	rows := make([][]string, len(subjects))
	for _, count := range counts {
		m := method{rounds: b.scale(7, 1), tries: 3, goroutines: count,
			each: 4*time.Millisecond + time.Duration(count)*20*time.Microsecond} // to start them is nothing beside it
		measured := m.interleave(subjects)
		for i, subject := range subjects {
			lines[i].name = plain(subject.name)
			lines[i].add(count, measured[i].median())
			rows[i] = append(rows[i], digits(measured[i].median()))
		}
		if last = measured[0].min(); count == 1 {
			first = last
		}
	}
	for i, subject := range subjects {
		rows[i] = append([]string{subject.name}, rows[i]...)
	}
	s.text("Nanoseconds for each call of the hot path, made by 1 to 10,000 goroutines at once on %d processors (median of %d rounds).",
		runtime.GOMAXPROCS(0), b.scale(7, 1))
	s.table(append([]string{"goroutines"}, names(counts)...), rows)
	s.picture(b.curves("growth-goroutines", "Hot path by number of goroutines", "goroutines", "ns per call", lines))
	s.expect(last <= 2*first, "growth: hot path, 10,000 goroutines ÷ 1 (min)", "≤ 2", digits(last/first))
}

func (b *bench) growProcesses(s *section) {
	const callers = 100
	store := servers.Redis(b.servers).Addr()
	counts := []int{1, 2, 4, 8, 16, 32}
	if b.quick {
		counts = counts[:3]
	}
	head := []string{"processes", "fetches, max", "lag ms, min / median / max", "Redis commands for each process, median"}
	var rows [][]string
	lag, sent := curve{name: "ms until the last caller is served"}, curve{name: "Redis commands for each process"}
	one := true
	for _, n := range counts {
		p := b.platform(platformLatency)
		f := b.fleet(n, setup{Library: "wxtoken", Store: "redis", Addr: store, Platform: p.url})
		f.stampede(p, 1)
		var lags, commandsEach series
		most := 0
		for range b.scale(7, 1) {
			before := commands(b, store)
			st := f.stampede(p, callers)
			commandsEach = append(commandsEach, float64(commands(b, store)-before)/float64(n))
			lags = append(lags, float64(st.lag)/1e6)
			most = max(most, st.fetches)
		}
		f.stop()
		one = one && most == 1
		rows = append(rows, []string{fmt.Sprint(n), fmt.Sprint(most), spreadOf(lags), digits(commandsEach.median())})
		lag.add(n, lags.median())
		sent.add(n, commandsEach.median())
	}
	s.text("A cold start of 1 to 32 processes with %d callers each on Redis, %d rounds; lag is counted from the platform's answer. "+
		"Who waits polls the record, so commands are those of some 50 ms of waiting.", callers, b.scale(7, 1))
	s.table(head, rows)
	s.picture(b.curves("growth-processes", "Cold start by number of processes", "processes", "", []curve{lag, sent}))
	s.expect(one, "growth: fetches of a cold start, 1 to 32 processes", "1", yesNo(one, "1", "more"))
}

func (b *bench) growSources(s *section) {
	counts := []int{1, 10, 100, 1000, 10_000, 100_000}
	if b.quick {
		counts = counts[:4]
	}
	head := []string{"Sources", "New, ns each", "first Token, ns each", "hot Token of one, ns", "hot Token, all in turn, ns"}
	var rows [][]string
	lines := [4]curve{{name: "hot Token of one"}, {name: "hot Token, all in turn"}, {name: "first Token"}, {name: "New"}}
	var first, last float64
	for _, n := range counts {
		made, began, one, each := manySources(n, method{rounds: b.scale(7, 1), tries: 10, each: 4 * time.Millisecond, goroutines: 1})
		rows = append(rows, []string{thousands(n), digits(made), digits(began), digits(one.median()), digits(each.median())})
		for i, y := range []float64{one.median(), each.median(), began, made} {
			lines[i].add(n, y)
		}
		if last = one.min(); n == 1 {
			first = last
		}
	}
	s.text("1 to 100,000 Sources in one process, each with a token, on one MemoryCache; nanoseconds. " +
		"With all in turn, a call pays for what the processor's caches can no longer hold.")
	s.table(head, rows)
	s.picture(b.curves("growth-sources", "Cost by number of Sources", "Sources", "ns", lines[:]))
	s.expect(last <= 2*first, "growth: hot path, 100,000 Sources ÷ 1 (min)", "≤ 2", digits(last/first))
}

// manySources makes n Sources, fetches a token for each, and calls them.
func manySources(n int, m method) (made, began float64, one, each series) {
	fetchers := make([]wxtoken.Fetcher, n)
	for i := range fetchers {
		fetchers[i] = wxtoken.FetcherFunc(fmt.Sprint("app", i), freshToken)
	}
	cache := wxtoken.NewMemoryCache()
	sources := make([]*wxtoken.Source, n)
	start := time.Now()
	for i := range sources {
		sources[i] = wxtoken.New(fetchers[i], cache)
	}
	made = float64(time.Since(start)) / float64(n)
	call := func(src *wxtoken.Source) {
		tok, err := src.Token(context.Background())
		check(err == nil && tok.Value != "")
	}
	start = time.Now()
	for _, src := range sources {
		call(src)
	}
	began = float64(time.Since(start)) / float64(n)
	next := 0
	measured := m.interleave([]subject{
		{"one", func(calls int) {
			for range calls {
				call(sources[0])
			}
		}},
		{"each", func(calls int) {
			for range calls {
				if next++; next >= n {
					next = 0
				}
				call(sources[next])
			}
		}},
	})
	return made, began, measured[0], measured[1]
}
