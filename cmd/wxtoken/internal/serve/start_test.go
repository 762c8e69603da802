package serve

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/wxtoken/wxtoken/cmd/wxtoken/internal/config"
	"github.com/wxtoken/wxtoken/wxtest"
)

// A peakCounter remembers its largest value.
type peakCounter struct {
	mu           sync.Mutex
	now, largest int
}

func (c *peakCounter) add(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now += n
	c.largest = max(c.largest, c.now)
}

func (c *peakCounter) most() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.largest
}

// countedPlatform is a fake platform that takes a while to answer, and counts the
// requests that it has at a time.
func countedPlatform(t *testing.T, latency time.Duration) (platform *wxtest.Platform, url string, under *peakCounter) {
	platform, under = wxtest.NewPlatform(), new(peakCounter)
	platform.Inject(wxtest.Latency(latency))
	fake := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		under.add(+1)
		defer under.add(-1)
		platform.ServeHTTP(w, r)
	}))
	t.Cleanup(fake.Close)
	return platform, fake.URL, under
}

// Thousands of apps are started few at a time, with clients or without.
func TestManyAppsStartWithoutABurst(t *testing.T) {
	const apps = 1000
	platform, url, under := countedPlatform(t, 20*time.Millisecond)
	c := &config.Config{Listen: "127.0.0.1:0", Admin: "off", Single: true, Clients: []config.Client{{Name: "shop", Secret: shopSecret, Apps: []string{"*"}}}}
	for i := range apps {
		id := fmt.Sprintf("wx%d", i)
		platform.AddApp(id, appSecret)
		c.Apps = append(c.Apps, config.App{AppID: id, Secret: appSecret, BaseURL: url})
	}
	srv := start(t, c, leisurely)
	var clients sync.WaitGroup
	for i := range 100 { // clients do not wait for their turn, but cause no burst either
		clients.Go(func() { srv.do("GET", fmt.Sprintf("/token?appid=wx%d", apps-1-i), shopSecret, "") })
	}
	require.Eventually(t, func() bool {
		ready := 0
		for _, a := range srv.catalog.Load().order {
			if a.ready() {
				ready++
			}
		}
		return ready == apps
	}, 2*time.Minute, 20*time.Millisecond)
	clients.Wait()
	assert.LessOrEqual(t, under.most(), fetches)
	assert.Greater(t, under.most(), 8, "one after the other would take too long")
	assert.Equal(t, apps, platform.Stats().Fetches().Total())
}
