package wxtoken

import (
	"github.com/wxtoken/wxtoken/internal/bridge"
)

// ShowCache passes what the option sets for the cache to package openplatform.
func (f optionFunc) ShowCache(to *bridge.Cache) {
	o := options{prefix: to.Prefix, extras: extras{keys: to.Keys, plainRecords: to.Plain}}
	f(&o)
	to.Prefix, to.Keys, to.Plain = o.prefix, o.keys, o.plainRecords
}

// ShowHTTP passes what the option sets for requests to package openplatform.
func (o fetcherOption) ShowHTTP(to *bridge.HTTP) {
	f := HTTPFetcher{secret: fixedSecret("")}
	f.endpoint.Client, f.endpoint.Hosts, f.fault = to.Client, to.Hosts, to.Fault
	o(&f)
	to.Client, to.Hosts, to.Fault = f.endpoint.Client, f.endpoint.Hosts, f.fault
	if f.secret.fixed == nil {
		to.Secret = f.secret.use
	}
}

var (
	_ bridge.CacheOption = optionFunc(nil)
	_ bridge.HTTPOption  = fetcherOption(nil)
)
