//go:build linux

package serve

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/wxtoken/wxtoken/cmd/wxtoken/internal/config"
	"github.com/wxtoken/wxtoken/wxtest"
)

var (
	figures = flag.Bool("figures", false, "measure the figures of the README, by wrk, for some minutes")
	rounds  = flag.Int("figures.rounds", 9, "rounds in which all are measured, one after the other")
)

// Everything that is measured runs in a process of its own: this binary again.
const beVariable = "WXTOKEN_FIGURES"

func TestMain(m *testing.M) {
	if name := os.Getenv(beVariable); name != "" {
		be(name, os.Getenv("WXTOKEN_UPSTREAM"))
	}
	os.Exit(m.Run())
}

const constant = `{"access_token":"0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345","expires_in":7199}` + "\n"

// be serves as one of the servers that are measured, and prints its address.
func be(name, upstream string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	fmt.Println(l.Addr())
	switch name {
	case "bare":
		panic(http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json; charset=utf-8")
			_, _ = io.WriteString(w, constant)
		})))
	case "without":
		panic(http.Serve(l, without()))
	case "api":
		panic(http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json; encoding=utf-8")
			_, _ = io.WriteString(w, `{"ip_list":["101.226.233.128","58.246.220.31"]}`)
		})))
	case "bare proxy":
		u, _ := url.Parse(upstream)
		panic(http.Serve(l, &httputil.ReverseProxy{
			Transport: newAPIs(),
			Rewrite: func(r *httputil.ProxyRequest) {
				r.SetURL(u)
				r.Out.URL.Path = strings.TrimPrefix(r.Out.URL.Path, "/proxy/wx1")
			},
		}))
	}
	_ = l.Close()
	platform := wxtest.NewServer(wxtest.WithApp("wx1", appSecret))
	if upstream == "" {
		upstream = platform.URL
	}
	serveAt(l.Addr().String(), platform.URL, upstream)
}

// without does what the server does for GET /token, except for wxtoken: it looks up
// the client by its secret, and the app, and writes a constant token.
func without() http.Handler {
	clients := map[[sha256.Size]byte]map[string]string{sha256.Sum256([]byte(shopSecret)): {"wx1": strings.Split(constant, `"`)[3]}}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		secret := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
		token := clients[sha256.Sum256([]byte(secret))][r.URL.Query().Get("appid")]
		if token == "" {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		w.Header().Set("Content-Type", "application/json; charset=utf-8")
		_ = json.NewEncoder(w).Encode(struct {
			AccessToken string `json:"access_token"`
			ExpiresIn   int64  `json:"expires_in"`
		}{token, 7199})
	})
}

// serveAt is wxtoken serve with APIs on another host than its tokens.
func serveAt(addr, platform, upstream string) {
	c := &config.Config{
		Listen: addr, Admin: "off", Single: true,
		Apps:    []config.App{{AppID: "wx1", Secret: appSecret, BaseURL: platform}},
		Clients: []config.Client{{Name: "shop", Secret: shopSecret, Apps: []string{"wx1"}, Proxy: []string{"/cgi-bin/*"}}},
	}
	if err := c.Check(); err != nil {
		panic(err)
	}
	log, _ := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	s, err := Open(c, slog.New(slog.NewJSONHandler(log, nil)))
	if err != nil {
		panic(err)
	}
	a := s.catalog.Load().apps["wx1"]
	if a.apis, err = url.Parse(upstream); err != nil {
		panic(err)
	}
	a.proxy = s.newProxy(a)
	panic(s.Serve(context.Background(), context.Background()))
}

// child starts a server to be measured.
func child(t *testing.T, name, upstream string) (addr string, cmd *exec.Cmd) {
	t.Helper()
	cmd = exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), beVariable+"="+name, "WXTOKEN_UPSTREAM="+upstream)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	cmd.Stderr = os.Stderr
	require.NoError(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	return strings.TrimSpace(line), cmd
}

// A sample is one run of wrk.
type sample struct{ rate, p50, p99, cpu float64 } // requests a second; ms; processor time of a request in µs

var latency = regexp.MustCompile(`(?m)^\s+(50|99)%\s+([\d.]+)(us|ms|s)$`)

func wrk(t *testing.T, url string, connections, pid int) (s sample) {
	t.Helper()
	before := processor(t, pid)
	out, err := exec.CommandContext(t.Context(), "wrk", "-t1", "-c"+strconv.Itoa(connections), "-d2s", "--latency",
		"-H", "Authorization: Bearer "+shopSecret, url).CombinedOutput()
	require.NoError(t, err, string(out))
	require.NotContains(t, string(out), "Non-2xx", url)
	m := regexp.MustCompile(`Requests/sec:\s+([\d.]+)`).FindStringSubmatch(string(out))
	require.NotNil(t, m, string(out))
	s.rate, _ = strconv.ParseFloat(m[1], 64)
	requests := regexp.MustCompile(`(\d+) requests in`).FindStringSubmatch(string(out))
	count, _ := strconv.ParseFloat(requests[1], 64)
	s.cpu = (processor(t, pid) - before) / count
	for _, l := range latency.FindAllStringSubmatch(string(out), -1) {
		ms, _ := strconv.ParseFloat(l[2], 64)
		ms *= map[string]float64{"us": 0.001, "ms": 1, "s": 1000}[l[3]]
		if l[1] == "50" {
			s.p50 = ms
		} else {
			s.p99 = ms
		}
	}
	return s
}

// processor is the processor time of a process, in µs.
func processor(t *testing.T, pid int) (all float64) {
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	require.NoError(t, err)
	for _, task := range tasks {
		if text, err := os.ReadFile(task); err == nil {
			ns, _ := strconv.ParseFloat(strings.Fields(string(text))[0], 64)
			all += ns / 1000
		}
	}
	return all
}

func medianOf(all []sample, of func(sample) float64) float64 {
	var values []float64
	for _, s := range all {
		values = append(values, of(s))
	}
	slices.Sort(values)
	return values[len(values)/2]
}

// memory is the largest resident memory of a process so far, in MB.
func memory(t *testing.T, pid int) float64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	require.NoError(t, err)
	m := regexp.MustCompile(`VmHWM:\s+(\d+) kB`).FindStringSubmatch(string(text))
	kb, _ := strconv.ParseFloat(m[1], 64)
	return kb / 1024
}

// compare measures all of them in rounds, one after the other, so that other load on
// the machine affects all. The ratios are the medians of the rounds' ratios.
func compare(t *testing.T, title string, connections int, names, urls []string, pids []int) {
	samples := make([][]sample, len(urls))
	for i, u := range urls {
		wrk(t, u, connections, pids[i]) // warm
	}
	for range *rounds {
		for i, u := range urls {
			samples[i] = append(samples[i], wrk(t, u, connections, pids[i]))
		}
	}
	t.Logf("%s, %d connections, medians of %d rounds", title, connections, *rounds)
	for i, name := range names {
		var ratio []sample
		for j, s := range samples[i] {
			first := samples[0][j]
			ratio = append(ratio, sample{s.rate / first.rate, s.p50 / first.p50, s.p99 / first.p99, s.cpu / first.cpu})
		}
		rate := func(s sample) float64 { return s.rate }
		p50 := func(s sample) float64 { return s.p50 }
		cpu := func(s sample) float64 { return s.cpu }
		t.Logf("| %s | %.0f | %.2f | %.2f ms | %.2f | %.2f ms | %.1f µs | %.2f | %.0f MB |", name,
			medianOf(samples[i], rate), medianOf(ratio, rate), medianOf(samples[i], p50), medianOf(ratio, p50),
			medianOf(samples[i], func(s sample) float64 { return s.p99 }), medianOf(samples[i], cpu), medianOf(ratio, cpu), memory(t, pids[i]))
	}
}

// TestFigures prints the rows of the README's tables.
func TestFigures(t *testing.T) {
	if !*figures {
		t.Skip("make serve-figures measures them")
	}
	bare, bareCmd := child(t, "bare", "")
	none, noneCmd := child(t, "without", "")
	server, serverCmd := child(t, "serve", "")
	time.Sleep(time.Second) // until the token is there
	query := "/token?appid=wx1"
	compare(t, "GET /token", 32, []string{"a bare handler with a constant answer", "the same work without wxtoken", "wxtoken serve"},
		[]string{"http://" + bare + query, "http://" + none + query, "http://" + server + query},
		[]int{bareCmd.Process.Pid, noneCmd.Process.Pid, serverCmd.Process.Pid})

	api, _ := child(t, "api", "")
	plain, plainCmd := child(t, "bare proxy", "http://"+api)
	proxy, proxyCmd := child(t, "serve", "http://"+api)
	time.Sleep(time.Second)
	path := "/proxy/wx1/cgi-bin/get_api_domain_ip"
	compare(t, "the proxy", 8, []string{"a bare httputil.ReverseProxy", "wxtoken serve"},
		[]string{"http://" + plain + path, "http://" + proxy + path}, []int{plainCmd.Process.Pid, proxyCmd.Process.Pid})
}

// TestTenThousandApps prints how long ten thousand apps take to start, within 1,024
// descriptors, and checks the limits.
func TestTenThousandApps(t *testing.T) {
	if !*figures {
		t.Skip("make serve-figures measures it")
	}
	const apps = 10_000
	platform, url, under := countedPlatform(t, 50*time.Millisecond)
	list := make([]map[string]any, apps)
	for i := range list {
		id := fmt.Sprintf("wx%016x", i)
		platform.AddApp(id, appSecret)
		list[i] = map[string]any{"appid": id, "secret": appSecret, "base_url": url}
	}
	text, err := json.Marshal(map[string]any{
		"listen": "127.0.0.1:0", "admin": "off", "single": true, "apps": list,
		"clients": []any{map[string]any{"name": "shop", "secret": shopSecret, "apps": []string{"*"}}},
	})
	require.NoError(t, err)
	file := t.TempDir() + "/config.json"
	require.NoError(t, os.WriteFile(file, text, 0o600))
	program := t.TempDir() + "/wxtoken"
	out, err := exec.CommandContext(t.Context(), "go", "build", "-o", program, "github.com/wxtoken/wxtoken/cmd/wxtoken").CombinedOutput()
	require.NoError(t, err, string(out))
	log := new(syncBuffer)
	cmd := exec.CommandContext(t.Context(), "sh", "-c", `ulimit -n 1024 && exec "$0" serve -config "$1"`, program, file)
	cmd.Stderr = log
	start := time.Now()
	require.NoError(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	mostFiles := 0
	require.Eventually(t, func() bool {
		if files, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", cmd.Process.Pid)); err == nil {
			mostFiles = max(mostFiles, len(files))
		}
		return platform.Stats().Results[wxtest.TokenPath][0] == apps
	}, 5*time.Minute, 20*time.Millisecond)
	took := time.Since(start)
	time.Sleep(time.Second)
	t.Logf("%d apps: %.1f s, at most %d requests and %d descriptors at a time, %.0f MB", apps, took.Seconds(), under.most(), mostFiles, memory(t, cmd.Process.Pid))
	require.LessOrEqual(t, under.most(), fetches)
	require.Less(t, memory(t, cmd.Process.Pid), 200.0)
	require.Equal(t, apps, platform.Stats().Fetches().Total())
}
