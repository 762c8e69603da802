package check

import (
	"slices"
	"testing"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/wxtoken/wxtoken"
	"github.com/wxtoken/wxtoken/wxtest"
)

// rules are those of alerts.yml, which Prometheus itself must find in order.
func rules(t *testing.T) []rulefmt.Rule {
	t.Helper()
	groups, errs := rulefmt.ParseFile("../alerts.yml", false, model.UTF8Validation, newParser())
	require.Empty(t, errs)
	require.Len(t, groups.Groups, 1)
	return groups.Groups[0].Rules
}

func TestEachTroubleFiresItsAlerts(t *testing.T) {
	tests := map[string]struct {
		trouble func(w *world)
		want    []string
	}{
		"all is well": {
			func(*world) {}, nil,
		},
		"the secret is reset": {
			func(w *world) { w.platform.SetSecret(app, "another") },
			[]string{"WxtokenNoToken", "WxtokenRefused", "WxtokenTokenEnding"},
		},
		"the address leaves the whitelist": {
			func(w *world) { w.platform.SetWhitelist(app, "203.0.113.1") },
			[]string{"WxtokenNoToken", "WxtokenRefused", "WxtokenTokenEnding"},
		},
		"the daily quota is spent": {
			func(w *world) { w.platform.Inject(wxtest.Refusal(45009).On(wxtest.TokenCalls)) },
			[]string{"WxtokenNoToken", "WxtokenRefused", "WxtokenTokenEnding"},
		},
		"the platform cannot be reached": {
			func(w *world) { w.platform.Inject(wxtest.ServerError(502).On(wxtest.TokenCalls)) },
			[]string{"WxtokenFetchesFail", "WxtokenNoToken", "WxtokenTokenEnding"},
		},
		"one fetch fails": {
			func(w *world) { w.platform.Inject(wxtest.Busy().On(wxtest.TokenCalls).Times(1)) }, nil,
		},
		"another system fetches": {
			func(w *world) {
				for range 300 {
					w.platform.Issue(app)
					time.Sleep(time.Minute)
				}
			},
			[]string{"WxtokenConflict", "WxtokenTooManyFetches"},
		},
		"the cache is down": {
			func(w *world) { w.down.Store(true) },
			[]string{"WxtokenCacheErrors", "WxtokenNoToken", "WxtokenTokenEnding"},
		},
		"the cache restarts": {
			func(w *world) {
				w.down.Store(true)
				time.Sleep(20 * time.Second)
				w.down.Store(false)
			}, nil,
		},
		"processes die while they fetch": {
			func(w *world) {
				for range 3 {
					w.observe(wxtoken.Event{Kind: wxtoken.EventTakeover})
					time.Sleep(time.Hour)
				}
			},
			[]string{"WxtokenTakeovers"},
		},
	}
	seen := map[string]bool{}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			h := play(t, test.trouble)
			var fired []string
			for _, rule := range rules(t) {
				if fires(h.query(t, rule.Expr), time.Duration(rule.For)) {
					fired = append(fired, rule.Alert)
					seen[rule.Alert] = true
				}
			}
			slices.Sort(fired)
			assert.Equal(t, test.want, fired)
		})
	}
	for _, rule := range rules(t) {
		assert.True(t, seen[rule.Alert], "%s has never fired", rule.Alert)
	}
}

// fires reports whether the expression, evaluated once a minute, held for so
// long with the same labels.
func fires(result promql.Matrix, hold time.Duration) bool {
	for _, series := range result {
		since, last := int64(0), int64(0)
		for _, p := range series.Floats {
			if p.T-last > time.Minute.Milliseconds() {
				since = p.T
			}
			last = p.T
			if last-since >= hold.Milliseconds() {
				return true
			}
		}
	}
	return false
}

// A process whose series begin with a failure would show no increase.
func TestTheFirstFailureOfAProcessIsSeen(t *testing.T) {
	h := play(t, func(*world) {})
	for name, s := range h.series {
		if s.labels.Get(model.MetricNameLabel) != "wxtoken_token_remaining_seconds" {
			first := s.samples[0]
			assert.Equal(t, h.start.UnixMilli(), first.T(), name)
		}
	}
}
