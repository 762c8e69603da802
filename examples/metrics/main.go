// Metrics shows what Prometheus and OpenTelemetry see of wxtoken:
//
//	cd examples/metrics && go run .
//
// It runs on a fake platform. Copy package prommetrics or otelmetrics; alerts.yml and
// dashboard.json work with either.
package main

import (
	"context"
	"fmt"
	"io"
	"net/http/httptest"
	"os"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	sdk "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/wxtoken/wxtoken"
	"github.com/wxtoken/wxtoken/examples/metrics/otelmetrics"
	"github.com/wxtoken/wxtoken/examples/metrics/prommetrics"
	"github.com/wxtoken/wxtoken/wxtest"
)

func main() {
	if err := run(context.Background(), os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, stdout io.Writer) error {
	// Prometheus: one collector for all Sources of the process.
	registry := prometheus.NewRegistry() // or prometheus.DefaultRegisterer
	prom := prommetrics.New()
	if err := registry.Register(prom); err != nil {
		return err
	}
	// OpenTelemetry: a manual reader takes the place of an exporter.
	reader := sdk.NewManualReader()
	otel, err := otelmetrics.New(sdk.NewMeterProvider(sdk.WithReader(reader)).Meter("github.com/wxtoken/wxtoken"))
	if err != nil {
		return err
	}

	// A program needs one of the two. Here the same Source feeds both.
	const app = "wxfake"
	toProm, toOTel := prom.Observer(app), otel.Observer(app)
	platform := wxtest.NewPlatform(wxtest.WithApp(app, "secret"))
	platform.Inject(wxtest.Denial(40164).Times(1)) // the first fetch is denied, as from an unknown address
	src := wxtoken.New(
		wxtoken.NewFetcher(app, "secret", wxtoken.WithHTTPClient(platform.Client())),
		wxtoken.NewMemoryCache(),
		wxtoken.WithObserver(func(e wxtoken.Event) { toProm(e); toOTel(e) }),
	)
	if _, err := src.Token(ctx); err != nil {
		fmt.Fprintln(stdout, "# the first call got:", err)
	}
	if err := src.Wait(ctx); err != nil { // until all Events are delivered
		return err
	}

	fmt.Fprintln(stdout, "\n# Prometheus")
	page := httptest.NewRecorder()
	promhttp.HandlerFor(registry, promhttp.HandlerOpts{}).ServeHTTP(page, httptest.NewRequest("GET", "/metrics", nil))
	for line := range strings.Lines(page.Body.String()) {
		if !strings.Contains(line, "_bucket") {
			fmt.Fprint(stdout, line)
		}
	}

	fmt.Fprintln(stdout, "\n# OpenTelemetry")
	var all metricdata.ResourceMetrics
	if err := reader.Collect(ctx, &all); err != nil {
		return err
	}
	for _, scope := range all.ScopeMetrics {
		for _, m := range scope.Metrics {
			fmt.Fprintf(stdout, "%s (%T): %s\n", m.Name, m.Data, m.Description)
		}
	}
	return nil
}
