// Command bench measures wxtoken and its peers against each other, in one run
// on one machine, and writes the report with its pictures.
//
//	go run .                 # everything, some ten minutes, into ../docs
//	go run . -only hot,herd  # some chapters, to standard output
//
// What it says is in ratios wherever it can be: times differ from machine to
// machine, and with what else runs there.
package main

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/wxtoken/wxtoken/internal/servers"
)

// A bench is one run.
type bench struct {
	servers  *servers.Program
	quick    bool
	pictures string // the directory for them
	round    int    // of the fleets: a new name in the store for each
}

// scale gives how much to do: full, or the least of it.
func (b *bench) scale(full, least int) int {
	if b.quick {
		return least
	}
	return full
}

func (b *bench) commandFor(chapter string) string { return "cd bench && go run . -only " + chapter }

func main() {
	if os.Getenv(workerEnv) != "" {
		work()
		return
	}
	out := flag.String("out", filepath.Join("..", "docs"), "directory for benchmarks.md and its pictures")
	only := flag.String("only", "", "chapters, separated by commas, to standard output: hot, herd, refresh, traffic, footprint, build, growth")
	quick := flag.Bool("quick", false, "do the least of everything, to see that it works; the figures mean nothing")
	flag.Parse()
	program := new(servers.Program)
	b := &bench{servers: program, quick: *quick, pictures: filepath.Join(*out, "benchmarks")}
	if *only != "" {
		b.pictures = program.TempDir()
	}
	chapters := []struct {
		name string
		run  func() *section
	}{
		{"hot", b.hot}, {"herd", b.herd}, {"refresh", b.refresh}, {"traffic", b.traffic},
		{"footprint", b.footprint}, {"build", b.build}, {"growth", b.growth},
	}
	start, version := time.Now(), revision()
	var sections []*section
	for _, chapter := range chapters {
		if *only == "" || slices.Contains(strings.Split(*only, ","), chapter.name) {
			program.Logf("%s ...", chapter.name)
			sections = append(sections, chapter.run())
		}
	}
	var report bytes.Buffer
	fmt.Fprintf(&report, "# Benchmarks\n\n%s\n\n%s\n", preamble(version, time.Since(start)), summary(sections))
	for _, s := range sections {
		s.write(&report)
	}
	var err error
	if *only != "" {
		_, err = os.Stdout.Write(report.Bytes())
	} else {
		err = os.WriteFile(filepath.Join(*out, "benchmarks.md"), report.Bytes(), 0o644)
	}
	if err != nil {
		program.Fatalf("bench: %v", err)
	}
	program.Close()
}

// revision is asked for before the pictures are written, which make it dirty.
func revision() string {
	out, err := exec.Command("git", "describe", "--always", "--dirty").Output()
	if err != nil {
		return "of an unknown revision"
	}
	return strings.TrimSpace(string(out))
}

func preamble(version string, took time.Duration) string {
	return fmt.Sprintf("Written by `make bench` in %v on %s: wxtoken %s, %s, %s/%s, %d processors%s. "+
		"Everything in a table was measured in this one run, unless it says \"measured elsewhere\". "+
		"Peers: silenceper/wechat v2.1.14, medivhzhan/weapp v3.6.18, fastwego/offiaccount v1.0.1, and from other fields "+
		"x/oauth2, aws-sdk-go-v2 and cloud.google.com/go/auth in the versions of bench/go.mod. "+
		"Servers are real redis-server and memcached processes on loopback; the platform is wxtest.",
		took.Round(time.Second), time.Now().UTC().Format(time.DateOnly), version,
		runtime.Version(), runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), load())
}

// load tells how busy the machine was, where the system says so.
func load() string {
	raw, err := os.ReadFile("/proc/loadavg")
	fields := strings.Fields(string(raw))
	if err != nil || len(fields) < 3 {
		return ""
	}
	return ", load average at the end " + strings.Join(fields[:3], " ")
}
