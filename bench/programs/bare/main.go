// Program bare is what a program that has an HTTP client weighs without a
// library.
package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
)

func main() {
	query := url.Values{"grant_type": {"client_credential"}, "appid": {os.Getenv("APPID")}, "secret": {os.Getenv("SECRET")}}
	resp, err := http.Get("https://api.weixin.qq.com/cgi-bin/token?" + query.Encode())
	if err != nil {
		fmt.Println("no answer")
		return
	}
	defer resp.Body.Close()
	var answer struct {
		ExpiresIn int `json:"expires_in"`
	}
	fmt.Println(json.NewDecoder(resp.Body).Decode(&answer), answer)
}
