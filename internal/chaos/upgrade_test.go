//go:build linux

package chaos

import (
	"flag"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/wxtoken/wxtoken/wxtest"
)

var otherFlag = flag.String("chaos.other", "", "a worker of another version, for TestSideBySide: see make side-by-side")

// Processes of two versions share a record, are upgraded one after the other while
// calls go on, and downgraded again: every call is served at once, and there is one
// fetch in each lifetime.
func TestSideBySide(t *testing.T) {
	if *otherFlag == "" {
		t.Skip("this needs the source of another version: make side-by-side")
	}
	for _, name := range []string{"redis", "memcached"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // it mostly waits
			r := &round{t: t, backend: startBackend(t, name), calls: map[int][]call{}}
			r.platform = wxtest.NewServer(wxtest.WithApp(appID, secret), wxtest.WithQuota(0, 0),
				wxtest.WithLifetime(lifetime), wxtest.WithGrace(grace), wxtest.WithStrictGrace())
			t.Cleanup(r.platform.Close)
			r.began = time.Now()
			config := workerConfig{Backend: r.backend, Platform: r.platform.URL, Scale: scale / 5, Fetch: 5 * fetchTimeout, Pause: callPause, Patience: patience}
			for range members {
				r.start(config)
			}
			defer r.finish()
			for _, path := range []string{*otherFlag, "", *otherFlag} {
				for _, p := range r.processes {
					require.NoError(t, p.finish())
					p.program = path
					require.NoError(t, p.start())
					time.Sleep(lifetime / members) // so an upgrade takes a lifetime
				}
			}
			r.awaitCalls()
			r.finish()
			r.check(time.Since(r.began))
		})
	}
}
