package wxtest

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"time"
)

// messages holds the platform's message for each errcode, without the rid.
var messages = map[int]string{
	-1:    "system error",
	-1000: "system error",
	40001: "invalid credential, access_token is invalid or not latest, could get access_token by getStableAccessToken, more details at https://developers.weixin.qq.com",
	40002: "invalid grant_type",
	40007: "invalid media_id",
	40013: "invalid appid",
	40014: "invalid access_token",
	40066: "invalid url",
	40097: "invalid args",
	40125: "invalid appsecret",
	40243: "appsecret is frozen",
	41001: "access_token missing",
	41002: "appid missing",
	41004: "appsecret missing,",
	41005: "media data missing",
	41018: "component_verify_ticket missing",
	42001: "access_token expired",
	43002: "require POST method",
	45009: "reach max api daily quota limit, could get access_token by getStableAccessToken, more details at https://developers.weixin.qq.com",
	45011: "api minute-quota reach limit, must slower, retry next minute",
	47001: "data format error",
	50004: "api forbidden for this account",
	50007: "account is frozen",
	61003: "component is not authorized by this account",
	61004: "access clientip is not registered",
	61005: "component ticket is expired",
	61006: "component ticket is invalid",
	61009: "code is invalid",
	61010: "code is expired",
	61011: "invalid component",
	61023: "refresh_token is invalid",
	61024: "use the access_token of a third-party platform",
	89501: "this ip is waiting for an administrator's confirmation",
	89503: "this ip needs an administrator's confirmation",
	89506: "this ip was denied by an administrator, retry in 24 hours",
	89507: "this ip was denied by an administrator, retry in 1 hour",
}

func message(code int, ip string) string {
	text, known := messages[code]
	switch {
	case code == 40164:
		text = fmt.Sprintf("invalid ip %s ipv6 ::ffff:%[1]s, not in whitelist", ip)
	case !known:
		text = "unknown error"
	}
	return fmt.Sprintf("%s rid: %08x-%08x-%08x", text, time.Now().Unix(), rand.Uint32(), rand.Uint32())
}

// answerCode counts and writes an errcode, with status 200 as the platform does.
func (p *Platform) answerCode(w http.ResponseWriter, r *http.Request, code int) {
	p.count(r.URL.Path, code)
	writeCode(w, r, code)
}

func writeCode(w http.ResponseWriter, r *http.Request, code int) {
	writeJSON(w, struct {
		Errcode int    `json:"errcode"`
		Errmsg  string `json:"errmsg"`
	}{code, message(code, clientIP(r))})
}

// ok counts a success and writes its answer.
func (p *Platform) ok(w http.ResponseWriter, r *http.Request, answer any) {
	p.count(r.URL.Path, 0)
	writeJSON(w, answer)
}

func writeJSON(w http.ResponseWriter, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	write(w, http.StatusOK, "application/json; encoding=utf-8", body)
}

func write(w http.ResponseWriter, status int, contentType string, body []byte) {
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, _ = w.Write(body)
}

func clientIP(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}
