package main

import (
	"cmp"
	"fmt"
	"image/color"
	"math"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

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

// Within returns the row of a target: what is measured, its bounds, the median, and whether it lies within them.
func (s series) Within(what string, least, most float64) string {
	bounds, reached := fmt.Sprintf("%s to %s", digits(least), digits(most)), "–"
	if least == most {
		bounds = digits(most)
	} else if least == 0 {
		bounds = "≤ " + digits(most)
	}
	if len(s) > 0 {
		center := s.summary().Center
		reached = map[bool]string{true: "yes", false: "**no**"}[least <= center && center <= most]
	}
	return fmt.Sprintf("| %s | %s | %v | %s |", what, bounds, s, reached)
}

// Picture draws what was measured in a unit of a benchmark, over the number in its name: one line for each name that is
// left without it. It returns the picture's path, relative to the document.
func (r *report) Picture(unit, bench string) (string, error) {
	lines, order, over := map[string]plotter.XYs{}, []string{}, ""
	for _, name := range r.names {
		line, ok := strings.CutPrefix(name, bench)
		before, after, numbered := strings.Cut(line, "=")
		digits, rest, _ := strings.Cut(after, "/")
		x, err := strconv.ParseFloat(digits, 64)
		values := r.samples[name+" "+unit]
		if !ok || !numbered || err != nil || len(values) == 0 {
			continue
		}
		slash := strings.LastIndex(before, "/")
		over, line = before[slash+1:], cmp.Or(strings.Trim(before[:slash]+" "+rest, "/ "), bench)
		if lines[line] == nil {
			order = append(order, line)
		}
		if point := (plotter.XY{X: x, Y: values.summary().Center}); !slices.Contains(lines[line], point) { // a name for each round
			lines[line] = append(lines[line], point)
		}
	}
	var drawn []any
	for _, name := range order {
		if len(lines[name]) > 1 {
			drawn = append(drawn, name, lines[name])
		}
	}
	p := plot.New()
	p.BackgroundColor, p.Legend.Top, p.Legend.Left, p.Title.Text = color.White, true, true, bench
	p.X.Label.Text, p.Y.Label.Text = over, unit
	for _, axis := range []*plot.Axis{&p.X, &p.Y} {
		axis.Scale, axis.Tick.Marker = plot.LogScale{}, plot.LogTicks{Prec: -1}
	}
	p.Add(plotter.NewGrid())
	if err := plotutil.AddLinePoints(p, drawn...); err != nil || len(drawn) == 0 {
		return "", fmt.Errorf("bench: no %s of %s to draw: %w", unit, bench, err)
	}
	p.Y.Max *= math.Pow(p.Y.Max/p.Y.Min, 0.06*float64(len(drawn))) * 2 // room for the legend
	p.Y.Min /= 2
	file := strings.ToLower(bench) + ".svg"
	return "benchmarks/" + file, p.Save(18*vg.Centimeter, 11*vg.Centimeter, filepath.Join(r.pictures, file))
}
