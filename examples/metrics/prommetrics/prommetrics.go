// Package prommetrics exports the Events of wxtoken Sources to Prometheus.
package prommetrics

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/wxtoken/wxtoken"
	"github.com/wxtoken/wxtoken/internal/observe"
)

// Metrics is a prometheus.Collector: make one for each process and register it.
type Metrics struct {
	remaining *prometheus.Desc
	fetches   *prometheus.CounterVec
	events    *prometheus.CounterVec
	duration  prometheus.Histogram
	age       *prometheus.GaugeVec

	mu   sync.Mutex
	ends map[string]time.Time // by app; zero: no token. guarded by mu
}

// New returns Metrics without any app.
func New() *Metrics {
	return &Metrics{
		remaining: prometheus.NewDesc("wxtoken_token_remaining_seconds",
			"Remaining lifetime of the newest token that this process knows; 0 if it has none or an API rejected it.", []string{"app"}, nil),
		fetches: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "wxtoken_fetches_total",
			Help: "Requests of this process for a token, by result: ok, busy, secret, ip, quota, denied or failed.",
		}, []string{"app", "result"}),
		events: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "wxtoken_events_total",
			Help: "Other events, by wxtoken.EventKind: adopt, reject, ignored, conflict, takeover, lease_lost, restore or cache_error.",
		}, []string{"app", "kind"}),
		duration: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "wxtoken_fetch_duration_seconds",
			Help:    "Duration of requests for a token, over all apps.",
			Buckets: []float64{0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10},
		}),
		age: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "wxtoken_rejected_token_age_seconds",
			Help: "Age of the token that an API rejected last; absent before the first.",
		}, []string{"app"}),
		ends: map[string]time.Time{},
	}
}

// Observer returns an observer for wxtoken.WithObserver, for the Source of one app.
// The label app distinguishes it from others; every series of it starts now, with 0.
func (m *Metrics) Observer(app string) func(wxtoken.Event) {
	for _, result := range observe.Results() {
		m.fetches.WithLabelValues(app, result)
	}
	for _, kind := range observe.Kinds() {
		m.events.WithLabelValues(app, string(kind))
	}
	m.setEnd(app, time.Time{})
	return func(e wxtoken.Event) {
		if e.Kind == wxtoken.EventFetch {
			m.fetches.WithLabelValues(app, observe.Result(e.Err)).Inc()
			m.duration.Observe(e.Duration.Seconds())
		} else {
			m.events.WithLabelValues(app, string(e.Kind)).Add(float64(max(e.Count, 1)))
		}
		if e.Kind == wxtoken.EventReject {
			m.age.WithLabelValues(app).Set(e.Age.Seconds())
		}
		if !e.ExpiresAt.IsZero() || e.Kind == wxtoken.EventReject {
			m.setEnd(app, e.ExpiresAt)
		}
	}
}

func (m *Metrics) setEnd(app string, end time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.ends[app] = end
}

// Describe implements prometheus.Collector.
func (m *Metrics) Describe(ch chan<- *prometheus.Desc) {
	ch <- m.remaining
	m.fetches.Describe(ch)
	m.events.Describe(ch)
	m.duration.Describe(ch)
	m.age.Describe(ch)
}

// Collect implements prometheus.Collector.
func (m *Metrics) Collect(ch chan<- prometheus.Metric) {
	m.fetches.Collect(ch)
	m.events.Collect(ch)
	m.duration.Collect(ch)
	m.age.Collect(ch)
	m.mu.Lock()
	defer m.mu.Unlock()
	for app, end := range m.ends {
		left := max(time.Until(end).Seconds(), 0)
		ch <- prometheus.MustNewConstMetric(m.remaining, prometheus.GaugeValue, left, app)
	}
}
