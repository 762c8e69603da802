// Program slog is program bare with one line of log/slog, which wxtoken's API
// names and whose package init alone is kept in a binary.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"time"
)

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	query := url.Values{"grant_type": {"client_credential"}, "appid": {os.Getenv("APPID")}, "secret": {os.Getenv("SECRET")}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://api.weixin.qq.com/cgi-bin/token?"+query.Encode(), nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer resp.Body.Close()
	var answer struct {
		AccessToken string `json:"access_token"`
		ExpiresIn   int    `json:"expires_in"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		fmt.Println(err)
		return
	}
	slog.LogAttrs(ctx, slog.LevelInfo, "token", slog.Int("length", len(answer.AccessToken)), slog.Int("expires_in", answer.ExpiresIn))
}
