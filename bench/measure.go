package main

import (
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

// interleave measures all subjects in each round, beginning with another one each
// time, so that a machine whose speed changes is the same to all. Every
// measurement takes about d, on the given number of goroutines.
func interleave(subjects []subject, rounds, goroutines int, d time.Duration) []series {
	calls := make([]int, len(subjects))
	for i, s := range subjects {
		calls[i] = calibrate(s, goroutines, d)
	}
	measured := make([]series, len(subjects))
	for i := range measured {
		measured[i] = make(series, rounds)
	}
	for round := range rounds {
		for i := range subjects {
			i = (i + round) % len(subjects)
			measured[i][round] = spread(subjects[i], calls[i], goroutines)
		}
	}
	return measured
}

// calibrate finds how many calls per goroutine take about d.
func calibrate(s subject, goroutines int, d time.Duration) int {
	for n := 1; ; n *= 4 {
		took := spread(s, n, goroutines) * float64(n*goroutines)
		if took > float64(d)/8 {
			return max(1, int(float64(n)*float64(d)/took))
		}
	}
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
