package wxtoken

import (
	"context"

	"github.com/wxtoken/wxtoken/internal/bridge"
)

// ShowCache shows package openplatform what the option says of the cache.
func (f optionFunc) ShowCache(to *bridge.Cache) {
	o := options{prefix: to.Prefix, keys: to.Keys}
	f(&o)
	to.Prefix, to.Keys = o.prefix, o.keys
}

// ShowHTTP shows package openplatform what the option says of requests.
func (o fetcherOption) ShowHTTP(to *bridge.HTTP) {
	var f HTTPFetcher
	f.endpoint.Client, f.endpoint.Hosts, f.fault = to.Client, to.Hosts, to.Fault
	o(&f)
	to.Client, to.Hosts, to.Fault = f.endpoint.Client, f.endpoint.Hosts, f.fault
	if f.secret != nil {
		to.Secret = func(context.Context) (string, error) { return f.secret(), nil }
	}
}

var (
	_ bridge.CacheOption = optionFunc(nil)
	_ bridge.HTTPOption  = fetcherOption(nil)
)
