//go:build !unix

package serve

// descriptors is how many connections this process may have: here no limit is known.
func descriptors() int { return 10_000 }
