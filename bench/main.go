// Program bench runs the benchmarks beside it in rounds, and writes docs/benchmarks.md and its pictures from what they
// print, by the template benchmarks.md.tmpl. To run some of them by hand: go test -bench Herd -benchtime 1x -count 5
package main

import (
	"bytes"
	_ "embed"
	"flag"
	"fmt"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"text/template"
	"time"

	"golang.org/x/perf/benchfmt"
)

// runs take some ten minutes. Rounds in place of -count measure what is compared side by side, over and over.
var runs = []struct {
	rounds           int
	bench, benchtime string
}{
	{9, "Hot", "100ms"}, {10, "Herd|Processes", "1x"},
	{1, "Refresh", "20x"}, {1, "Traffic", "60s"}, {1, "Virtual|Footprint|Build", "1x"},
}

var peers = []string{"github.com/silenceper/wechat/v2", "github.com/medivhzhan/weapp/v3", "github.com/fastwego/offiaccount",
	"golang.org/x/oauth2", "github.com/aws/aws-sdk-go-v2", "cloud.google.com/go/auth"}

//go:embed benchmarks.md.tmpl
var document string

func main() {
	out := flag.String("o", filepath.Join("..", "docs"), "directory for benchmarks.md and, in benchmarks, its pictures and results.txt")
	short := flag.Bool("short", false, "one short round, to see that it works; the figures mean nothing")
	flag.Parse()
	pictures := filepath.Join(*out, "benchmarks")
	check(os.MkdirAll(pictures, 0o755))
	text := measure(*short)
	check(os.WriteFile(filepath.Join(pictures, "results.txt"), text, 0o644))
	page, err := read(pictures, text).page()
	check(err)
	check(os.WriteFile(filepath.Join(*out, "benchmarks.md"), page, 0o644))
}

func check(err error) {
	if err != nil {
		log.Fatal("bench: ", err)
	}
}

func output(name string, args ...string) string {
	cmd := exec.Command(name, args...)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	check(err)
	return string(out)
}

// measure returns what all runs print, after lines of the same format about the whole.
func measure(short bool) []byte {
	dir, err := os.MkdirTemp("", "wxtoken-bench-")
	check(err)
	defer os.RemoveAll(dir)
	revision, start, binary, results := output("git", "describe", "--always", "--dirty"), time.Now(), filepath.Join(dir, "bench.test"), ""
	output("go", "test", "-c", "-o", binary, ".")
	for _, r := range runs {
		if short {
			r.rounds, r.benchtime = 1, "1x"
		}
		for range r.rounds {
			log.Print(r.bench, " ...")
			results += output(binary, "-test.run="+r.bench, "-test.bench="+r.bench, "-test.benchtime="+r.benchtime, fmt.Sprint("-test.short=", short))
		}
	}
	versions := output("go", append([]string{"list", "-m", "-f", "{{.Path}} {{.Version}}"}, peers...)...)
	return fmt.Appendf(nil, "revision: %sdate: %s\ntook: %v\ngo: %s\nprocessors: %d\npeers: %s\n%s", revision, start.UTC().Format(time.DateOnly),
		time.Since(start).Round(time.Second), runtime.Version(), runtime.NumCPU(), strings.ReplaceAll(strings.TrimSpace(versions), "\n", ", "), results)
}

// A report is what the template is given.
type report struct {
	Config   map[string]string // about the whole
	pictures string            // directory
	names    []string          // of benchmarks
	samples  map[string]series // by name, a space, and the unit
}

func read(pictures string, text []byte) *report {
	r := &report{map[string]string{}, pictures, nil, map[string]series{}}
	for in := benchfmt.NewReader(bytes.NewReader(text), "results.txt"); in.Scan(); {
		result, ok := in.Result().(*benchfmt.Result)
		if !ok {
			continue // something that was logged
		}
		for _, c := range result.Config {
			r.Config[c.Key] = string(c.Value)
		}
		base, parts := result.Name.Parts()
		name := string(base)
		for _, part := range parts {
			if part[0] == '/' { // not the number of processors
				name += string(part)
			}
		}
		r.names = append(r.names, name)
		for _, v := range result.Values {
			if v.OrigUnit != "" { // nanoseconds that were made seconds
				v.Value, v.Unit = v.OrigValue, v.OrigUnit
			}
			r.samples[name+" "+v.Unit] = append(r.samples[name+" "+v.Unit], v.Value)
		}
	}
	return r
}

// page returns the document, and draws its pictures.
func (r *report) page() ([]byte, error) {
	var page bytes.Buffer
	err := template.Must(template.New("").Parse(document)).Execute(&page, r)
	return page.Bytes(), err
}

// Rows returns what the benchmark's parts are called, in their order.
func (r *report) Rows(bench string) (rows []string) {
	for _, name := range r.names {
		rest, ok := strings.CutPrefix(name, bench+"/")
		row, _, _ := strings.Cut(rest, "/")
		if ok && !slices.Contains(rows, row) {
			rows = append(rows, row)
		}
	}
	return rows
}

// Of returns what was measured in a unit of the benchmark whose name has these parts.
func (r *report) Of(unit string, name ...string) series {
	return r.samples[strings.Join(name, "/")+" "+unit]
}
