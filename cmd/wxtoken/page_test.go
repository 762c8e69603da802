//go:build unix

package main

import (
	"context"
	"image/png"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/wxtoken/wxtoken/internal/servers"
	"github.com/wxtoken/wxtoken/wxtest"
)

// headless is a real browser with its own profile. It and all its processes end when
// ctx ends.
func headless(ctx context.Context, t *testing.T, language string, args ...string) *exec.Cmd {
	t.Helper()
	profile, err := os.MkdirTemp("", "wxtoken-chromium-")
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(profile) })
	cmd := exec.CommandContext(ctx, "chromium", append([]string{
		"--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
		"--disable-component-update", "--disable-sync", "--hide-scrollbars", "--user-data-dir=" + profile, "--accept-lang=" + language,
	}, args...)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second
	return cmd
}

// chromium runs the browser once and returns its output.
func chromium(t *testing.T, language string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := headless(ctx, t, language, args...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	require.NoError(t, err, stderr.String())
	return string(out)
}

// nightly starts a server whose apps have all kinds of problems, and returns the
// page's address.
func nightly(t *testing.T) (page string, platform *wxtest.Server) {
	platform = fakePlatform(t)
	platform.AddApp("wx-mall", appSecret)
	platform.AddApp("wx-old-secret", "another-secret")
	platform.AddApp("wx-moved", appSecret)
	platform.SetWhitelist("wx-moved", "203.0.113.7")
	app := func(id string, more ...string) map[string]any {
		a := map[string]any{"appid": id, "secret": appSecret, "base_url": platform.URL}
		if len(more) > 0 {
			a["type"], a["tickets"] = "stable", more
		}
		return a
	}
	s := startServe(t, platform, func(c map[string]any) {
		c["admin"] = "127.0.0.1:0"
		c["store"] = "redis://" + servers.Redis(t).Addr()
		c["apps"] = []any{app("wx1"), app("wx-mall", "jsapi"), app("wx-old-secret"), app("wx-moved")}
	})
	page = "http://" + s.awaits(`"admin":"([^"]*)"`) + "/"
	s.awaits(`token:wx1.*expires_at`)
	s.awaits(`ticket:jsapi:stable:wx-mall.*expires_at`)
	s.awaits(`invalid appsecret`)
	s.awaits(`40164`)
	return page, platform
}

// The page in a real browser: in both languages, light and dark, wide and on a phone;
// and it updates itself.
func TestThePageInChromium(t *testing.T) {
	if !*interpreters {
		t.Skip("make clients runs it")
	}
	page, platform := nightly(t)
	dom := chromium(t, "zh-CN", "--dump-dom", page)
	for _, says := range []string{"中控服务器", "正常", "还没有凭据", "暂停获取", "invalid ip 127.0.0.1"} {
		assert.Contains(t, dom, says)
	}
	assert.NotContains(t, dom, platform.Latest("wx1"))
	dom = chromium(t, "en-US", "--dump-dom", page)
	assert.Contains(t, dom, "updates itself every 5 seconds")

	dir := os.Getenv("WXTOKEN_SCREENSHOTS")
	if dir == "" {
		dir = t.TempDir()
	}
	for name, args := range map[string][]string{
		"wide":        {"en-US", "--window-size=1160,482"},
		"phone":       {"zh-CN", "--window-size=390,1500"},
		"phone-night": {"en-US", "--window-size=390,1500", "--force-dark-mode", "--blink-settings=preferredColorScheme=0"},
	} {
		path := filepath.Join(dir, name+".png")
		chromium(t, args[0], append(args[1:], "--screenshot="+path, page)...)
		f, err := os.Open(path)
		require.NoError(t, err)
		picture, err := png.Decode(f)
		_ = f.Close()
		require.NoError(t, err)
		// The page is not blank: it has more than one colour.
		colours := map[[3]uint32]bool{}
		for y := picture.Bounds().Min.Y; y < picture.Bounds().Max.Y; y += 7 {
			for x := picture.Bounds().Min.X; x < picture.Bounds().Max.X; x += 7 {
				r, g, b, _ := picture.At(x, y).RGBA()
				colours[[3]uint32{r, g, b}] = true
			}
		}
		assert.Greater(t, len(colours), 20, name)
	}

	// An open browser reloads it by itself.
	loads := make(chan string, 100)
	counted := proxyTo(t, page, func(path string) {
		if path == "/" {
			loads <- path
		}
	})
	stays, leave := context.WithCancel(t.Context())
	defer leave()
	browser := headless(stays, t, "en-US", "--remote-debugging-port=0", counted)
	require.NoError(t, browser.Start())
	for range 3 {
		select {
		case <-loads:
		case <-time.After(40 * time.Second):
			require.Fail(t, "the page was not reloaded")
		}
	}
	leave()
	_ = browser.Wait()
}
