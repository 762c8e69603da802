package serve

import (
	"context"
	"crypto/sha256"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/wxtoken/wxtoken"
	"github.com/wxtoken/wxtoken/cmd/wxtoken/internal/config"
)

// A kept is a token that the server keeps: an access token, or a ticket.
type kept struct {
	label   string // for metrics, log and page
	key     string // of its record in the store
	source  *wxtoken.Source
	watch   *watch
	reports reports
	life    context.Context // ends when it is no longer kept
}

// An app is one whose tokens clients may ask for.
type app struct {
	*kept
	id      string
	spec    config.App
	tickets map[string]*kept // by kind
	apis    *url.URL         // where its APIs are
	proxy   http.Handler
	stop    context.CancelFunc
}

// all are the tokens of the app.
func (a *app) all() []*kept {
	all := []*kept{a.kept}
	for _, kind := range a.spec.Tickets {
		all = append(all, a.tickets[kind])
	}
	return all
}

// platforms are the hosts of the APIs, by type.
var platforms = map[string]string{
	config.Token: "https://api.weixin.qq.com", config.Stable: "https://api.weixin.qq.com",
	config.WeCom: "https://qyapi.weixin.qq.com", config.QQ: "https://api.q.qq.com",
}

// newApp makes an app, and starts nothing.
func (s *Server) newApp(spec config.App) (*app, error) {
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
	var fetcher *wxtoken.HTTPFetcher
	switch spec.Type {
	case config.Token:
		fetcher = wxtoken.NewFetcher(spec.AppID, spec.Secret, opts...)
	case config.Stable:
		fetcher = wxtoken.NewStableFetcher(spec.AppID, spec.Secret, opts...)
	case config.WeCom:
		fetcher = wxtoken.NewWeComFetcher(spec.AppID, spec.Secret, opts...)
	default:
		return nil, fmt.Errorf("wxtoken: app %s is of type %q, which this server does not know", spec.Name(), spec.Type)
	}
	life, stop := context.WithCancel(context.Background())
	a := &app{id: spec.Name(), spec: spec, tickets: map[string]*kept{}, apis: apis, stop: stop}
	a.kept = s.newKept(life, a.id, fetcher)
	for _, kind := range spec.Tickets {
		a.tickets[kind] = s.newKept(life, a.id+":"+kind, wxtoken.NewTicketFetcher(a.source, kind, opts...))
	}
	a.proxy = s.newProxy(a)
	return a, nil
}

func (s *Server) newKept(life context.Context, label string, fetcher wxtoken.Fetcher) *kept {
	w := newWatch(&s.seconds)
	opts := append([]wxtoken.Option{
		wxtoken.WithKeyPrefix(s.prefix), wxtoken.WithObserver(w.observe), wxtoken.WithLogger(s.log),
	}, s.options...)
	return &kept{
		label: label, key: s.prefix + fetcher.Key(), watch: w, life: life,
		source: wxtoken.New(fetcher, s.store, opts...),
	}
}

// ready reports whether there is a token to hand out.
func (k *kept) ready(now time.Time) bool { return k.watch.snapshot().End.After(now) }

// A client is a service that may ask.
type client struct {
	config.Client
	apps   map[string]bool
	bucket *bucket // of its reports
}

// may reports whether the client may ask for an app.
func (c *client) may(id string) bool {
	return c.apps[id] || c.apps["*"]
}

// A catalog is what a configuration says: it is replaced as a whole.
type catalog struct {
	config  *config.Config
	apps    map[string]*app
	order   []*app // as in the configuration
	clients map[[sha256.Size]byte]*client
}

// all are the tokens of all apps.
func (c *catalog) all() (all []*kept) {
	for _, a := range c.order {
		all = append(all, a.all()...)
	}
	return all
}

// client finds whose secret this is. A secret is looked up by its hash, so that
// the time this takes tells nothing about those that there are.
func (c *catalog) client(secret string) *client {
	if secret == "" {
		return nil
	}
	return c.clients[sha256.Sum256([]byte(secret))]
}
