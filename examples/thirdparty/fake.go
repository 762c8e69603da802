package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/wxtoken/wxtoken"
	"github.com/wxtoken/wxtoken/openplatform"
	"github.com/wxtoken/wxtoken/wxtest"
)

// A config holds what the environment sets.
type config struct {
	name, addr                   string
	appID, secret, token, aesKey string
	fetcher                      []wxtoken.FetcherOption
	base                         http.RoundTripper
	fake                         *wxtest.Platform // nil: WeChat itself
}

// configure reads the component from getenv, or creates one on the fake platform.
func configure(getenv func(string) string) (config, error) {
	c := config{addr: getenv("ADDR"), base: http.DefaultTransport}
	set := 0
	for name, value := range map[string]*string{
		"COMPONENT_APPID": &c.appID, "COMPONENT_SECRET": &c.secret, "COMPONENT_TOKEN": &c.token, "COMPONENT_AESKEY": &c.aesKey,
	} {
		if *value = getenv(name); *value != "" {
			set++
		}
	}
	switch {
	case set == 4 && len(c.aesKey) != 43:
		return c, errors.New("wxtoken example: set COMPONENT_AESKEY to the message key of 43 characters")
	case set == 4:
		c.name = "WeChat, component " + c.appID
		if c.addr == "" {
			c.addr = "127.0.0.1:8080"
		}
		return c, nil
	case set > 0:
		return c, errors.New("wxtoken example: set all of COMPONENT_APPID, COMPONENT_SECRET, COMPONENT_TOKEN and COMPONENT_AESKEY, or none to use the fake platform")
	}
	c.addr = "127.0.0.1:0"
	c.appID, c.secret, c.token = "wxfake"+strings.ToLower(rand.Text()[:10]), rand.Text(), rand.Text()
	c.aesKey = (rand.Text() + rand.Text())[:42] + "A"
	c.fake = wxtest.NewPlatform(wxtest.WithComponent(c.appID, c.secret, c.token, c.aesKey))
	c.name = "wxtest's fake, component " + c.appID + " (set COMPONENT_APPID and the others for WeChat itself)"
	c.base = c.fake.Transport()
	c.fetcher = []wxtoken.FetcherOption{wxtoken.WithHTTPClient(c.fake.Client())}
	return c, nil
}

// demo makes the fake platform do what WeChat and two owners would do.
func demo(ctx context.Context, say func(what, format string, args ...any), c config, app *app, base string) error {
	events := base + "/wechat/events"
	call := func(appID string) {
		body, err := app.call(ctx, appID)
		if err != nil {
			say("call", "%s: %v", appID, err)
			return
		}
		say("call", "%s: %.40s…", appID, body)
	}

	_, err := app.platform.Source().Token(ctx)
	say("no ticket", "%v", err)
	if err := c.fake.PushTicket(c.appID, events); err != nil {
		return err
	}
	tok, err := app.platform.Source().Token(ctx)
	if err != nil {
		return err
	}
	say("ticket", "pushed: %v", tok) // tok.Value goes into ?component_access_token=

	// One authorization is only pushed; the other owner also returns by browser.
	for _, appID := range []string{"wxshop", "wxschool"} {
		code, err := c.fake.PushAuthorized(c.appID, appID, events)
		if err != nil {
			return err
		}
		if appID == "wxschool" {
			page, err := get(ctx, base+"/wechat/authorized?auth_code="+url.QueryEscape(code))
			if err != nil {
				return err
			}
			say("page", "%s", page)
		}
		call(appID)
	}

	if err := c.fake.PushUnauthorized(c.appID, "wxshop", events); err != nil {
		return err
	}
	if _, err := app.platform.Authorizer("wxshop").Token(ctx); err != nil && !errors.Is(err, openplatform.ErrNotAuthorized) {
		return err
	}
	say("unauthorized", "wxshop has ended its authorization; within a minute its token is no longer handed out")
	call("wxschool")
	results := c.fake.Stats().Results
	say("requests", "component token: %d, authorizer tokens: %d, codes: %d", results[wxtest.ComponentPath].Total(),
		results[wxtest.AuthorizerPath].Total(), results[wxtest.QueryAuthPath].Total())
	return nil
}

// get fetches a page as a browser would.
func get(ctx context.Context, url string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("wxtoken example: %s: %s", resp.Status, body)
	}
	return strings.TrimSpace(string(body)), err
}
