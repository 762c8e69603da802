package main

import (
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/wxtoken/wxtoken"
	"github.com/wxtoken/wxtoken/examples/metrics/prommetrics"
)

// A rule or panel for a name that no process exposes silently shows nothing.
func TestRulesAndDashboardNameOnlyWhatIsExposed(t *testing.T) {
	registry, m := prometheus.NewRegistry(), prommetrics.New()
	registry.MustRegister(m)
	observe := m.Observer("app")
	for _, kind := range []wxtoken.EventKind{wxtoken.EventFetch, wxtoken.EventReject} {
		observe(wxtoken.Event{Kind: kind, Count: 1, Age: time.Minute})
	}
	families, err := registry.Gather()
	require.NoError(t, err)
	var exposed []string
	for _, f := range families {
		exposed = append(exposed, f.GetName())
	}
	require.NotEmpty(t, exposed)
	for _, file := range []string{"alerts.yml", "alerts_test.yml", "dashboard.json"} {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		names := regexp.MustCompile(`wxtoken_[a-z_]+`).FindAllString(string(text), -1)
		require.NotEmpty(t, names, file)
		for _, name := range names {
			for _, suffix := range []string{"_bucket", "_sum", "_count"} {
				name = strings.TrimSuffix(name, suffix)
			}
			assert.Contains(t, exposed, name, file)
		}
	}
}

// Every alert fires in one of the problems that alerts_test.yml simulates.
func TestEveryAlertIsTested(t *testing.T) {
	rules, err := os.ReadFile("alerts.yml")
	require.NoError(t, err)
	troubles, err := os.ReadFile("alerts_test.yml")
	require.NoError(t, err)
	for _, alert := range regexp.MustCompile(`alert: (\w+)`).FindAllStringSubmatch(string(rules), -1) {
		assert.Regexp(t, `alertname: `+alert[1]+`\s+exp_alerts: \[\{`, string(troubles))
	}
}
