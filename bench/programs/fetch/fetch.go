// Package fetch asks for a token with net/http and encoding/json alone, for the
// programs that wxtoken's is compared with.
package fetch

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"os"
)

// Token gives the length of a token and its lifetime in seconds.
func Token(ctx context.Context) (length, lifetime int, err error) {
	query := url.Values{"grant_type": {"client_credential"}, "appid": {os.Getenv("APPID")}, "secret": {os.Getenv("SECRET")}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://api.weixin.qq.com/cgi-bin/token?"+query.Encode(), nil)
	if err != nil {
		return 0, 0, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, 0, err
	}
	defer resp.Body.Close()
	var answer struct {
		AccessToken string `json:"access_token"`
		ExpiresIn   int    `json:"expires_in"`
	}
	err = json.NewDecoder(resp.Body).Decode(&answer)
	return len(answer.AccessToken), answer.ExpiresIn, err
}
