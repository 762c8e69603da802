package serve

import (
	"context"
	"net/http"
	"net/url"
	"regexp"
	"sync"

	"github.com/wxtoken/wxtoken"
	"github.com/wxtoken/wxtoken/cmd/wxtoken/internal/config"
	"github.com/wxtoken/wxtoken/openplatform"
)

// Types of apps that come with a component.
const (
	componentType  = "component"
	authorizerType = "authorizer"
)

// mostUnlisted is how many authorizers that no configuration lists are kept.
const mostUnlisted = 20_000

// appIDForm is the form of an account's appID on the platform.
var appIDForm = regexp.MustCompile(`^wx[0-9a-f]{16}$`)

// A component is a third-party platform with its authorizers.
type component struct {
	server   *Server
	spec     config.Component // without Authorizers
	platform *openplatform.Platform
	apis     *url.URL
	life     context.Context
	stop     context.CancelFunc
	watches  sync.Map // *watch, by the key of the record

	mu       sync.Mutex
	unlisted map[string]*app // authorizers that no configuration lists
}

// newComponent returns a component, and starts nothing.
func (s *Server) newComponent(spec config.Component) (*component, error) {
	apis, err := url.Parse(platforms[config.Token])
	fetch := []wxtoken.FetcherOption{wxtoken.WithHTTPClient(&http.Client{Transport: s.gate})}
	if spec.BaseURL != "" {
		apis, err = url.Parse(spec.BaseURL)
		fetch = append(fetch, wxtoken.WithBaseURL(spec.BaseURL))
	}
	if err != nil {
		return nil, err
	}
	if spec.SecretFile != "" {
		fetch = append(fetch, secretFrom(spec.SecretFile))
	}
	c := &component{server: s, spec: spec, apis: apis, unlisted: map[string]*app{}}
	c.life, c.stop = context.WithCancel(context.Background())
	c.platform = openplatform.New(spec.AppID, spec.Secret, s.store,
		openplatform.WithCallback(spec.Token, spec.EncodingAESKey),
		openplatform.WithFetcherOptions(fetch...),
		openplatform.WithSourceOptions(append([]wxtoken.Option{wxtoken.WithObserver(c.observe)}, s.options...)...))
	return c, nil
}

// observe passes an event to the watch of its Source.
func (c *component) observe(e wxtoken.Event) {
	if w, ok := c.watches.Load(e.Key); ok {
		w.(*watch).observe(e)
	}
}

// app returns the component's own app, or that of an authorizer.
func (c *component) app(kind, id string) *app {
	name, key, source := id, "authorizer:"+c.spec.AppID+":"+id, (*wxtoken.Source)(nil)
	life, stop := context.WithCancel(c.life)
	if kind == componentType {
		key, source = "component:"+id, c.platform.Source()
	} else {
		source = c.platform.Authorizer(id)
	}
	key = c.server.prefix + key
	w := newWatch(&c.server.seconds)
	c.watches.Store(key, w)
	a := &app{id: name, spec: config.App{AppID: id, Type: kind}, component: c, apis: c.apis, stop: stop}
	a.kept = &kept{label: name, key: key, source: source, watch: w, life: life}
	a.proxy = c.server.newProxy(a)
	return a
}

// unlistedApp returns an authorizer that no configuration lists; nil if it cannot be one.
func (c *component) unlistedApp(id string) *app {
	if !appIDForm.MatchString(id) {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	a := c.unlisted[id]
	if a == nil && len(c.unlisted) < mostUnlisted {
		a = c.app(authorizerType, id)
		c.unlisted[id] = a
	}
	return a
}

// allUnlisted returns those that are kept now.
func (c *component) allUnlisted() (all []*app) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, a := range c.unlisted {
		all = append(all, a)
	}
	return all
}

// serveCallback is the authorization event URL (授权事件接收URL) of a component:
// /callback/APPID. The platform signs what it sends there.
func (s *Server) serveCallback(w http.ResponseWriter, r *http.Request, id string) {
	c := s.catalog.Load().components[id]
	if c == nil {
		sendProblem(w, &problem{status: http.StatusNotFound, code: 40066, message: "invalid url: this server has no such component"})
		return
	}
	noting(w).appID = id
	c.platform.ServeHTTP(w, r)
}
