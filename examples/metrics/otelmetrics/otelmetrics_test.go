package otelmetrics_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/attribute"
	sdk "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/wxtoken/wxtoken"
	"github.com/wxtoken/wxtoken/examples/metrics/otelmetrics"
)

func TestMetricsFollowTheEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reader := sdk.NewManualReader()
		m, err := otelmetrics.New(sdk.NewMeterProvider(sdk.WithReader(reader)).Meter("wxtoken"))
		require.NoError(t, err)
		// value returns the sum or gauge called name, for the app and this attribute.
		value := func(name string, attrs ...attribute.KeyValue) any {
			t.Helper()
			var all metricdata.ResourceMetrics
			require.NoError(t, reader.Collect(t.Context(), &all))
			set := attribute.NewSet(append(attrs, attribute.String("app", "wx1"))...)
			for _, metric := range all.ScopeMetrics[0].Metrics {
				if metric.Name != name {
					continue
				}
				switch data := metric.Data.(type) {
				case metricdata.Sum[int64]:
					for _, p := range data.DataPoints {
						if p.Attributes.Equals(&set) {
							return p.Value
						}
					}
				case metricdata.Gauge[float64]:
					for _, p := range data.DataPoints {
						if p.Attributes.Equals(&set) {
							return p.Value
						}
					}
				}
			}
			return nil
		}

		observe := m.Observer("wx1")
		assert.Equal(t, 0.0, value("wxtoken.token.remaining"))
		assert.Equal(t, int64(0), value("wxtoken.events", attribute.String("kind", "conflict")))
		assert.Equal(t, int64(0), value("wxtoken.fetches", attribute.String("result", "quota")))

		observe(wxtoken.Event{Kind: wxtoken.EventFetch, Err: errors.New("reset")})
		observe(wxtoken.Event{Kind: wxtoken.EventFetch, ExpiresAt: time.Now().Add(time.Hour)})
		assert.Equal(t, int64(1), value("wxtoken.fetches", attribute.String("result", "ok")))
		assert.Equal(t, int64(1), value("wxtoken.fetches", attribute.String("result", "failed")))
		assert.Equal(t, 3600.0, value("wxtoken.token.remaining"))
		observe(wxtoken.Event{Kind: wxtoken.EventReject})
		assert.Equal(t, 0.0, value("wxtoken.token.remaining"))
		assert.Equal(t, int64(1), value("wxtoken.events", attribute.String("kind", "reject")))
	})
}
