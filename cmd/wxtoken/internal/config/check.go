package config

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/wxtoken/wxtoken/cmd/wxtoken/internal/keys"
	"github.com/wxtoken/wxtoken/cmd/wxtoken/internal/store"
	"github.com/wxtoken/wxtoken/internal/msgcrypt"
)

// Types of apps.
const (
	Token  = "token"
	Stable = "stable"
	WeCom  = "wecom"
	QQ     = "qq"
)

// ticketKinds lists the kinds of tickets by type of app.
var ticketKinds = map[string][]string{
	Token: {"jsapi", "wx_card", "2"}, Stable: {"jsapi", "wx_card", "2"}, WeCom: {"jsapi", "agent_config"}, QQ: nil,
}

const (
	longestDrain = 300 // seconds; enough for any load balancer to notice
	mostReports  = 6000
)

// idForm is the form of ids, which appear in URLs, metric labels and keys.
var idForm = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)

// Check fills in defaults, and returns what is wrong. Parse calls it.
func (c *Config) Check() error {
	if c.Admin == "" {
		c.Admin = "127.0.0.1:8902"
	}
	if c.ReportsPerMinute == 0 {
		c.ReportsPerMinute = 60
	}
	for _, check := range []func() error{
		c.checkListen, c.checkAdmin, c.checkLimits, c.checkEncryption, c.checkApps, c.checkComponents, c.checkStore, c.checkClients,
	} {
		if err := check(); err != nil {
			return fmt.Errorf("wxtoken: the configuration: %w", err)
		}
	}
	return nil
}

func (c *Config) checkListen() error {
	if (c.TLS.Cert == "") != (c.TLS.Key == "") {
		return errors.New("tls needs both cert and key")
	}
	loopback, err := checkAddress("listen", c.Listen)
	if err == nil && !loopback && c.TLS.Cert == "" && !c.PlainHTTP {
		err = fmt.Errorf("listen: %q can be reached by others, who could read the tokens in transit: set tls, "+
			"or plain_http if a proxy in front of this server terminates TLS", c.Listen)
	}
	return err
}

func (c *Config) checkAdmin() error {
	if c.Admin == "off" {
		return nil
	}
	loopback, err := checkAddress("admin", c.Admin)
	if err != nil {
		return err
	}
	if c.Admin == c.Listen && !strings.HasSuffix(c.Admin, ":0") {
		return errors.New("admin and listen are the same address")
	}
	if !loopback {
		c.Warnings = append(c.Warnings, fmt.Sprintf("admin: the page on %q has no tokens, but shows appids and errors, over http, to everyone who can reach it", c.Admin))
	}
	return nil
}

// checkAddress reports whether only this machine can reach an address.
func checkAddress(field, addr string) (loopback bool, err error) {
	if socket, ok := strings.CutPrefix(addr, "unix:"); ok {
		if socket == "" {
			return false, fmt.Errorf("%s: unix: wants a path after it", field)
		}
		return true, nil
	}
	if _, port, err := net.SplitHostPort(addr); err != nil || port == "" {
		return false, fmt.Errorf(`%s must be "host:port" or "unix:/path/to/socket"`, field)
	}
	return store.Loopback(addr), nil
}

func (c *Config) checkLimits() error {
	switch {
	case c.DrainSeconds < 0 || c.DrainSeconds > longestDrain:
		return fmt.Errorf("drain_seconds must be 0 to %d", longestDrain)
	case c.MaxConnections < 0:
		return errors.New("max_connections is negative")
	case c.ReportsPerMinute < 1 || c.ReportsPerMinute > mostReports:
		return fmt.Errorf("reports_per_minute must be 1 to %d", mostReports)
	}
	return nil
}

func (c *Config) checkEncryption() error {
	for i, text := range c.Encryption {
		key, err := keys.Parse(text)
		if err != nil {
			return fmt.Errorf("encryption[%d]: %w", i, err)
		}
		c.keys = append(c.keys, key)
	}
	if c.PlainRecords && len(c.keys) == 0 {
		return errors.New("plain_records needs encryption, and there is none")
	}
	return nil
}

func (c *Config) checkApps() error {
	for i := range c.Apps {
		a := &c.Apps[i]
		if a.Type == "" {
			a.Type = Token
		}
		kinds, known := ticketKinds[a.Type]
		switch {
		case a.AppID == "" || a.Secret == "":
			return fmt.Errorf("apps[%d] needs appid and secret", i)
		case !idForm.MatchString(a.AppID) || !idForm.MatchString(a.Name()):
			return fmt.Errorf("apps[%d]: appid and id have up to 64 letters, digits, dots, hyphens and underscores", i)
		case !known:
			return fmt.Errorf(`apps[%d].type must be "token", "stable", "wecom" or "qq"`, i)
		}
		if err := checkBaseURL(a.BaseURL); err != nil {
			return fmt.Errorf("apps[%d]: %w", i, err)
		}
		for j, kind := range a.Tickets {
			if !slices.Contains(kinds, kind) {
				return fmt.Errorf("apps[%d].tickets: an app of type %q has %q, not %q", i, a.Type, kinds, kind)
			}
			if slices.Contains(a.Tickets[:j], kind) {
				return fmt.Errorf("apps[%d].tickets: %q appears twice", i, kind)
			}
		}
	}
	return nil
}

func (c *Config) checkComponents() error {
	for i, p := range c.Components {
		switch {
		case p.AppID == "" || p.Secret == "" || p.Token == "" || p.EncodingAESKey == "":
			return fmt.Errorf("components[%d] needs appid, secret, token and encoding_aes_key", i)
		case !idForm.MatchString(p.AppID):
			return fmt.Errorf("components[%d]: an appid has up to 64 letters, digits, dots, hyphens and underscores", i)
		}
		if _, err := msgcrypt.New(p.Token, p.EncodingAESKey); err != nil {
			return fmt.Errorf("components[%d]: %s", i, strings.TrimPrefix(err.Error(), "wxtoken: "))
		}
		if err := checkBaseURL(p.BaseURL); err != nil {
			return fmt.Errorf("components[%d]: %w", i, err)
		}
		for _, id := range p.Authorizers {
			if !idForm.MatchString(id) {
				return fmt.Errorf("components[%d].authorizers: %.64q is not an appid", i, id)
			}
		}
	}
	known := map[string]bool{}
	for _, id := range c.IDs() {
		if known[id] {
			return fmt.Errorf("%s appears twice; agents of one WeCom corporation need an id each", id)
		}
		known[id] = true
	}
	if len(known) == 0 {
		return errors.New("apps is empty: there is no token to serve")
	}
	return nil
}

// IDs returns what clients call the apps, components and authorizers.
func (c *Config) IDs() (ids []string) {
	for _, a := range c.Apps {
		ids = append(ids, a.Name())
	}
	for _, p := range c.Components {
		ids = append(append(ids, p.AppID), p.Authorizers...)
	}
	return ids
}

// checkStore opens the store, without connecting to it.
func (c *Config) checkStore() error {
	if c.Store != "" {
		s, err := store.Open(c.Store)
		if err != nil {
			return fmt.Errorf("store: %s", strings.TrimPrefix(err.Error(), "wxtoken: "))
		}
		c.Warnings = append(c.Warnings, s.Warnings...)
		return s.Close()
	}
	if c.Single {
		return nil
	}
	for _, a := range c.Apps {
		if a.Type == Token || a.Type == QQ {
			return fmt.Errorf("app %s is of type %q, of which each fetch supersedes the token before, and there is no store: "+
				"a second server, or any other process that fetches, would supersede the tokens of the first one. "+
				`Set store, or type "stable", or "single": true if this is the only process that fetches for it`, a.Name(), a.Type)
		}
	}
	if len(c.Components) > 0 {
		return errors.New("components need a store: tickets and refresh tokens must outlive this process")
	}
	c.Warnings = append(c.Warnings, "there is no store: tokens are in memory, and a restart fetches each one again")
	return nil
}

func (c *Config) checkClients() error {
	if len(c.Clients) == 0 {
		return errors.New("clients is empty: no client could ask for a token")
	}
	known, names := map[string]bool{}, map[string]bool{}
	for _, id := range c.IDs() {
		known[id] = true
	}
	for _, p := range c.Components {
		known[p.AppID+"/*"] = true
	}
	taken := map[string]string{}
	for i, a := range c.Apps {
		taken[a.Secret] = fmt.Sprintf("apps[%d].secret", i)
	}
	for i, p := range c.Components {
		taken[p.Secret] = fmt.Sprintf("components[%d].secret", i)
	}
	for i, cl := range c.Clients {
		if err := CheckSecret(cl.Secret); err != nil {
			return fmt.Errorf("clients[%d].secret %w", i, err)
		}
		if other := taken[cl.Secret]; other != "" {
			return fmt.Errorf("clients[%d].secret is the same as %s: anyone who may ask for tokens could then fetch them as well; make one with: openssl rand -hex 32", i, other)
		}
		taken[cl.Secret] = fmt.Sprintf("clients[%d].secret", i)
		if cl.Name == "" || names[cl.Name] {
			return fmt.Errorf("clients[%d] needs a unique name", i)
		}
		names[cl.Name] = true
		if len(cl.Apps) == 0 {
			return fmt.Errorf("clients[%d].apps is empty: list the appids that %s may ask for", i, cl.Name)
		}
		wild := 0
		for _, id := range cl.Apps {
			if id != "*" && !known[id] {
				return fmt.Errorf("clients[%d].apps: %.64q is not among apps, components and authorizers", i, id)
			}
			if strings.HasSuffix(id, "/*") {
				wild++
			}
		}
		if wild > 1 {
			return fmt.Errorf("clients[%d].apps has all authorizers of several components: make a client for each", i)
		}
		for _, allowed := range cl.Proxy {
			if err := checkAllowed(allowed); err != nil {
				return fmt.Errorf("clients[%d].proxy: %w", i, err)
			}
		}
	}
	return nil
}

// checkAllowed checks a path that a client may call through the proxy.
func checkAllowed(allowed string) error {
	plain := strings.TrimSuffix(allowed, "*")
	switch {
	case !strings.HasPrefix(plain, "/"):
		return fmt.Errorf("%.64q must begin with /", allowed)
	case plain != allowed && !strings.HasSuffix(plain, "/"), strings.ContainsAny(plain, "*?#%\\ "):
		return fmt.Errorf(`%.64q must be a path, or all below one: "/cgi-bin/message/*"`, allowed)
	case plain != "/" && path.Clean(plain) != strings.TrimSuffix(plain, "/"):
		return fmt.Errorf("%.64q has //, /. or /.. in it", allowed)
	}
	return nil
}

// checkScheme allows http only to this machine: the secret is in the request.
func checkScheme(base string) error {
	u, err := url.Parse(base)
	if err != nil || u.Scheme == "http" && !store.Loopback(u.Host) {
		return errors.New("base_url is http: anyone in between could read the secret; use https, or a proxy on this machine")
	}
	return nil
}
