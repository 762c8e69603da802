// Package config reads and checks the configuration of wxtoken serve.
package config

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"strings"

	"github.com/wxtoken/wxtoken/internal/endpoint"
)

// A Config is the JSON that configures the server. Every string may be "env:NAME" or
// "@/path", which stands for the contents of that environment variable or file,
// without leading and trailing blanks.
type Config struct {
	// Listen is "host:port" or "unix:/path/to/socket".
	Listen string `json:"listen"`

	// Admin is the address of the page about the apps, "host:port" or a socket. Empty
	// means 127.0.0.1:8902, and "off" means no page.
	Admin string `json:"admin"`

	// TLS serves https, with the certificate and key in these PEM files. They
	// are read again when they change.
	TLS struct {
		Cert string `json:"cert"`
		Key  string `json:"key"`
	} `json:"tls"`

	// PlainHTTP allows http on an address that others can reach: for a server behind
	// a proxy that terminates TLS.
	PlainHTTP bool `json:"plain_http"`

	// Store holds the tokens, so that several servers can run and a restart needs no
	// fetch: a URL as described by store.Forms. Without it they are in memory.
	Store string `json:"store"`

	// Single declares that no other process fetches for these apps, so that apps of
	// type "token" can do without a store.
	Single bool `json:"single"`

	// KeyPrefix is wxtoken.WithKeyPrefix; nil is its default, "wxtoken:".
	KeyPrefix *string `json:"key_prefix"`

	// Encryption has keys of 32 bytes, as 64 hexadecimal digits or base64. The first
	// encrypts the records, every one decrypts them. PlainRecords is
	// wxtoken.WithPlainRecords.
	Encryption   []string `json:"encryption"`
	PlainRecords bool     `json:"plain_records"`

	// DrainSeconds is how long the server keeps running after a signal to stop, while
	// /readyz already reports that it should get no more requests.
	DrainSeconds int `json:"drain_seconds"`

	// MaxConnections limits the clients' connections. 0 means as many as the
	// descriptor limit allows.
	MaxConnections int `json:"max_connections"`

	// ReportsPerMinute is how many rejected tokens a client may report per minute. 0
	// means 60.
	ReportsPerMinute int `json:"reports_per_minute"`

	Apps       []App       `json:"apps"`
	Components []Component `json:"components"`
	Clients    []Client    `json:"clients"`

	// Warnings are about settings that are allowed but unwise.
	Warnings []string `json:"-"`

	keys [][32]byte // Encryption
}

// An App is an app whose token is served.
type App struct {
	// ID is what clients call the app; empty means AppID. It is for the agents of a
	// WeCom corporation, which all have the same AppID.
	ID     string `json:"id"`
	AppID  string `json:"appid"` // of WeCom, the corporation's id
	Secret string `json:"secret"`

	// Type is "token" (empty means that), "stable", "wecom" or "qq".
	Type string `json:"type"`

	// BaseURL is used in place of the platform: a proxy, or a fake for tests.
	BaseURL string `json:"base_url"`

	// Tickets are the kinds of tickets to keep as well: "jsapi", "wx_card" or "2";
	// for WeCom, "jsapi" and "agent_config".
	Tickets []string `json:"tickets"`

	// SecretFile is the file that Secret was read from, if any.
	SecretFile string `json:"-"`
}

// A Component is a third-party platform (第三方平台), with the apps that have
// authorized it.
type Component struct {
	AppID  string `json:"appid"`
	Secret string `json:"secret"`

	// Token and EncodingAESKey are for its pushes, which go to /callback/APPID.
	Token          string `json:"token"`
	EncodingAESKey string `json:"encoding_aes_key"`

	// Authorizers are the apps whose tokens are kept fresh. A client that may ask for
	// "APPID/*", with the component's appid, gets the token of any other when it
	// asks.
	Authorizers []string `json:"authorizers"`

	BaseURL string `json:"base_url"`

	SecretFile string `json:"-"`
}

// A Client is a service that may ask for tokens.
type Client struct {
	Name   string   `json:"name"`   // for the log
	Secret string   `json:"secret"` // it sends "Authorization: Bearer SECRET"
	Apps   []string `json:"apps"`   // the ids that it may ask for; "*" is all, "APPID/*" all authorizers

	// Proxy lists what the client may call through /proxy: paths, or
	// "/cgi-bin/message/*" for everything below one. Tokens may be false for a client
	// that gets no tokens.
	Proxy  []string `json:"proxy"`
	Tokens *bool    `json:"tokens"` // nil: true
}

// Name returns what clients call the app.
func (a App) Name() string {
	if a.ID != "" {
		return a.ID
	}
	return a.AppID
}

// Keys returns the keys of Encryption.
func (c *Config) Keys() [][32]byte { return c.keys }

// ReadFile reads the configuration in a file.
func ReadFile(path string, getenv func(string) string) (*Config, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("wxtoken: give -config a file that can be read: %w", err)
	}
	c, v, err := parse(text, getenv)
	if err != nil {
		return nil, err
	}
	if v.inline {
		c.Warnings = append(c.Warnings, readableByAll(path)...)
	}
	return c, nil
}

// Parse reads, completes and checks a Config. No error contains a secret.
func Parse(text []byte, getenv func(string) string) (*Config, error) {
	c, _, err := parse(text, getenv)
	return c, err
}

func parse(text []byte, getenv func(string) string) (*Config, *values, error) {
	v := &values{getenv: getenv, files: map[string]string{}}
	tree, err := v.read(text)
	if err != nil {
		return nil, nil, err
	}
	full, err := json.Marshal(tree)
	if err != nil {
		return nil, nil, fmt.Errorf("wxtoken: the configuration: %w", err)
	}
	c := new(Config)
	d := json.NewDecoder(bytes.NewReader(full))
	d.DisallowUnknownFields()
	if err := d.Decode(c); err != nil {
		return nil, nil, fmt.Errorf("wxtoken: the configuration is not the JSON that the README describes: %s", strings.TrimPrefix(err.Error(), "json: "))
	}
	for i := range c.Apps {
		c.Apps[i].SecretFile = v.files[fmt.Sprintf("apps[%d].secret", i)]
	}
	for i := range c.Components {
		c.Components[i].SecretFile = v.files[fmt.Sprintf("components[%d].secret", i)]
	}
	for _, file := range v.order {
		c.Warnings = append(c.Warnings, readableByAll(file)...)
	}
	return c, v, c.Check()
}

// readableByAll warns about a file with secrets that every user of the machine can
// read.
func readableByAll(path string) []string {
	info, err := os.Stat(path)
	if runtime.GOOS == "windows" { // where the mode says nothing about other users
		return nil
	}
	if err != nil || info.Mode().Perm()&0o004 == 0 || strings.HasPrefix(path, "/dev/") {
		return nil
	}
	return []string{fmt.Sprintf("%s contains secrets and can be read by every user of this machine: chmod o-r it (in Kubernetes, defaultMode: 0400)", path)}
}

// checkBaseURL rejects URLs that would send the secret to the wrong place.
func checkBaseURL(text string) error {
	if text == "" {
		return nil
	}
	if err := endpoint.CheckHosts([]string{text}); err != nil {
		return fmt.Errorf("base_url is not of the form https://host[:port][/path]")
	}
	return checkScheme(text)
}
