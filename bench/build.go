package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// build measures what a library adds to a program, to its build and to its
// dependencies.
func (b *bench) build() *section {
	s := &section{title: "Binary size, build and dependencies", command: b.commandFor("build")}
	programs := []struct{ dir, name string }{
		{"bare", "net/http and encoding/json, no library"}, {"standard", "the same, and what else of the standard library wxtoken needs"},
		{"memory", nameOurs + ", memory"}, {"redis", nameOurs + ", Redis"},
		{"silenceper", nameSilenceper}, {"weapp", nameWeapp}, {"fastwego", nameFastwego},
	}
	if b.quick {
		programs = programs[:2]
	}
	var rows [][]string
	var bare, standard built
	for _, p := range programs {
		made := b.compile(p.dir)
		switch p.dir {
		case "bare":
			bare = made
		case "standard":
			standard = made
		}
		added := float64(made.size-bare.size) / 1000
		rows = append(rows, []string{
			p.name, thousands(made.size / 1000), fmt.Sprintf("%+.0f", added), fmt.Sprintf("%.1f", made.cold.Seconds()),
			digits(made.cold.Seconds() / bare.cold.Seconds()), fmt.Sprint(made.modules), fmt.Sprint(made.packages),
		})
		if p.dir == "memory" {
			s.expect(added <= 100, "binary with the memory cache, stripped, over one without a library", "≤ 100 KB", fmt.Sprintf("%.0f KB, of which %d standard library", added, (standard.size-bare.size)/1000))
		}
	}
	s.text("The programs of bench/programs, each built once with `go build -trimpath -ldflags='-s -w'`, CGO_ENABLED=0 and an empty build cache; " +
		"modules are already downloaded. KB are 1,000 bytes. Modules and packages are those outside the standard library that " +
		"the build compiles (`go list -deps`), in the versions that bench/go.mod selects for all together. " +
		"wxtoken's Redis and Memcached clients are compiled with it, and left out of the binary by the linker where nothing uses them.")
	s.text("The second line has errors.As, net/http/httptrace, AES-GCM and the like, which most programs of some size have anyway: " +
		"what wxtoken is heavier than that is its own code, and what go-redis' packages do at their start. " +
		"log/slog, which its API names, is linked only as far as its own start, unless WithLogger is used.")
	s.table([]string{"program", "KB", "KB more than bare", "cold build, s", "÷ bare", "modules", "packages"}, rows)
	return s
}

// built is what a program's build gave.
type built struct {
	size, modules, packages int
	cold                    time.Duration
}

func (b *bench) compile(program string) built {
	dir := b.servers.TempDir()
	pkg, binary := "./programs/"+program, filepath.Join(dir, "program")
	run := func(args ...string) string {
		cmd := exec.Command("go", args...)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if args[0] == "build" {
			cmd.Env = append(cmd.Env, "GOCACHE="+filepath.Join(dir, "cache"))
		}
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		if err != nil {
			b.servers.Fatalf("bench: go %s: %v\n%s", strings.Join(args, " "), err, stderr.String())
		}
		return string(out)
	}
	start := time.Now()
	run("build", "-trimpath", "-ldflags=-s -w", "-o", binary, pkg)
	made := built{cold: time.Since(start)}
	info, err := os.Stat(binary)
	if err != nil {
		b.servers.Fatalf("bench: %v", err)
	}
	made.size = int(info.Size())
	modules := map[string]bool{}
	for line := range strings.Lines(run("list", "-deps", "-f", "{{if .Module}}{{.Module.Path}}{{end}}", pkg)) {
		module := strings.TrimSpace(line)
		if module == "" || module == "github.com/wxtoken/wxtoken/bench" {
			continue
		}
		modules[module] = true
		made.packages++
	}
	made.modules = len(modules)
	return made
}
