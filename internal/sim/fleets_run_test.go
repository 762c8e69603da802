//go:build !race

package sim

import (
	"flag"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

var (
	fleetsFlag = flag.Bool("sim.fleets", false, "play every case of each fleet for -sim.hours with -sim.seeds seeds, and print the table")
	hoursFlag  = flag.Float64("sim.hours", 24, "virtual hours of a fleet")
	caseFlag   = flag.String("sim.case", "", "play only the cases whose fleet or name matches this regular expression")
)

const fewCases = 3 // of each fleet, in make test

// TestFleets simulates fleets of processes that are not healthy, long-lived and
// equal, and checks the bounds of docs/measurements.md.
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

// chosen returns the cases to run: all, or a few from the whole list.
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

// few returns the indices of a few cases from the whole list, no two alike.
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
