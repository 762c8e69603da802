package serve

import (
	"bufio"
	"fmt"
	"net/http"
	"os"
	"runtime"
	"runtime/metrics"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/wxtoken/wxtoken/internal/observe"
)

// A histogram is a Prometheus histogram of the duration of fetches.
type histogram struct {
	mu     sync.Mutex
	counts [len(buckets)]uint64
	total  uint64
	sum    float64
}

var buckets = [...]float64{0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10}

func (h *histogram) observe(seconds float64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.total++
	h.sum += seconds
	for i, end := range buckets {
		if seconds <= end {
			h.counts[i]++
		}
	}
}

// serveMetrics writes Prometheus' text format. The names and labels of wxtoken_ are
// those of examples/metrics, so that its alerts and dashboard work.
func (s *Server) serveMetrics(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	out := &exposition{w: bufio.NewWriterSize(w, 32<<10)}
	defer func() { _ = out.w.Flush() }() // fails only if the client has gone
	s.appMetrics(out)

	out.family("tokenserver_requests_total", "counter", "Requests by path and HTTP status.")
	for key, n := range s.journal.totals() {
		out.sample("tokenserver_requests_total", n, "path", key.route, "status", strconv.Itoa(key.status))
	}
	for _, g := range []struct {
		name, kind, help string
		value            float64
	}{
		{"tokenserver_connections", "gauge", "Connections of clients.", float64(s.conns.count())},
		{"tokenserver_connections_closed_total", "counter", "Connections of clients that were closed to make room for others.", float64(s.conns.closed())},
		{"tokenserver_reports_limited_total", "counter", "Reports of rejected tokens over the limit of a client.", float64(s.limited.Load())},
		{"tokenserver_wrong_secrets_total", "counter", "Requests with a client secret that is missing or wrong.", float64(s.wrongSecrets.total())},
		{"tokenserver_configuration_age_seconds", "gauge", "Since the configuration was last read successfully.", time.Since(time.Unix(0, s.configured.Load())).Seconds()},
		{"tokenserver_configuration_errors_total", "counter", "Configurations that were reloaded and found invalid.", float64(s.badReloads.Load())},
	} {
		out.family(g.name, g.kind, g.help)
		out.sample(g.name, g.value)
	}
	if s.cert != nil {
		out.family("tokenserver_certificate_not_after_seconds", "gauge", "When the certificate in use expires, as a unix time.")
		out.sample("tokenserver_certificate_not_after_seconds", float64(s.cert.notAfter().Unix()))
		out.family("tokenserver_certificate_reload_failures_total", "counter", "Changed certificates that could not be read.")
		out.sample("tokenserver_certificate_reload_failures_total", float64(s.cert.failures.Load()))
	}
	processMetrics(out, s.started)
}

func (s *Server) appMetrics(out *exposition) {
	apps := s.catalog.Load().all()
	now := time.Now()
	out.family("wxtoken_token_remaining_seconds", "gauge", "Remaining lifetime of the newest token that this process knows; 0 if it has none or an API rejected it.")
	for _, a := range apps {
		out.sample("wxtoken_token_remaining_seconds", max(a.watch.snapshot().End.Sub(now).Seconds(), 0), "app", a.label)
	}
	out.family("wxtoken_fetches_total", "counter", "Requests of this process for a token, by result: "+strings.Join(observe.Results(), ", ")+".")
	for _, a := range apps {
		h := a.watch.snapshot()
		for i, result := range observe.Results() {
			out.sample("wxtoken_fetches_total", float64(h.Fetches[i]), "app", a.label, "result", result)
		}
	}
	out.family("wxtoken_events_total", "counter", "Other events, by wxtoken.EventKind.")
	for _, a := range apps {
		h := a.watch.snapshot()
		for i, kind := range observe.Kinds() {
			out.sample("wxtoken_events_total", float64(h.Events[i]), "app", a.label, "kind", string(kind))
		}
	}
	h := &s.seconds
	h.mu.Lock()
	defer h.mu.Unlock()
	const name = "wxtoken_fetch_duration_seconds"
	out.family(name, "histogram", "Duration of requests for a token, over all apps.")
	for i, end := range buckets {
		out.sample(name+"_bucket", float64(h.counts[i]), "le", strconv.FormatFloat(end, 'g', -1, 64))
	}
	out.sample(name+"_bucket", float64(h.total), "le", "+Inf")
	out.sample(name+"_sum", h.sum)
	out.sample(name+"_count", float64(h.total))
}

// processMetrics writes the basic process metrics that every dashboard uses.
func processMetrics(out *exposition, started time.Time) {
	var cpu []metrics.Sample
	for _, name := range []string{"/memory/classes/heap/objects:bytes", "/gc/cycles/total:gc-cycles"} {
		cpu = append(cpu, metrics.Sample{Name: name})
	}
	metrics.Read(cpu)
	for _, g := range []struct {
		name, kind, help string
		value            float64
	}{
		{"go_goroutines", "gauge", "Number of goroutines that currently exist.", float64(runtime.NumGoroutine())},
		{"go_memstats_heap_alloc_bytes", "gauge", "Number of heap bytes allocated and currently in use.", float64(cpu[0].Value.Uint64())},
		{"go_gc_cycles_total", "counter", "Count of all completed GC cycles.", float64(cpu[1].Value.Uint64())},
		{"process_start_time_seconds", "gauge", "Start time of the process since unix epoch in seconds.", float64(started.Unix())},
	} {
		out.family(g.name, g.kind, g.help)
		out.sample(g.name, g.value)
	}
	if statm, err := os.ReadFile("/proc/self/statm"); err == nil { // Linux
		if fields := strings.Fields(string(statm)); len(fields) > 1 {
			pages, _ := strconv.ParseFloat(fields[1], 64)
			out.family("process_resident_memory_bytes", "gauge", "Resident memory size in bytes.")
			out.sample("process_resident_memory_bytes", pages*float64(os.Getpagesize()))
		}
	}
	if open, err := os.ReadDir("/proc/self/fd"); err == nil {
		out.family("process_open_fds", "gauge", "Number of open file descriptors.")
		out.sample("process_open_fds", float64(len(open)))
	}
}

// An exposition is a page in Prometheus' text format.
type exposition struct{ w *bufio.Writer }

func (e *exposition) family(name, kind, help string) {
	fmt.Fprintf(e.w, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, kind)
}

var escape = strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`)

// sample writes a value with labels, given as name, value, name, value.
func (e *exposition) sample(name string, value float64, labels ...string) {
	_, _ = e.w.WriteString(name)
	for pair := range slices.Chunk(labels, 2) {
		separator := byte(',')
		if pair[0] == labels[0] {
			separator = '{'
		}
		_ = e.w.WriteByte(separator)
		_, _ = e.w.WriteString(pair[0] + `="` + escape.Replace(pair[1]) + `"`)
	}
	if len(labels) > 0 {
		_ = e.w.WriteByte('}')
	}
	_, _ = e.w.WriteString(" " + strconv.FormatFloat(value, 'g', -1, 64) + "\n")
}
