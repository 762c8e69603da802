package doctor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/wxtoken/wxtoken"
	"github.com/wxtoken/wxtoken/cmd/wxtoken/internal/record"
)

// platforms are where tokens of a kind can be tried: get_api_domain_ip has a
// practically unlimited quota and changes nothing.
var platforms = map[string]string{
	"token": "https://api.weixin.qq.com", "stable": "https://api.weixin.qq.com", "authorizer": "https://api.weixin.qq.com",
	"wecom": "https://qyapi.weixin.qq.com",
}

// askPlatform tries the record's token. After one rejection it tries again, since the
// platform rejects a good token now and then, and reads the record again, since the
// token may have been replaced just now.
func (p *examination) askPlatform(ctx context.Context, r record.Reading) {
	base := p.BaseURL
	if base == "" {
		base = platforms[p.kind]
	}
	if platforms[p.kind] == "" {
		p.ok("platform", "not asked: no API says whether a token of the kind %q is good", p.kind)
		return
	}
	code, message := 0, ""
	for try := range 3 {
		if try > 0 {
			p.pause(ctx, time.Second)
			if r = p.read(ctx, p.credential); !r.Usable(time.Now()) {
				p.ok("platform", "it rejected the record's token, and a process has noticed: the token is being replaced")
				return
			}
		}
		value := r.Record.Token
		var err error
		code, message, err = p.try(ctx, base, value)
		switch {
		case err != nil:
			p.add(Finding{Level: Warn, Area: "platform", Text: fmt.Sprintf("not asked: this machine does not reach it: %v", err),
				Do: "the services may still reach it; run this on one of their machines"})
			return
		case code == 0 && try == 0:
			p.ok("platform", "it honours the record's token")
			return
		case code == 0:
			p.ok("platform", "it rejected the record's token once and honoured it then, as it does now and then")
			return
		case !wxtoken.IsTokenRejected(code):
			p.add(Finding{Level: Warn, Area: "platform", Text: fmt.Sprintf("it did not try the token: errcode %d: %s", code, message),
				Do: "this says nothing about the token; try again"})
			return
		}
	}
	f := Finding{Level: Fail, Area: "platform", weight: heavy, Do: p.howToFindIt(),
		Text: fmt.Sprintf("it rejects the record's token (%d), and no process here has replaced it: %s", code, p.likelyCause())}
	if n := r.Record.Early; n > 1 {
		f.Text += fmt.Sprintf("; %d tokens in a row were rejected early", n)
	}
	p.add(f)
}

// try sends one API call with a token. No error contains the token.
func (p *examination) try(ctx context.Context, base, token string) (code int, message string, err error) {
	ctx, cancel := context.WithTimeout(ctx, call)
	defer cancel()
	u, err := url.Parse(strings.TrimSuffix(base, "/") + "/cgi-bin/get_api_domain_ip")
	if err != nil || u.Host == "" {
		return 0, "", errors.New("the base URL is not of the form https://host[:port]")
	}
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	client := new(http.Client)
	if p.HTTP != nil {
		*client = *p.HTTP
	}
	client.Transport = &wxtoken.Transport{Source: fixed(token), Base: client.Transport, Hosts: []string{u.Hostname() + ":" + port}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return 0, "", err
	}
	sent := time.Now()
	resp, err := client.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	p.compareDate(resp, sent)
	var answer struct {
		Errcode int    `json:"errcode"`
		Errmsg  string `json:"errmsg"`
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, 64<<10)).Decode(&answer); err != nil {
		return 0, "", fmt.Errorf("HTTP %d and an answer that is not JSON, as from a proxy or a login page", resp.StatusCode)
	}
	return answer.Errcode, answer.Errmsg, nil
}

// compareDate compares the platform's clock with this machine's, once.
func (p *examination) compareDate(resp *http.Response, sent time.Time) {
	const whose = "the platform's clock"
	for _, f := range p.r.Findings {
		if strings.HasPrefix(f.Text, whose) {
			return
		}
	}
	at, err := http.ParseTime(resp.Header.Get("Date"))
	if err != nil {
		return
	}
	middle := sent.Add(time.Since(sent) / 2)
	off := at.Sub(middle)
	if off > -2*time.Second && off < time.Second {
		off = 0 // the header has whole seconds
	}
	clock(p.r, whose, off.Round(time.Second))
}

// A fixed token is a TokenSource that cannot replace it.
type fixed string

func (f fixed) Token(context.Context) (wxtoken.Token, error) {
	return wxtoken.Token{Value: string(f), ExpiresAt: time.Now().Add(time.Minute)}, nil
}
