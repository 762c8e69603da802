// Package bridge lets the packages of this module read the sealed options of package
// wxtoken, and lets their Fetchers give a Source more than the Fetcher interface
// does. Nothing in it can be named outside the module.
package bridge

import (
	"context"
	"net/http"
)

// Cache holds what the options of wxtoken.New set for the cache.
type Cache struct {
	Prefix string
	Keys   [][32]byte // the first encrypts, every one decrypts; none: plain
	Plain  bool       // plain values are read even if there are keys
}

// A CacheOption is a wxtoken.Option that concerns the cache.
type CacheOption interface{ ShowCache(*Cache) }

// HTTP holds what the options of wxtoken.NewFetcher set for requests.
type HTTP struct {
	Client *http.Client
	Hosts  []string
	Fault  error                                 // why nothing can be sent
	Secret func(context.Context) (string, error) // in place of the secret; nil: there is none
}

// An HTTPOption is a wxtoken.FetcherOption.
type HTTPOption interface{ ShowHTTP(*HTTP) }

// A Member is a Fetcher that says for which member of the fleet it fetches: see
// protocol.Rules. Simulations have many in one process.
type Member interface{ Member() Name }

// A Name is short printable ASCII without spaces, and in the record for all to read. It
// is a type so that no application's Fetcher gives one by accident.
type Name string

// A Revision counts the changes of a credential.
type Revision uint32

// A Gate is a Fetcher that learns without a fetch that its credential has ended or is
// available again. Its method must be quick and must not use the Source: it is
// called, under the Source's lock, before each Token that is not on the fast path.
//
// While closed is not nil, Token, Peek and Run hand out and fetch nothing, and Token
// returns closed. A new revision means that the causes of this process's failures may
// be gone: the next Token fetches at once, whatever this process's own cooldown says.
// Cooldowns that the processes share are not affected.
type Gate interface {
	Gate() (revision Revision, closed error)
}
