package wxtoken

import "context"

// A Fetcher asks the platform for a token. It must be safe for concurrent use.
type Fetcher interface {
	// Fetch asks the platform; each call may supersede the token before it.
	// An *APIError says that the platform refused and issued nothing; after
	// any other error a token may have been issued.
	Fetch(ctx context.Context) (Token, error)

	// Key names the credential in the cache; never the secret.
	Key() string
}
