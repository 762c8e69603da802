package main

import (
	"fmt"
	"image/color"
	"math"
	"path/filepath"
	"slices"

	"golang.org/x/perf/benchmath"
	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/plotutil"
	"gonum.org/v1/plot/vg"
)

// A series is what the rounds measured, one value each.
type series []float64

func (s series) summary() benchmath.Summary {
	return benchmath.AssumeNothing.Summary(benchmath.NewSample(slices.Clone(s), &benchmath.DefaultThresholds), 0.95)
}

// String shows the median and, where there are enough rounds, its confidence interval.
func (s series) String() string {
	if len(s) == 0 {
		return "–"
	}
	sum := s.summary()
	text := digits(sum.Center)
	if sum.Lo < sum.Hi && !math.IsInf(sum.Hi-sum.Lo, 0) {
		text += " ± " + sum.PctRangeString()
	}
	return text
}

func digits(v float64) string {
	if v >= 1000 {
		return fmt.Sprintf("%.0f", v)
	}
	return fmt.Sprintf("%.3g", v)
}

// Over returns the ratios to what the same rounds measured of another benchmark.
func (s series) Over(other series) (ratios series) {
	for i := range min(len(s), len(other)) {
		ratios = append(ratios, s[i]/other[i])
	}
	return ratios
}

// Worst returns the largest value alone.
func (s series) Worst() series {
	if len(s) == 0 {
		return nil
	}
	return series{slices.Max(s)}
}
