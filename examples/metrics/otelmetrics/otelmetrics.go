// Package otelmetrics exports the Events of wxtoken Sources to OpenTelemetry.
// Exported to Prometheus, its metrics have the names of prommetrics, so that the same
// alert rules and dashboard work for both.
package otelmetrics

import (
	"context"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/wxtoken/wxtoken"
	"github.com/wxtoken/wxtoken/internal/observe"
)

// Metrics holds the instruments: make one for each process.
type Metrics struct {
	fetches  metric.Int64Counter
	events   metric.Int64Counter
	duration metric.Float64Histogram
	age      metric.Float64Gauge

	mu   sync.Mutex
	ends map[string]time.Time // by app; zero: no token. guarded by mu
}

// New returns Metrics with instruments from a Meter such as
// provider.Meter("github.com/wxtoken/wxtoken").
func New(meter metric.Meter) (*Metrics, error) {
	m := &Metrics{ends: map[string]time.Time{}}
	var err error
	if m.fetches, err = meter.Int64Counter("wxtoken.fetches",
		metric.WithDescription("Requests of this process for a token, by result.")); err != nil {
		return nil, err
	}
	if m.events, err = meter.Int64Counter("wxtoken.events",
		metric.WithDescription("Other events, by wxtoken.EventKind.")); err != nil {
		return nil, err
	}
	if m.duration, err = meter.Float64Histogram("wxtoken.fetch.duration", metric.WithUnit("s"),
		metric.WithDescription("Duration of requests for a token, over all apps."),
		metric.WithExplicitBucketBoundaries(0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)); err != nil {
		return nil, err
	}
	if m.age, err = meter.Float64Gauge("wxtoken.rejected_token.age", metric.WithUnit("s"),
		metric.WithDescription("Age of the token that an API rejected last.")); err != nil {
		return nil, err
	}
	_, err = meter.Float64ObservableGauge("wxtoken.token.remaining", metric.WithUnit("s"),
		metric.WithDescription("Remaining lifetime of the newest token that this process knows; 0 if it has none or an API rejected it."),
		metric.WithFloat64Callback(m.observeRemaining))
	return m, err
}

// Observer returns an observer for wxtoken.WithObserver, for the Source of one app.
// The attribute app distinguishes it from others; every series of it starts now, with
// 0.
func (m *Metrics) Observer(app string) func(wxtoken.Event) {
	ctx := context.Background()
	with := func(key, value string) metric.MeasurementOption {
		return metric.WithAttributes(attribute.String("app", app), attribute.String(key, value))
	}
	for _, result := range observe.Results() {
		m.fetches.Add(ctx, 0, with("result", result))
	}
	for _, kind := range observe.Kinds() {
		m.events.Add(ctx, 0, with("kind", string(kind)))
	}
	m.setEnd(app, time.Time{})
	return func(e wxtoken.Event) {
		if e.Kind == wxtoken.EventFetch {
			m.fetches.Add(ctx, 1, with("result", observe.Result(e.Err)))
			m.duration.Record(ctx, e.Duration.Seconds())
		} else {
			m.events.Add(ctx, int64(max(e.Count, 1)), with("kind", string(e.Kind)))
		}
		if e.Kind == wxtoken.EventReject {
			m.age.Record(ctx, e.Age.Seconds(), metric.WithAttributes(attribute.String("app", app)))
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

func (m *Metrics) observeRemaining(_ context.Context, o metric.Float64Observer) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for app, end := range m.ends {
		o.Observe(max(time.Until(end).Seconds(), 0), metric.WithAttributes(attribute.String("app", app)))
	}
	return nil
}
