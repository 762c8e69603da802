package main

import (
	"math"
	"runtime"
	"slices"
	"sync"
	"time"
)

// A subject is one of the things that are measured against each other. run
// makes n calls in a row.
type subject struct {
	name string
	run  func(n int)
}

// A series is what was measured of one subject: nanoseconds per call, one value
// for each round.
type series []float64

func (s series) min() float64    { return slices.Min(s) }
func (s series) median() float64 { return median(s) }

// over gives the ratios of s to the other series, round by round: what disturbs
// the machine disturbs both.
func (s series) over(other series) series {
	ratios := make(series, len(s))
	for i := range s {
		ratios[i] = s[i] / other[i]
	}
	return ratios
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	mid := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[mid]
	}
	return (sorted[mid-1] + sorted[mid]) / 2
}

// A method is how subjects are measured.
type method struct {
	rounds     int
	tries      int           // in a round, of which the fastest counts: the others were disturbed
	each       time.Duration // about, for a try; short, so that some are not
	goroutines int
}

// interleave measures all subjects in each round, beginning with another one each
// time, so that a machine whose speed changes is the same to all.
func (m method) interleave(subjects []subject) []series {
	calls := make([]int, len(subjects))
	for i, s := range subjects {
		calls[i] = m.calibrate(s)
	}
	measured := make([]series, len(subjects))
	for i := range measured {
		measured[i] = make(series, m.rounds)
	}
	for round := range m.rounds {
		for i := range subjects {
			i = (i + round) % len(subjects)
			measured[i][round] = m.best(subjects[i], calls[i])
		}
	}
	return measured
}

// calibrate finds how many calls of each goroutine make a try, from calls on
// one, so that it does not take the start of goroutines for calls.
func (m method) calibrate(s subject) int {
	s.run(1)
	alone := m
	alone.goroutines = 1
	for n := 1; ; n *= 4 {
		took := alone.best(s, n) * float64(n)
		if took > float64(m.each)/8 {
			atOnce := min(m.goroutines, runtime.GOMAXPROCS(0))
			return max(1, int(float64(n*atOnce)/float64(m.goroutines)*float64(m.each)/took))
		}
	}
}

func (m method) best(s subject, n int) float64 {
	least := math.Inf(1)
	for range m.tries {
		least = min(least, spread(s, n, m.goroutines))
	}
	return least
}

// spread has each goroutine make n calls, and gives the time that passed for
// each call made by any of them.
func spread(s subject, n, goroutines int) float64 {
	if goroutines == 1 {
		start := time.Now()
		s.run(n)
		return float64(time.Since(start)) / float64(n)
	}
	var ready, done sync.WaitGroup
	begin := make(chan struct{})
	ready.Add(goroutines)
	for range goroutines {
		done.Go(func() {
			ready.Done()
			<-begin
			s.run(n)
		})
	}
	ready.Wait()
	start := time.Now()
	close(begin)
	done.Wait()
	return float64(time.Since(start)) / float64(n*goroutines)
}
