package serve

import (
	"context"
	"crypto/sha256"
	"fmt"
	"net/http"
	"net/url"

	"github.com/wxtoken/wxtoken"
	"github.com/wxtoken/wxtoken/cmd/wxtoken/internal/config"
)

// A kept is a token that the server keeps fresh: an access token, or a ticket.
type kept struct {
	label   string // for metrics, log and page
	key     string // of its record in the store
	source  *wxtoken.Source
	watch   *watch
	reports reports
	life    context.Context // ends when it is no longer kept
}

// ready reports whether there is a token to hand out.
func (k *kept) ready() bool {
	_, ok := k.source.Peek()
	return ok
}

// An app is one whose tokens clients may request.
type app struct {
	*kept
	id        string
	spec      config.App
	component *component       // of a component and its authorizers; nil: of none
	tickets   map[string]*kept // by kind
	apis      *url.URL         // where its APIs are
	proxy     http.Handler
	stop      context.CancelFunc
}

// all returns the tokens of the app.
func (a *app) all() []*kept {
	all := []*kept{a.kept}
	for _, kind := range a.spec.Tickets {
		all = append(all, a.tickets[kind])
	}
	return all
}

// platforms are the API hosts, by type.
var platforms = map[string]string{
	config.Token: "https://api.weixin.qq.com", config.Stable: "https://api.weixin.qq.com",
	config.WeCom: "https://qyapi.weixin.qq.com", config.QQ: "https://api.q.qq.com",
}

// newApp returns an app, and starts nothing.
func (s *Server) newApp(spec config.App) (*app, error) {
	make := map[string]func(appID, secret string, opts ...wxtoken.FetcherOption) *wxtoken.HTTPFetcher{
		config.Token: wxtoken.NewFetcher, config.Stable: wxtoken.NewStableFetcher,
		config.WeCom: wxtoken.NewWeComFetcher, config.QQ: wxtoken.NewQQFetcher,
	}[spec.Type]
	if make == nil {
		return nil, fmt.Errorf("wxtoken: app %s is of type %q, which this server does not know", spec.Name(), spec.Type)
	}
	opts := []wxtoken.FetcherOption{wxtoken.WithHTTPClient(&http.Client{Transport: s.gate})}
	base := platforms[spec.Type]
	if spec.BaseURL != "" {
		base = spec.BaseURL
		opts = append(opts, wxtoken.WithBaseURL(base))
	}
	apis, err := url.Parse(base)
	if err != nil {
		return nil, fmt.Errorf("wxtoken: app %s: base_url cannot be read", spec.Name())
	}
	life, stop := context.WithCancel(context.Background())
	a := &app{id: spec.Name(), spec: spec, tickets: map[string]*kept{}, apis: apis, stop: stop}
	withSecret := opts
	if spec.SecretFile != "" {
		withSecret = append(opts[:len(opts):len(opts)], secretFrom(spec.SecretFile))
	}
	a.kept = s.newKept(life, a.id, make(spec.AppID, spec.Secret, withSecret...))
	for _, kind := range spec.Tickets {
		a.tickets[kind] = s.newKept(life, a.id+":"+kind, wxtoken.NewTicketFetcher(a.source, kind, opts...))
	}
	a.proxy = s.newProxy(a)
	return a, nil
}

// secretFrom reads the secret before each fetch, so that replacing it in its file
// needs neither a restart nor a signal.
func secretFrom(file string) wxtoken.FetcherOption {
	return wxtoken.WithSecretFunc(func(context.Context) (string, error) { return config.ReadSecret(file) })
}

func (s *Server) newKept(life context.Context, label string, fetcher wxtoken.Fetcher) *kept {
	w := newWatch(&s.seconds)
	return &kept{
		label: label, key: s.prefix + fetcher.Key(), watch: w, life: life,
		source: wxtoken.New(fetcher, s.store, append([]wxtoken.Option{wxtoken.WithObserver(w.observe)}, s.options...)...),
	}
}

// A client is a service that may send requests.
type client struct {
	config.Client
	apps   map[string]bool
	wild   *component // all of whose authorizers it may ask for; nil: of none
	bucket *bucket    // of its reports
}

// A catalog is the content of a configuration: it is replaced as a whole.
type catalog struct {
	config     *config.Config
	apps       map[string]*app // with those of components
	order      []*app          // as in the configuration
	components map[string]*component
	clients    map[[sha256.Size]byte]*client
}

// all returns the tokens of all apps.
func (c *catalog) all() (all []*kept) {
	for _, a := range c.order {
		all = append(all, a.all()...)
	}
	for _, one := range c.components {
		for _, a := range one.allUnlisted() {
			all = append(all, a.kept)
		}
	}
	return all
}

// client returns the client with this secret. A secret is looked up by its hash, so
// that the time this takes reveals nothing about the existing secrets.
func (c *catalog) client(secret string) *client {
	if secret == "" {
		return nil
	}
	return c.clients[sha256.Sum256([]byte(secret))]
}

// app returns the app with this id if the client may ask for it, else nil.
func (c *catalog) app(cl *client, id string) *app {
	a := c.apps[id]
	switch {
	case a == nil && cl.wild != nil:
		return cl.wild.unlistedApp(id)
	case a != nil && (cl.apps[id] || cl.apps["*"] || cl.wild != nil && a.component == cl.wild && a.spec.Type == authorizerType):
		return a
	}
	return nil
}
