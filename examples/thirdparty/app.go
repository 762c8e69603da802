package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/wxtoken/wxtoken"
	"github.com/wxtoken/wxtoken/openplatform"
)

// An app is what the program of a third-party platform adds to openplatform.
type app struct {
	platform *openplatform.Platform
	base     http.RoundTripper // carries requests to WeChat's hosts
}

func (a *app) routes() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/wechat/events", a.platform)
	mux.HandleFunc("GET /wechat/authorized", a.authorized)
	return mux
}

// authorized is the page to which an owner's browser returns from the authorization
// page. The same code is usually pushed as well: then it has been exchanged already.
func (a *app) authorized(w http.ResponseWriter, r *http.Request) {
	appID, err := a.platform.Authorize(r.Context(), r.URL.Query().Get("auth_code"))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	fmt.Fprintf(w, "account %s has authorized this platform\n", appID)
}

// call calls an API on behalf of an account. A program makes one client for each
// account, and keeps it.
func (a *app) call(ctx context.Context, appID string) (string, error) {
	client := &http.Client{Transport: &wxtoken.Transport{Source: a.platform.Authorizer(appID), Base: a.base}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://api.weixin.qq.com/cgi-bin/get_api_domain_ip", nil)
	if err != nil {
		return "", err
	}
	resp, err := client.Do(req)
	if errors.Is(err, openplatform.ErrNotAuthorized) {
		return "", fmt.Errorf("%s has to authorize this platform again: %w", appID, openplatform.ErrNotAuthorized)
	}
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	return string(body), err
}
