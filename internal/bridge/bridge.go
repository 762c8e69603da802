// Package bridge is how the packages of this module read what the sealed options
// of package wxtoken hold, and what a Fetcher of theirs may tell a Source beyond
// the Fetcher interface. Nothing of it can be named from outside the module.
package bridge

import (
	"context"
	"net/http"
)

// Cache is what the options of wxtoken.New say of the cache.
type Cache struct {
	Prefix string
	Keys   [][32]byte // the first seals, every one opens; none: plain
	Plain  bool       // plain values are read although there are keys
}

// A CacheOption is a wxtoken.Option that says something of the cache.
type CacheOption interface{ ShowCache(*Cache) }

// HTTP is what the options of wxtoken.NewFetcher say of requests.
type HTTP struct {
	Client *http.Client
	Hosts  []string
	Fault  error                                 // why nothing can be sent
	Secret func(context.Context) (string, error) // in place of the secret; nil: there is none
}

// An HTTPOption is a wxtoken.FetcherOption.
type HTTPOption interface{ ShowHTTP(*HTTP) }

// A Revision counts what happened to a credential.
type Revision uint64

// A Gate is a Fetcher that learns without a fetch that its credential has ended
// or can be had again. Its method must be quick and must not use the Source: it
// is asked, under the Source's lock, before a Token that is not the common path.
//
// While closed is not nil, Token, Peek and Run give out and fetch nothing, and
// Token returns closed. A revision other than the last one says that this
// process's failures have lost their reason: the next Token fetches at once,
// whatever this process's own cooldown says. Cooldowns that the processes share
// are not affected.
type Gate interface {
	Gate() (revision Revision, closed error)
}
