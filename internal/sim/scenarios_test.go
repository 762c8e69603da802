package sim

import (
	"flag"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/wxtoken/wxtoken"
)

var (
	seedsFlag = flag.Int("sim.seeds", 4, "how many seeds, for each scenario")
	nodesFlag = flag.Int("sim.nodes", 50, "nodes")
	daysFlag  = flag.Float64("sim.days", 30, "virtual days")
	runFlag   = flag.String("sim.run", "", "play this scenario, or some joined by +: see scenarios")
	graceFlag = flag.String("sim.grace", "strict", "grace for -sim.run: lenient, strict, stable or all")
	httpFlag  = flag.Bool("sim.http", false, "fetch through NewFetcher and NewStableFetcher")
	tableFlag = flag.Bool("sim.table", false, "print the simulation's table of docs/measurements.md")
)

func newReal(f wxtoken.Fetcher, c wxtoken.Cache, _ uint64, opts ...wxtoken.Option) Source {
	return wxtoken.New(f, c, opts...)
}

// scenarios are what -sim.run can simulate, alone or joined by +.
var scenarios = map[string]func(*Faults){
	"none":     func(*Faults) {},
	"protocol": func(f *Faults) { *f = ProtocolFaults() }, // first, since it sets all
	"stress": func(f *Faults) { // far more of everything, to hunt for broken invariants
		*f = Faults{Pause: 0.05, PauseMean: 90 * time.Second, Crash: 0.2, Late: 0.2, LostReply: 0.2, CacheError: 0.05, Busy: 0.1,
			FlushEvery: 6 * time.Hour, FallBackEvery: 9 * time.Hour, LagEvery: 15 * time.Hour, DeployEvery: 11 * time.Hour}
	},
	"inuse":     func(f *Faults) { f.UseAfterPause = true },
	"lag":       func(f *Faults) { f.LagEvery = 24 * time.Hour },
	"skew":      func(f *Faults) { f.Skew = 2 * time.Minute },
	"partition": func(f *Faults) { f.PartitionEvery, f.PartitionFor = 24*time.Hour, 15*time.Minute },
	"split":     func(f *Faults) { f.SplitEvery, f.SplitFor, f.Fixed = 2*time.Hour, 30*time.Second, true },
	"foreign":   func(f *Faults) { f.ForeignEvery = 6 * time.Hour },
	"pingpong":  func(f *Faults) { f.PingPong = true },
	"rotate":    func(f *Faults) { f.RotateEvery = 24 * time.Hour },
	"deploy":    func(f *Faults) { f.DeployEvery = 24 * time.Hour },
	"unlisted":  func(f *Faults) { f.NotListed = 2 },
}

func faults(t *testing.T, run string) (f Faults) {
	for name := range strings.SplitSeq(run, "+") {
		require.Contains(t, scenarios, name, "choose from %v", slices.Sorted(maps.Keys(scenarios)))
		scenarios[name](&f)
	}
	return f
}

func graces(t *testing.T, s string) []Grace {
	all := []Grace{Lenient, Strict, Stable}
	if s == "all" {
		return all
	}
	i := slices.IndexFunc(all, func(g Grace) bool { return g.String() == s })
	require.GreaterOrEqual(t, i, 0, "-sim.grace: lenient, strict, stable or all")
	return all[i : i+1]
}

// ofSource returns a configuration for the library's own Source.
func ofSource(seed uint64, nodes int, days float64) Config {
	cfg := config(seed, nodes, days)
	cfg.New = newReal
	return cfg
}

// playSeeds runs cfg with several seeds and returns the sum, and the worst seed's
// figures.
func playSeeds(t *testing.T, cfg Config, seeds int) (sum Report, most [3]float64) {
	for i := range seeds {
		cfg.Seed = *seedFlag + uint64(i)
		r := play(t, cfg)
		sum.Add(r)
		first, retried := r.PerMillion()
		most = [3]float64{max(most[0], first), max(most[1], retried), max(most[2], r.FetchesADay())}
	}
	return sum, most
}

// Without faults every process has the one valid token at every moment, and each
// lifetime takes one fetch.
func TestNoFaults(t *testing.T) {
	for _, grace := range few(graces(t, "all")) {
		t.Run(grace.String(), func(t *testing.T) {
			cfg := ofSource(*seedFlag, 8, 2)
			cfg.Grace = grace
			r := play(t, cfg)
			assert.Zero(t, r.Rejected)
			assert.Zero(t, r.Failed)
			assert.Empty(t, r.Violations)
			assert.GreaterOrEqual(t, r.FetchesADay(), 12.0)
			assert.LessOrEqual(t, r.FetchesADay(), 13.0)
			assert.Equal(t, r.Fetches, r.Issued, "no fetch was wasted")
			assert.Less(t, r.LongestWait, time.Second)
		})
	}
}

// A short run with the faults of docs/measurements.md: the bounds are wide, since so
// few calls measure little. TestFigures prints the figures.
func TestProtocolFaults(t *testing.T) {
	for _, grace := range few(graces(t, "all")) {
		t.Run(grace.String(), func(t *testing.T) {
			cfg := ofSource(*seedFlag, 8, 3)
			cfg.Grace, cfg.Faults = grace, ProtocolFaults()
			r := play(t, cfg)
			assert.Empty(t, r.Violations)
			assert.LessOrEqual(t, r.Rejected, 8)
			assert.LessOrEqual(t, r.RejectedTwice, 1)
			assert.LessOrEqual(t, r.FetchesADay(), 26.0)
			assert.LessOrEqual(t, r.Failed, 2+r.Calls/10_000)
		})
	}
}

// Each of the other faults, alone.
func TestOtherFaults(t *testing.T) {
	for _, c := range few([]struct {
		run           string
		rejected      int // calls, at most
		rejectedTwice int
		fetches       float64 // a day, at most
		failed        int
	}{
		{"skew", 0, 0, 13, 0},
		{"lag", 5, 1, 17, 0},
		{"split", 5, 0, 14, 0},
		{"partition", 60, 60, 14, 90}, // a copy can expire while the store is unreachable
		{"foreign", 8 * 10, 0, 20, 0},
		{"deploy", 0, 0, 13, 0},
		{"rotate", 0, 0, 14, 0},
		{"unlisted", 0, 0, 13, 8}, // at the cold start, until a listed node has called
		{"stress", 1000, 1000, 200, 1000},
	}) {
		t.Run(c.run, func(t *testing.T) {
			cfg := ofSource(*seedFlag, 6, 2)
			cfg.Grace, cfg.Faults, cfg.HTTP = Strict, faults(t, c.run), true
			if c.run == "skew" || c.run == "rotate" { // no rejection, if calls are frequent
				cfg.Members[0].Every = time.Minute
			}
			r := play(t, cfg)
			assert.Empty(t, r.Violations)
			assert.LessOrEqual(t, r.Rejected, c.rejected)
			assert.LessOrEqual(t, r.RejectedTwice, c.rejectedTwice)
			assert.LessOrEqual(t, r.FetchesADay(), c.fetches)
			assert.LessOrEqual(t, r.Failed, c.failed)
		})
	}
}

// Two systems that fetch whenever their token is rejected supersede each other's
// tokens forever. The Source's part in that must leave most of the quota.
func TestPingPongLeavesTheQuota(t *testing.T) {
	cfg := ofSource(*seedFlag, 6, 2)
	cfg.Grace, cfg.Faults = Strict, faults(t, "pingpong")
	r := play(t, cfg)
	assert.Less(t, r.MaxToday, dailyQuota/2)
	assert.Empty(t, r.Violations)
}

// TestPlay runs -sim.run as the other flags say.
func TestPlay(t *testing.T) {
	if *runFlag == "" {
		t.Skip("-sim.run names no scenario")
	}
	for _, grace := range graces(t, *graceFlag) {
		cfg := ofSource(0, *nodesFlag, *daysFlag)
		cfg.Grace, cfg.Faults, cfg.HTTP = grace, faults(t, *runFlag), *httpFlag
		sum, most := playSeeds(t, cfg, *seedsFlag)
		t.Logf("%s, all seeds: %s  worst seed: %.2f, %.2f per million, %.2f fetches a day", *runFlag, sum.String(), most[0], most[1], most[2])
		assert.Zero(t, sum.Broken)
	}
}

// TestFigures prints the simulation's table of docs/measurements.md.
func TestFigures(t *testing.T) {
	if !*tableFlag {
		t.Skip("-sim.table is not set")
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%d seeds from %d, %d nodes, %g days each\n\n", *seedsFlag, *seedFlag, *nodesFlag, *daysFlag)
	b.WriteString("| | rejected at first use, per million calls | after one retry, per million | fetches a day | longest wait | calls |\n|---|---|---|---|---|---|\n")
	for _, row := range []struct {
		name  string
		grace Grace
		run   string

		first, retried, fetches float64 // at most
	}{
		{"no faults", Strict, "none", 0, 0, 12.6},
		{"faults, every superseded token lives 5 min", Lenient, "protocol", 1, 0, 16},
		{"faults, only the latest two are honoured", Strict, "protocol", 6, 0.05, 16},
		{"faults, stable_token", Stable, "protocol", 0, 0, 17},
		{"two masters for 30 s every 2 h, only the latest two", Strict, "split", 10, 0, 13},
	} {
		cfg := ofSource(0, *nodesFlag, *daysFlag)
		cfg.Grace, cfg.Faults = row.grace, faults(t, row.run)
		sum, most := playSeeds(t, cfg, *seedsFlag)
		first, retried := sum.PerMillion()
		fmt.Fprintf(&b, "| %s | %.2f (worst seed %.2f) | %.2f (%.2f) | %.1f (%.1f) | %s | %d |\n", row.name,
			first, most[0], retried, most[1], sum.FetchesADay(), most[2], sum.LongestWait.Round(10*time.Millisecond), sum.Calls)
		assert.Zero(t, sum.Broken, row.name)
		assert.LessOrEqual(t, first, row.first, row.name)
		assert.LessOrEqual(t, retried, row.retried, row.name)
		assert.LessOrEqual(t, sum.FetchesADay(), row.fetches, row.name)
	}
	t.Log("\n" + b.String())
}
