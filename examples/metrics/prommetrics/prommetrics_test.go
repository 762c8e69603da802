package prommetrics_test

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/wxtoken/wxtoken"
	"github.com/wxtoken/wxtoken/examples/metrics/prommetrics"
)

func TestMetricsFollowTheEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := prommetrics.New()
		remaining := func(want string) {
			t.Helper()
			require.NoError(t, testutil.CollectAndCompare(m, strings.NewReader(`
# HELP wxtoken_token_remaining_seconds Remaining lifetime of the newest token that this process knows; 0 if it has none or an API rejected it.
# TYPE wxtoken_token_remaining_seconds gauge
wxtoken_token_remaining_seconds{app="wx1"} `+want+"\n"), "wxtoken_token_remaining_seconds"))
		}
		observe := m.Observer("wx1")
		remaining("0")

		observe(wxtoken.Event{Kind: wxtoken.EventFetch, Err: errors.New("reset"), Duration: time.Second})
		remaining("0")
		observe(wxtoken.Event{Kind: wxtoken.EventFetch, ExpiresAt: time.Now().Add(time.Hour), Duration: time.Second})
		remaining("3600")
		time.Sleep(time.Minute)
		remaining("3540")
		observe(wxtoken.Event{Kind: wxtoken.EventReject})
		remaining("0")
		observe(wxtoken.Event{Kind: wxtoken.EventAdopt, ExpiresAt: time.Now().Add(time.Minute)})
		remaining("60")
		observe(wxtoken.Event{Kind: wxtoken.EventCacheError, Err: errors.New("down")})
		time.Sleep(time.Hour)
		remaining("0")

		require.NoError(t, testutil.CollectAndCompare(m, strings.NewReader(`
# HELP wxtoken_events_total Other events, by wxtoken.EventKind: adopt, reject, ignored, conflict, takeover, lease_lost, restore or cache_error.
# TYPE wxtoken_events_total counter
wxtoken_events_total{app="wx1",kind="adopt"} 1
wxtoken_events_total{app="wx1",kind="cache_error"} 1
wxtoken_events_total{app="wx1",kind="conflict"} 0
wxtoken_events_total{app="wx1",kind="ignored"} 0
wxtoken_events_total{app="wx1",kind="lease_lost"} 0
wxtoken_events_total{app="wx1",kind="reject"} 1
wxtoken_events_total{app="wx1",kind="restore"} 0
wxtoken_events_total{app="wx1",kind="takeover"} 0
# HELP wxtoken_fetches_total Requests of this process for a token, by result: ok, busy, secret, ip, quota, denied or failed.
# TYPE wxtoken_fetches_total counter
wxtoken_fetches_total{app="wx1",result="busy"} 0
wxtoken_fetches_total{app="wx1",result="denied"} 0
wxtoken_fetches_total{app="wx1",result="failed"} 1
wxtoken_fetches_total{app="wx1",result="ip"} 0
wxtoken_fetches_total{app="wx1",result="ok"} 1
wxtoken_fetches_total{app="wx1",result="quota"} 0
wxtoken_fetches_total{app="wx1",result="secret"} 0
`), "wxtoken_events_total", "wxtoken_fetches_total"))

		lint, err := testutil.CollectAndLint(m)
		require.NoError(t, err)
		require.Empty(t, lint)
	})
}
