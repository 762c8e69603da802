package wxtest

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"
)

// PushThrough sets the client that sends the pushes; nil, the default, means
// http.DefaultClient. In a testing/synctest bubble, use [HandlerClient].
func (p *Platform) PushThrough(c *http.Client) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.pushes = c
}

// HandlerClient returns a client whose requests, to any host, call h in process:
// without a socket, so that it works in a testing/synctest bubble.
func HandlerClient(h http.Handler) *http.Client {
	return &http.Client{Transport: &inProcess{handler: h, remote: "127.0.0.1:40000"}}
}

// PushTicket issues a component_verify_ticket and pushes it to an authorization event
// URL (授权事件接收URL). An error means that the answer was not "success".
func (p *Platform) PushTicket(componentAppID, url string) error {
	p.mu.Lock()
	value := p.issueTicket(p.component(componentAppID))
	p.mu.Unlock()
	return p.Push(componentAppID, url, map[string]string{"InfoType": "component_verify_ticket", "ComponentVerifyTicket": value})
}

// PushAuthorized makes the owner of an account authorize the component, as IssueCode
// does, pushes that to url, and returns the code. It pushes "authorized", or
// "updateauthorized" if the account has authorized the component before.
func (p *Platform) PushAuthorized(componentAppID, authorizerAppID, url string) (code string, err error) {
	p.mu.Lock()
	code, again := p.authorize(p.component(componentAppID), authorizerAppID)
	p.mu.Unlock()
	kind := "authorized"
	if again {
		kind = "updateauthorized"
	}
	return code, p.Push(componentAppID, url, map[string]string{
		"InfoType": kind, "AuthorizerAppid": authorizerAppID, "AuthorizationCode": code,
		"AuthorizationCodeExpiredTime": strconv.FormatInt(time.Now().Add(codeLife).Unix(), 10),
	})
}

// PushUnauthorized makes the owner of an account end the authorization, as
// EndAuthorization does, and pushes that to url.
func (p *Platform) PushUnauthorized(componentAppID, authorizerAppID, url string) error {
	p.EndAuthorization(componentAppID, authorizerAppID)
	return p.Push(componentAppID, url, map[string]string{"InfoType": "unauthorized", "AuthorizerAppid": authorizerAppID})
}

// Push sends any message to url: signed, encrypted and with AppId and CreateTime,
// unless fields has those.
func (p *Platform) Push(componentAppID, url string, fields map[string]string) error {
	req, err := p.PushRequest(componentAppID, url, fields)
	if err != nil {
		return err
	}
	p.mu.Lock()
	client := p.pushes
	p.mu.Unlock()
	if client == nil {
		client = http.DefaultClient
	}
	resp, err := client.Do(req)
	if err != nil {
		return fmt.Errorf("wxtest: push: %w", err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, 4<<10))
	if err != nil || resp.StatusCode != http.StatusOK || string(answer) != "success" {
		return fmt.Errorf("wxtest: push: status %d and %q (%v) in place of success", resp.StatusCode, answer, err)
	}
	return nil
}

// PushRequest returns the request of a Push, for a test that corrupts it or sends it
// twice.
func (p *Platform) PushRequest(componentAppID, to string, fields map[string]string) (*http.Request, error) {
	p.mu.Lock()
	box := p.component(componentAppID).box
	p.mu.Unlock()
	now := strconv.FormatInt(time.Now().Unix(), 10)
	inside := map[string]string{"AppId": componentAppID, "CreateTime": now}
	maps.Copy(inside, fields)
	encrypted := box.Encrypt(xmlOf(inside), componentAppID)
	nonce := randomString(10)
	target, err := url.Parse(to)
	if err != nil {
		return nil, fmt.Errorf("wxtest: push: %w", err)
	}
	query := target.Query()
	query.Set("timestamp", now)
	query.Set("nonce", nonce)
	query.Set("encrypt_type", "aes")
	query.Set("signature", box.Sign(now, nonce, ""))
	query.Set("msg_signature", box.Sign(now, nonce, encrypted))
	target.RawQuery = query.Encode()
	body := xmlOf(map[string]string{"AppId": componentAppID, "Encrypt": encrypted})
	req, err := http.NewRequest(http.MethodPost, target.String(), bytes.NewReader(body))
	if err == nil {
		req.Header.Set("Content-Type", "text/xml")
	}
	return req, err
}

// xmlOf returns the platform's flat XML.
func xmlOf(fields map[string]string) []byte {
	var b bytes.Buffer
	b.WriteString("<xml>")
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		fmt.Fprintf(&b, "<%s>", name)
		_ = xml.EscapeText(&b, []byte(fields[name])) // into a buffer: cannot fail
		fmt.Fprintf(&b, "</%s>\n", name)
	}
	b.WriteString("</xml>")
	return b.Bytes()
}
