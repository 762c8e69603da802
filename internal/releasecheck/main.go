// Releasecheck verifies that a release of this working tree would be usable, before
// there is one: `make release-check` runs it.
//
// It builds a module proxy of files, as the release will be, installs the program
// from it with an empty GOPATH, and builds programs that use the library and the
// metrics. Other modules come from this machine's module cache, or otherwise from the
// configured proxy.
package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

const root = "github.com/wxtoken/wxtoken"

// allowed are the modules in the go.mod of a program that uses only the library. No
// release may add to them.
var allowed = []string{
	"github.com/bradfitz/gomemcache", "github.com/cespare/xxhash/v2", "github.com/dgryski/go-rendezvous", "github.com/gofrs/flock",
	"github.com/redis/go-redis/v9", root, "golang.org/x/sys",
}

func main() {
	log.SetFlags(0)
	if err := run(); err != nil {
		log.Fatalf("release-check: FAIL: %v", err)
	}
}

func run() error {
	dir, err := os.MkdirTemp("", "wxtoken-release-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := os.Mkdir(filepath.Join(dir, "tmp"), 0o700); err != nil {
		return err
	}
	c := &checker{dir: dir, proxy: filepath.Join(dir, "proxy")}
	for _, step := range []struct {
		says string
		do   func() error
	}{
		{"no replace directive prevents installing the program", c.noReplace},
		{"a proxy of the working tree: " + version, c.publish},
		{"go install " + root + "/cmd/wxtoken@latest, with an empty GOPATH", c.install},
		{"the program prints its version and checks a configuration", c.useProgram},
		{"wxtoken serve -demo hands out a token", c.useDemo},
		{"a program that uses the library", c.useLibrary},
		{"a program that uses the server's client", c.useClient},
		{"a program that uses the metrics", c.useMetrics},
	} {
		if err := step.do(); err != nil {
			return fmt.Errorf("%s: %w", step.says, err)
		}
		log.Printf("ok  %s", step.says)
		for _, line := range c.notes {
			log.Printf("      %s", line)
		}
		c.notes = nil
	}
	log.Print("release-check: all is well")
	return nil
}

// A checker works in a directory of its own.
type checker struct {
	dir, proxy string
	notes      []string
}

func (c *checker) note(format string, args ...any) {
	c.notes = append(c.notes, fmt.Sprintf(format, args...))
}

func (c *checker) noReplace() error {
	text, err := os.ReadFile("go.mod")
	if err != nil {
		return err
	}
	if bytes.Contains(text, []byte("replace")) {
		return errors.New("go.mod has a replace directive: go install rejects such a module")
	}
	return nil
}

// env returns an environment in which only the proxy has wxtoken.
func (c *checker) env() []string {
	cache := "file://" + filepath.ToSlash(filepath.Join(goEnv("GOMODCACHE"), "cache", "download"))
	proxies := []string{"file://" + filepath.ToSlash(c.proxy), cache, goEnv("GOPROXY")}
	return append(os.Environ(),
		"GOPATH="+filepath.Join(c.dir, "gopath"), "GOMODCACHE=", "GOBIN=", "GOPROXY="+strings.Join(proxies, ","),
		"GOSUMDB=off", "GONOSUMDB=", "GOPRIVATE=", "GONOPROXY=", "GOWORK=off", "GOFLAGS=-modcacherw", "GOTMPDIR="+filepath.Join(c.dir, "tmp"))
}

func goEnv(name string) string {
	out, _ := exec.Command("go", "env", name).Output() // a missing value shows below
	return strings.TrimSpace(string(out))
}

// sh runs a command in dir, and returns its output.
func (c *checker) sh(dir, name string, args ...string) (string, error) {
	cmd := exec.Command(name, args...)
	cmd.Dir, cmd.Env = dir, append(c.env(), "PWD="+dir)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out), nil
}

func (c *checker) install() error {
	_, err := c.sh(c.dir, "go", "install", root+"/cmd/wxtoken@latest")
	return err
}

func (c *checker) program() string { return filepath.Join(c.dir, "gopath", "bin", "wxtoken") }

func (c *checker) useProgram() error {
	said, err := c.sh(c.dir, c.program(), "version")
	if err != nil {
		return err
	}
	first, _, _ := strings.Cut(said, "\n")
	c.note("%s", first)
	if first != "wxtoken "+version {
		return fmt.Errorf("it prints %q instead of its version %s", first, version)
	}
	example, err := filepath.Abs("cmd/wxtoken/deploy/config.example.json")
	if err != nil {
		return err
	}
	for _, name := range []string{"WX1_SECRET", "WX2_SECRET", "SHOP_SECRET", "BLOG_SECRET"} {
		if err := os.Setenv(name, fmt.Sprintf("%x", "k7Vq2mXw9Rt4Hs8Z"+name)); err != nil {
			return err
		}
	}
	if err := os.Setenv("REDIS_URL", "redis://127.0.0.1:6379/0"); err != nil {
		return err
	}
	said, err = c.sh(c.dir, c.program(), "serve", "-check", "-config", example)
	c.note("%s", strings.TrimSpace(said))
	return err
}

// useDemo asks the demo for a token, with the command that it prints.
func (c *checker) useDemo() error {
	cmd := exec.Command(c.program(), "serve", "-demo", "-listen", "127.0.0.1:0")
	cmd.Env = c.env()
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
	line := regexp.MustCompile(`curl -H '(Authorization): ([^']*)' '([^']*)'`)
	for lines := bufio.NewScanner(out); lines.Scan(); {
		m := line.FindStringSubmatch(lines.Text())
		if m == nil {
			continue
		}
		req, err := http.NewRequest(http.MethodGet, m[3], nil)
		if err != nil {
			return err
		}
		req.Header.Set(m[1], m[2])
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		if err != nil || !bytes.Contains(text, []byte(`"expires_in":7`)) {
			return fmt.Errorf("it answers %s %.200s", resp.Status, text)
		}
		return nil
	}
	return errors.New("it prints no line to try")
}

// use builds and runs a program in a module of its own, and returns the modules that
// its go.mod then requires.
func (c *checker) use(name, code string) (modules []string, err error) {
	dir := filepath.Join(c.dir, name)
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	for file, text := range map[string]string{"go.mod": "module example.com/" + name + "\n\ngo 1.25.0\n", "main.go": code} {
		if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600); err != nil {
			return nil, err
		}
	}
	for _, args := range [][]string{{"get", root + "@latest"}, {"mod", "tidy"}, {"build", "-o", "program", "."}} {
		if _, err := c.sh(dir, "go", args...); err != nil {
			return nil, err
		}
	}
	said, err := c.sh(dir, filepath.Join(dir, "program"))
	if err != nil {
		return nil, err
	}
	c.note("it says: %s", strings.TrimSpace(said))
	text, err := os.ReadFile(filepath.Join(dir, "go.mod"))
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(text)) {
		words := strings.Fields(strings.TrimPrefix(strings.TrimSpace(line), "require "))
		if len(words) >= 2 && strings.Contains(words[0], "/") && words[0] != "module" {
			modules = append(modules, words[0])
		}
	}
	slices.Sort(modules)
	return modules, nil
}

// lean fails if a program requires more modules than allowed.
func (c *checker) lean(modules []string) error {
	c.note("its go.mod requires %d modules: %s", len(modules), strings.Join(modules, ", "))
	for _, m := range modules {
		if !slices.Contains(allowed, m) {
			return fmt.Errorf("a program that uses only the library now requires %s", m)
		}
	}
	return nil
}

func (c *checker) useLibrary() error {
	modules, err := c.use("library", `package main

import (
	"context"
	"fmt"

	"github.com/wxtoken/wxtoken"
)

func main() {
	_, err := wxtoken.New(wxtoken.NewStableFetcher("", ""), wxtoken.NewMemoryCache()).Token(context.Background())
	fmt.Println(err != nil, "without an appID there is no token")
}
`)
	if err != nil {
		return err
	}
	return c.lean(modules)
}

func (c *checker) useClient() error {
	modules, err := c.use("client", `package main

import (
	"fmt"

	"github.com/wxtoken/wxtoken"
	"github.com/wxtoken/wxtoken/cmd/wxtoken/client"
)

func main() {
	var source wxtoken.TokenSource = client.New("https://tokens.example", "wx1", "secret")
	fmt.Println(source)
}
`)
	if err != nil {
		return err
	}
	return c.lean(modules)
}

func (c *checker) useMetrics() error {
	modules, err := c.use("metrics", `package main

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/wxtoken/wxtoken"
	"github.com/wxtoken/wxtoken/examples/metrics/otelmetrics"
	"github.com/wxtoken/wxtoken/examples/metrics/prommetrics"
)

var _ = otelmetrics.New

func main() {
	metrics := prommetrics.New()
	prometheus.MustRegister(metrics)
	wxtoken.New(wxtoken.NewStableFetcher("wx1", "secret"), nil, wxtoken.WithObserver(metrics.Observer("wx1")))
	families, err := prometheus.DefaultGatherer.Gather()
	fmt.Println(len(families) > 0, err)
}
`)
	if err == nil {
		c.note("its go.mod requires %d modules", len(modules))
	}
	return err
}
