package check

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	otelprom "go.opentelemetry.io/otel/exporters/prometheus"
	sdk "go.opentelemetry.io/otel/sdk/metric"

	"github.com/wxtoken/wxtoken"
	"github.com/wxtoken/wxtoken/examples/metrics/otelmetrics"
	"github.com/wxtoken/wxtoken/examples/metrics/prommetrics"
)

// exposed gives the labels of each metric that a process exposes which uses
// prommetrics, or otelmetrics behind OpenTelemetry's exporter for Prometheus.
func exposed(t *testing.T, system string) map[string]labels.Labels {
	t.Helper()
	registry := prometheus.NewRegistry()
	var observe func(wxtoken.Event)
	if system == "prommetrics" {
		m := prommetrics.New()
		registry.MustRegister(m)
		observe = m.Observer(app)
	} else {
		exporter, err := otelprom.New(otelprom.WithRegisterer(registry), otelprom.WithoutScopeInfo(), otelprom.WithoutTargetInfo())
		require.NoError(t, err)
		m, err := otelmetrics.New(sdk.NewMeterProvider(sdk.WithReader(exporter)).Meter("wxtoken"))
		require.NoError(t, err)
		observe = m.Observer(app)
	}
	observe(wxtoken.Event{Kind: wxtoken.EventFetch})
	var h history
	h.scrape(t, registry)
	names := map[string]labels.Labels{}
	for _, s := range h.series {
		names[s.labels.Get(model.MetricNameLabel)] = s.labels
	}
	return names
}

func TestRulesAndDashboardNameOnlyWhatIsExposed(t *testing.T) {
	expressions := dashboard(t)
	for _, rule := range rules(t) {
		expressions[rule.Alert] = rule.Expr
	}
	for _, system := range []string{"prommetrics", "otelmetrics"} {
		names := exposed(t, system)
		for where, expr := range expressions {
			parsed, err := newParser().ParseExpr(expr)
			require.NoError(t, err, where)
			parser.Inspect(parsed, func(node parser.Node, _ []parser.Node) error {
				switch n := node.(type) {
				case *parser.VectorSelector:
					have, ok := names[n.Name]
					assert.True(t, ok, "%s: %s exposes no %s", where, system, n.Name)
					for _, m := range n.LabelMatchers {
						assert.True(t, have.Has(m.Name), "%s: %s of %s has no label %s", where, n.Name, system, m.Name)
					}
				case *parser.AggregateExpr:
					for _, label := range n.Grouping {
						assert.Contains(t, []string{"app", "result", "kind", "le"}, label, where)
					}
				}
				return nil
			})
		}
	}
}

func TestEveryPanelShowsSomething(t *testing.T) {
	h := play(t, func(*world) {})
	for where, expr := range dashboard(t) {
		assert.NotEmpty(t, h.query(t, expr), "%s: %s", where, expr)
	}
}

// dashboard gives the expressions of dashboard.json, with Grafana's variables
// filled in, by panel and legend.
func dashboard(t *testing.T) map[string]string {
	t.Helper()
	text, err := os.ReadFile("../dashboard.json")
	require.NoError(t, err)
	var board struct {
		Panels []struct {
			ID      int
			Title   string
			GridPos struct{ X, Y, W, H int }
			Targets []struct{ Expr, LegendFormat string }
		}
		Templating struct{ List []struct{ Name string } }
	}
	require.NoError(t, json.Unmarshal(text, &board))
	require.NotEmpty(t, board.Panels)
	fill := strings.NewReplacer("$app", ".*", "$__rate_interval", "5m")
	expressions := map[string]string{}
	ids := map[int]bool{}
	for _, p := range board.Panels {
		assert.False(t, ids[p.ID], "two panels have the id %d", p.ID)
		ids[p.ID] = true
		assert.LessOrEqual(t, p.GridPos.X+p.GridPos.W, 24, p.Title)
		require.NotEmpty(t, p.Targets, p.Title)
		for _, target := range p.Targets {
			expressions[p.Title+" "+target.LegendFormat] = fill.Replace(target.Expr)
		}
	}
	return expressions
}
