//go:build linux

package chaos

import (
	"encoding/json"
	"flag"
	"math/rand/v2"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"
)

var (
	longFlag  = flag.Duration("chaos.time", 0, "how long the faults of each round of TestChaos last; 0 skips it")
	traceFlag = flag.String("chaos.trace", "", "file for what happened in each round, in order")
	seedFlag  = flag.Uint64("chaos.seed", 0, "seed of the faults; 0 picks one, and prints it")
)

// scale is how much faster than by default everything here goes.
const (
	scale        = 50
	fetchTimeout = 10 * time.Second / scale
	localAge     = 45 * time.Second / scale
	refreshAhead = 5 * time.Minute / scale
	grace        = 5 * time.Minute / scale

	// A token of two hours would live for 144 s here. 24 s is the shortest life
	// in which refreshAhead is not cut to a quarter.
	lifetime = 24 * time.Second
)

const (
	appID     = "wx1"
	secret    = "0123456789abcdef0123456789abcdef"
	recordKey = "wxtoken:token:" + appID
)

const workerEnv = "WXTOKEN_CHAOS_WORKER" // set in the processes that a round starts

func TestMain(m *testing.M) {
	if config := os.Getenv(workerEnv); config != "" {
		var c childConfig
		if err := json.Unmarshal([]byte(config), &c); err != nil {
			panic(err)
		}
		c.work()
		return
	}
	goleak.VerifyTestMain(m)
}

var backends = []string{"redis", "sentinel", "cluster", "memcached", "file"}

// A short round of each, for make test.
func TestShortChaos(t *testing.T) {
	for _, backend := range backends {
		t.Run(backend, func(t *testing.T) {
			t.Parallel() // it mostly waits
			r := newRound(t, backend, roundConfig{seed: max(*seedFlag, 1), lifetime: lifetime / 3, short: true})
			r.play()
			r.check()
		})
	}
}

// Without faults there is one fetch in each lifetime.
func TestNoFaults(t *testing.T) {
	config := roundConfig{lifetime: lifetime / 4, calm: 8 * time.Second}
	if *longFlag > 0 {
		config.lifetime, config.calm = lifetime, *longFlag
	}
	r := newRound(t, "redis", config)
	r.play()
	r.check()
}

func TestChaos(t *testing.T) {
	if *longFlag == 0 {
		t.Skip("this takes minutes: make chaos")
	}
	seed := *seedFlag
	if seed == 0 {
		seed = rand.Uint64N(1_000_000)
	}
	t.Logf("seed %d: make chaos CHAOS_SEED=%[1]d CHAOS_TIME=%s", seed, *longFlag)
	var figures []map[string]string
	for _, backend := range backends {
		t.Run(backend, func(t *testing.T) {
			r := newRound(t, backend, roundConfig{seed: seed, lifetime: lifetime, faults: *longFlag})
			r.play()
			figures = append(figures, r.check())
		})
	}
	if len(figures) == len(backends) {
		t.Logf("\n%s", table(backends, figures))
	}
}
