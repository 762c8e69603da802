package main

import (
	"bytes"
	"context"
	"crypto/sha1"
	"encoding/json"
	"fmt"
	"html"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"regexp"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/wxtoken/wxtoken/examples/internal/exampletest"
	"github.com/wxtoken/wxtoken/examples/internal/platform"
	"github.com/wxtoken/wxtoken/jssdk"
	"github.com/wxtoken/wxtoken/wxtest"
)

// serve serves the page on the fake platform.
func serve(t *testing.T) (p *platform.Platform, srv *httptest.Server, logs *bytes.Buffer) {
	t.Helper()
	p, err := platform.FromEnv(exampletest.Env{}.Get)
	require.NoError(t, err)
	srv = httptest.NewUnstartedServer(nil)
	logs = new(bytes.Buffer)
	srv.Config.Handler = newHandler(p, srv.Listener.Addr().String(), logs)
	srv.Start()
	t.Cleanup(srv.Close)
	return p, srv, logs
}

func get(t *testing.T, url string) (status int, header http.Header, body string) {
	t.Helper()
	resp, err := http.Get(url)
	require.NoError(t, err)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return resp.StatusCode, resp.Header, string(b)
}

// verify checks a signature against the ticket that the platform issued.
func verify(t *testing.T, p *platform.Platform, configJSON, page string) {
	t.Helper()
	var config jssdk.Config
	require.NoError(t, json.Unmarshal([]byte(configJSON), &config))
	text := fmt.Sprintf("jsapi_ticket=%s&noncestr=%s&timestamp=%d&url=%s",
		p.Fake.LatestTicket(p.AppID, "jsapi"), config.NonceStr, config.Timestamp, page)
	assert.Equal(t, fmt.Sprintf("%x", sha1.Sum([]byte(text))), config.Signature)
	assert.Equal(t, p.AppID, config.AppID)
	assert.WithinDuration(t, time.Now(), time.Unix(config.Timestamp, 0), time.Minute)
	assert.NotContains(t, configJSON, p.Fake.LatestTicket(p.AppID, "jsapi"))
}

func TestSignsItsOwnPages(t *testing.T) {
	p, srv, _ := serve(t)
	status, _, body := get(t, srv.URL+"/")
	assert.Equal(t, 200, status)
	assert.Contains(t, body, "page.js")

	page := srv.URL + "/?from=share&n=1"
	status, header, body := get(t, srv.URL+"/wx/config?url="+url.QueryEscape(page))
	require.Equal(t, 200, status, body)
	assert.Equal(t, "application/json", header.Get("Content-Type"))
	assert.Equal(t, "no-store", header.Get("Cache-Control"))
	verify(t, p, body, page)

	for _, bad := range []string{"", "https://evil.example/", "nonsense", "http://" + srv.Listener.Addr().String() + ".evil.example/"} {
		status, _, body = get(t, srv.URL+"/wx/config?url="+url.QueryEscape(bad))
		assert.Equal(t, http.StatusForbidden, status, body)
	}
}

func TestErrorsSayWhyThereIsNoTicket(t *testing.T) {
	p, srv, logs := serve(t)
	p.Fake.Inject(wxtest.Denial(45009).On(wxtest.TicketPath))
	status, _, body := get(t, srv.URL+"/wx/config?url="+url.QueryEscape(srv.URL+"/"))
	assert.Equal(t, http.StatusServiceUnavailable, status)
	assert.Equal(t, "the page cannot be signed now\n", body)
	assert.Contains(t, logs.String(), "45009")
}

func TestProgramRuns(t *testing.T) {
	addr := exampletest.FreeAddr()
	ctx, stop := context.WithCancel(t.Context())
	out, in := io.Pipe()
	done := make(chan error)
	go func() { done <- run(ctx, in, exampletest.Env{"LISTEN": addr, "PAGE_HOST": "shop.example"}.Get) }()
	text := make([]byte, 1000)
	n, err := out.Read(text)
	require.NoError(t, err)
	assert.Contains(t, string(text[:n]), "http://"+addr+"/, signed for the host shop.example")
	status, _, body := get(t, "http://"+addr+"/wx/config?url="+url.QueryEscape("https://shop.example/cart"))
	assert.Equal(t, 200, status, body)
	stop()
	assert.NoError(t, <-done)

	_, err = exampletest.Env{"LISTEN": "nowhere"}.Run(t, run)
	assert.ErrorContains(t, err, "set LISTEN")
}

// In a real browser, which make test does not need:
//
//	BROWSER=/usr/bin/chromium SCREENSHOT=/tmp/page.png go test -run Browser ./examples/jssdk
func TestInBrowser(t *testing.T) {
	browser := os.Getenv("BROWSER")
	if browser == "" {
		t.Skip("set BROWSER to a Chromium to run this")
	}
	p, srv, _ := serve(t)
	page := srv.URL + "/?from=share&q=%E5%AD%97"
	chromium := func(args ...string) string {
		args = append(args, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
			"--disable-background-networking", "--disable-component-update", "--disable-sync", "--ignore-certificate-errors",
			"--user-data-dir="+t.TempDir(), "--virtual-time-budget=10000", "--window-size=800,500", page+"#items")
		out, err := exec.CommandContext(t.Context(), browser, args...).Output()
		require.NoError(t, err)
		return string(out)
	}
	content := func(dom, id string) string {
		found := regexp.MustCompile(`(?s) id="` + id + `">(.*?)</`).FindStringSubmatch(dom)
		require.NotNil(t, found, dom)
		return html.UnescapeString(found[1])
	}

	const nowhere = "--host-resolver-rules=MAP res.wx.qq.com ~NOTFOUND"
	dom := chromium(nowhere, "--dump-dom")
	verify(t, p, content(dom, "config"), page)
	assert.Contains(t, content(dom, "state"), "WeChat's script is not")
	if file := os.Getenv("SCREENSHOT"); file != "" {
		chromium(nowhere, "--screenshot="+file)
	}

	// A stand-in for WeChat's script, which accepts everything and shows what it got.
	script := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/javascript")
		fmt.Fprint(w, `window.wx = {
			ready(f) { this.accept = f }, error() {},
			config(c) { const b = document.createElement("b"); b.id = "got"; b.textContent = JSON.stringify(c); document.body.append(b); this.accept() },
		}`)
	}))
	defer script.Close()
	dom = chromium("--host-resolver-rules=MAP res.wx.qq.com "+script.Listener.Addr().String(), "--dump-dom")
	assert.Equal(t, "WeChat accepted the signature.", content(dom, "state"))
	verify(t, p, content(dom, "got"), page)
	assert.Contains(t, content(dom, "got"), `"jsApiList":["scanQRCode"]`)
}
