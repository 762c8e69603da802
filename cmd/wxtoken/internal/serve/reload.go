package serve

import (
	"crypto/sha256"
	"errors"
	"reflect"
	"strings"
	"time"

	"github.com/wxtoken/wxtoken/cmd/wxtoken/internal/config"
)

// newCatalog builds a catalog from c. Apps that old also has continue unchanged, and
// so do the limits of its clients. Nothing is started or stopped.
func (s *Server) newCatalog(c *config.Config, old *catalog) (*catalog, error) {
	if old == nil {
		old = new(catalog)
	}
	next := &catalog{config: c, apps: map[string]*app{}, components: map[string]*component{}, clients: map[[sha256.Size]byte]*client{}}
	add := func(a *app) {
		next.apps[a.id] = a
		next.order = append(next.order, a)
	}
	for _, spec := range c.Apps {
		a := old.apps[spec.Name()]
		if a == nil || !reflect.DeepEqual(a.spec, spec) {
			var err error
			if a, err = s.newApp(spec); err != nil {
				return nil, err
			}
		}
		add(a)
	}
	for _, spec := range c.Components {
		authorizers := spec.Authorizers
		spec.Authorizers = nil
		one := old.components[spec.AppID]
		if one == nil || !reflect.DeepEqual(one.spec, spec) {
			var err error
			if one, err = s.newComponent(spec); err != nil {
				return nil, err
			}
		}
		next.components[spec.AppID] = one
		keep := func(kind, id string) {
			if a := old.apps[id]; a != nil && a.component == one {
				add(a)
				return
			}
			add(one.app(kind, id))
		}
		keep(componentType, spec.AppID)
		for _, id := range authorizers {
			keep(authorizerType, id)
		}
	}
	buckets := map[string]*bucket{}
	for _, cl := range old.clients {
		buckets[cl.Name] = cl.bucket
	}
	for _, spec := range c.Clients {
		cl := &client{Client: spec, bucket: buckets[spec.Name], apps: map[string]bool{}}
		if cl.bucket == nil {
			cl.bucket = new(bucket)
		}
		for _, id := range spec.Apps {
			cl.apps[id] = true
			if component, all := strings.CutSuffix(id, "/*"); all {
				cl.wild = next.components[component]
			}
		}
		next.clients[sha256.Sum256([]byte(spec.Secret))] = cl
	}
	return next, nil
}

// use installs a catalog: new apps are kept fresh from now on, and removed ones no
// longer.
func (s *Server) use(next *catalog) (added, removed int) {
	old := s.catalog.Swap(next)
	if old == nil {
		old = new(catalog)
	}
	var fresh []*kept
	for _, a := range next.order {
		if old.apps[a.id] != a {
			fresh = append(fresh, a.all()...)
			added++
		}
	}
	for _, a := range old.order {
		if next.apps[a.id] != a {
			a.stop()
			removed++
		}
	}
	for id, one := range old.components {
		if next.components[id] != one {
			one.stop()
		}
	}
	tune(len(next.all()))
	s.configured.Store(time.Now().UnixNano())
	s.keeper.keep(s.life, fresh)
	return added, removed
}

// Reload switches to the apps, clients and limits of a configuration that was read
// again, or could not be read. If anything is wrong with it, Reload logs that and
// changes nothing.
func (s *Server) Reload(c *config.Config, err error) {
	if err == nil {
		err = s.reload(c)
	}
	if err != nil {
		s.badReloads.Add(1)
		s.log.Error("the new configuration is invalid; the server keeps the previous one", "error", err.Error())
	}
}

func (s *Server) reload(c *config.Config) error {
	s.reloading.Lock()
	defer s.reloading.Unlock()
	old := s.catalog.Load()
	if !reflect.DeepEqual(fixed(*c), fixed(*old.config)) {
		return errors.New("wxtoken: listen, admin, tls, plain_http, store, key_prefix, encryption, plain_records and max_connections " +
			"change only when the server is restarted")
	}
	next, err := s.newCatalog(c, old)
	if err != nil {
		return err
	}
	added, removed := s.use(next)
	for _, w := range c.Warnings {
		s.log.Warn(w)
	}
	s.log.Info("configuration reloaded", "apps", len(next.order), "added", added, "removed", removed, "clients", len(next.clients))
	return nil
}

// fixed returns the settings that a running server cannot change.
func fixed(c config.Config) config.Config {
	c.Apps, c.Components, c.Clients, c.Warnings = nil, nil, nil, nil
	c.Single, c.DrainSeconds, c.ReportsPerMinute = false, 0, 0
	return c
}
