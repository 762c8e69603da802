package main

import (
	"image/color"
	"math"
	"os"
	"path/filepath"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
)

var palette = []color.Color{
	color.RGBA{0x07, 0xa3, 0x5a, 0xff}, // wxtoken comes first
	color.RGBA{0x33, 0x66, 0xaa, 0xff},
	color.RGBA{0xd9, 0x82, 0x1e, 0xff},
	color.RGBA{0x99, 0x44, 0x99, 0xff},
	color.RGBA{0x88, 0x88, 0x88, 0xff},
	color.RGBA{0xc0, 0x39, 0x2b, 0xff},
}

// A curve is a line of points.
type curve struct {
	name   string
	points plotter.XYs
}

func (c *curve) add(x int, y float64) {
	c.points = append(c.points, plotter.XY{X: float64(x), Y: max(y, 1e-3)})
}

// A pair is two values under one name.
type pair struct {
	name        string
	left, right float64
}

func newPlot(title string) *plot.Plot {
	p := plot.New()
	p.Title.Text = title
	p.BackgroundColor = color.White
	p.Legend.Top = true
	p.Add(plotter.NewGrid())
	return p
}

func logarithmic(axis *plot.Axis) {
	axis.Scale = plot.LogScale{}
	axis.Tick.Marker = plot.LogTicks{Prec: -1}
}

// curves draws lines over a logarithmic x, and gives the file's path.
func (b *bench) curves(file, title, x, y string, lines []curve) string {
	p := newPlot(title)
	p.X.Label.Text, p.Y.Label.Text = x, y
	logarithmic(&p.X)
	logarithmic(&p.Y)
	p.Legend.Left = true
	lowest, highest := math.Inf(1), 0.0
	for i, c := range lines {
		line, points, err := plotter.NewLinePoints(c.points)
		if err != nil {
			b.servers.Fatalf("bench: plot %s: %v", file, err)
		}
		line.Color, line.Width = palette[i%len(palette)], vg.Points(2)
		points.Color = line.Color
		p.Add(line, points)
		p.Legend.Add(c.name, line, points)
		for _, point := range c.points {
			lowest, highest = min(lowest, point.Y), max(highest, point.Y)
		}
	}
	p.Y.Min, p.Y.Max = lowest/2, 2*highest*math.Pow(highest/lowest, 0.12*float64(len(lines))) // room for the legend
	return b.save(p, file, 18, 11)
}

// dots draws two dots for each name, over a logarithmic x.
func (b *bench) dots(file, title string, names [2]string, pairs []pair) string {
	p := newPlot(title)
	logarithmic(&p.X)
	var labels []string
	values := [2]plotter.XYs{}
	lowest, highest := math.Inf(1), 0.0
	for i := range pairs {
		pair := pairs[len(pairs)-1-i] // the first on top
		labels = append(labels, plain(pair.name))
		for j, x := range []float64{pair.left, pair.right} {
			values[j] = append(values[j], plotter.XY{X: x, Y: float64(i)})
			lowest, highest = min(lowest, x), max(highest, x)
		}
	}
	for i, points := range values {
		scatter, err := plotter.NewScatter(points)
		if err != nil {
			b.servers.Fatalf("bench: plot %s: %v", file, err)
		}
		scatter.GlyphStyle.Color, scatter.GlyphStyle.Radius = palette[i], vg.Points(4)
		scatter.GlyphStyle.Shape = []draw.GlyphDrawer{draw.CircleGlyph{}, draw.TriangleGlyph{}}[i]
		p.Add(scatter)
		p.Legend.Add(names[i], scatter)
	}
	p.X.Min, p.X.Max = lowest/2, highest*10 // room for the legend
	p.Y.Label.Text = " "                    // and for the first letters of the names
	p.Y.Min, p.Y.Max = -0.5, float64(len(pairs))-0.5
	p.NominalY(labels...)
	return b.save(p, file, 20, 3+0.7*float64(len(pairs)))
}

func (b *bench) save(p *plot.Plot, file string, width, height float64) string {
	path := filepath.Join(b.pictures, file+".svg")
	err := os.MkdirAll(b.pictures, 0o755)
	if err == nil {
		err = p.Save(vg.Length(width)*vg.Centimeter, vg.Length(height)*vg.Centimeter, path)
	}
	if err != nil {
		b.servers.Fatalf("bench: %v", err)
	}
	return path
}

// picture shows a file that lies beside the report.
func (s *section) picture(path string) {
	name := filepath.Base(path)
	s.text("![%s](%s/%s)", strings.TrimSuffix(name, ".svg"), filepath.Base(filepath.Dir(path)), name)
}
