//go:build !race

package sim

import (
	"bufio"
	"flag"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var (
	fleetsFlag = flag.Bool("sim.fleets", false, "play every case of each fleet for -sim.hours with -sim.seeds seeds, and print the table")
	hoursFlag  = flag.Float64("sim.hours", 24, "virtual hours of a fleet")
	caseFlag   = flag.String("sim.case", "", "play only the cases whose fleet or name matches this regular expression")
	logFlag    = flag.String("sim.log", "", "file for the whole trace")
)

const fewCases = 3 // of each fleet, in make test

// TestFleets plays fleets of processes that are not healthy, long-lived and
// equal, and asserts the bounds of docs/measurements.md.
func TestFleets(t *testing.T) {
	var table strings.Builder
	table.WriteString("| fleet | figure | at most | worst | runs beyond |\n|---|---|---|---|---|\n")
	for _, f := range fleets() {
		f.bounds = append(f.bounds, intact)
		worst, beyond, runs := make([]float64, len(f.bounds)), make([]int, len(f.bounds)), 0
		t.Run(f.name, func(t *testing.T) {
			for _, cfg := range f.chosen() {
				for i := range seeds() {
					cfg.Seed = *seedFlag + uint64(i)
					runs++
					t.Run(fmt.Sprintf("%s, seed %d", cfg.Name, cfg.Seed), func(t *testing.T) {
						r := play(t, cfg)
						for i, b := range f.bounds {
							is := b.of(&r)
							worst[i] = max(worst[i], is)
							if !assert.LessOrEqual(t, is, b.most, b.what) {
								beyond[i]++
							}
						}
					})
				}
			}
		})
		for i, b := range f.bounds {
			if runs == 0 {
				break
			}
			fmt.Fprintf(&table, "| %s | %s | %.4g | %.4g | %d of %d |\n", f.name, b.what, b.most, worst[i], beyond[i], runs)
		}
	}
	t.Log("\n" + table.String())
}

func seeds() int {
	if *fleetsFlag {
		return *seedsFlag
	}
	return 1
}

// chosen returns the cases to play: all, or a few from all over.
func (f fleet) chosen() (cases []Config) {
	want := regexp.MustCompile(*caseFlag)
	for i, c := range f.cases {
		if !*fleetsFlag && *caseFlag == "" && !f.few()[i] {
			continue
		}
		if c.Length == 0 {
			c.Length = time.Duration(*hoursFlag * float64(time.Hour))
			if !*fleetsFlag {
				c.Length = min(c.Length, 8*time.Hour)
			}
		}
		if want.MatchString(f.name) || want.MatchString(c.Name) {
			cases = append(cases, c)
		}
	}
	return cases
}

// few is the places of a few cases from all over, none two alike.
func (f fleet) few() map[int]bool {
	few := map[int]bool{}
	for j := range min(fewCases, len(f.cases)) {
		i := j*len(f.cases)/fewCases + j
		for few[i%len(f.cases)] {
			i++
		}
		few[i%len(f.cases)] = true
	}
	return few
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
