package sim

import (
	"bufio"
	"flag"
	"fmt"
	"os"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var (
	seedFlag  = flag.Uint64("sim.seed", 1, "the first seed")
	logFlag   = flag.String("sim.log", "", "file for the whole trace")
	traceFlag = flag.Bool("sim.trace", false, "print the trace of every violation")
)

// One processor: goroutines that are ready at the same instant then mostly run in the
// same order each time, and other work on the machine is not disturbed.
func TestMain(m *testing.M) {
	flag.Parse()
	runtime.GOMAXPROCS(1)
	os.Exit(m.Run())
}

// play runs cfg in a bubble.
func play(t *testing.T, cfg Config) (r Report) {
	t.Helper()
	seedRandom(t, cfg.Seed)
	logTo(t, &cfg)
	began := time.Now()
	synctest.Test(t, func(t *testing.T) { r = Run(cfg) })
	t.Logf("%s  took %s", r.String(), time.Since(began).Round(time.Millisecond))
	if *traceFlag {
		for _, v := range r.Violations {
			t.Log(v)
		}
	}
	return r
}

func config(seed uint64, nodes int, days float64) Config {
	return Config{Seed: seed, Length: time.Duration(days * 24 * float64(time.Hour)), Members: []Member{{N: nodes, Every: rare(time.Minute)}}}
}

func rules(r Report) map[string]int {
	m := map[string]int{}
	for _, v := range r.Violations {
		m[v.Rule]++
	}
	return m
}

// The purpose of the model: it finds the faults of a naive Source.
func TestTheModelCatchesANaiveSource(t *testing.T) {
	cfg := config(*seedFlag, 50, 0.001)
	cfg.New, cfg.Members[0].Every = newNaive, time.Second/5 // so that some coincide
	r := play(t, cfg)
	assert.Greater(t, r.Issued, 1, "several nodes fetch in one lifetime")
	assert.NotZero(t, rules(r)["I4"], "they fetch at the same time")
	assert.NotZero(t, rules(r)["I1"], "they write without a lease")
}

// A lease separates the fetches, but a late request can still supersede the record's
// token without the record saying so.
func TestTheModelCatchesALeaseThatForgetsLateRequests(t *testing.T) {
	cfg := config(*seedFlag, 5, 3)
	cfg.New, cfg.Members[0].Every = newLeased, time.Minute // few calls find no fault
	r := play(t, cfg)
	assert.Zero(t, r.Broken, "without faults it is correct")
	assert.Zero(t, r.Rejected)

	cfg.Faults = Faults{Late: 0.3, LostReply: 0.3}
	r = play(t, cfg)
	assert.NotZero(t, r.Rejected)
	assert.NotZero(t, rules(r)["I2"])
	require.NotEmpty(t, r.Violations[0].Trace)
	t.Log(r.Violations[0])
}

func TestSameSeedSameRun(t *testing.T) {
	cfg := config(*seedFlag, 5, 2)
	cfg.New, cfg.Faults = newLeased, ProtocolFaults()
	a, b := play(t, cfg), play(t, cfg)
	require.Equal(t, a, b)
	cfg.Seed++
	require.NotEqual(t, a.Reads, play(t, cfg).Reads)
}

// logTo gives cfg the file of -sim.log, if any.
func logTo(t *testing.T, cfg *Config) {
	if *logFlag == "" {
		return
	}
	file, err := os.OpenFile(*logFlag, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	require.NoError(t, err)
	out := bufio.NewWriter(file)
	cfg.Log = out
	fmt.Fprintf(out, "\n%s, seed %d\n", cfg.Name, cfg.Seed)
	t.Cleanup(func() { _, _ = out.Flush(), file.Close() })
}
