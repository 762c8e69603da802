package openplatform

import (
	"context"

	"github.com/wxtoken/wxtoken"
	"github.com/wxtoken/wxtoken/internal/bridge"
	"github.com/wxtoken/wxtoken/internal/endpoint"
	"github.com/wxtoken/wxtoken/internal/errcode"
)

// A component is the Fetcher of the component_access_token. The HTTPFetcher that it
// embeds sends nothing: it lets a Source distinguish processes with different
// secrets.
type component struct {
	*wxtoken.HTTPFetcher
	p       *Platform
	gate    gate
	tickets tickets
}

// Key names the credential in the cache.
func (c *component) Key() string { return "component:" + c.p.appID }

// Platform returns the platform whose error codes and API hosts apply.
func (c *component) Platform() errcode.Platform { return errcode.ThirdParty }

// Repeatable reports false: a second fetch supersedes the first.
func (c *component) Repeatable() bool { return false }

// Gate changes when a ticket has arrived.
func (c *component) Gate() (bridge.Revision, error) { return c.gate.state(c.look) }

// Fetch asks for a component_access_token.
func (c *component) Fetch(ctx context.Context) (wxtoken.Token, error) {
	p := c.p
	if p.fault != nil {
		return wxtoken.Token{}, unsent(p.fault)
	}
	early, cancel := beforehand(ctx)
	defer cancel()
	secret, err := p.secret(early)
	if err == nil {
		err = endpoint.CheckCredential("component appID", p.appID, secret)
	}
	if err != nil {
		return wxtoken.Token{}, unsent(err)
	}
	t, err := c.ticket(early)
	if err != nil {
		return wxtoken.Token{}, unsent(err)
	}
	if t.Value == "" {
		return wxtoken.Token{}, c.missing(early, secret, nil)
	}
	tok, err := p.send(ctx, request{
		path: componentPath, field: "component_access_token", secrets: []string{secret, t.Value},
		body: map[string]any{"component_appid": p.appID, "component_appsecret": secret, "component_verify_ticket": t.Value},
	})
	if code := codeOf(err); code == 61005 || code == 61006 {
		c.denied(t)
		early, cancel := beforehand(ctx)
		defer cancel()
		return wxtoken.Token{}, c.missing(early, secret, err)
	}
	c.gate.has()
	return tok, err
}
