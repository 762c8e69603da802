//go:build !race

package openplatform_test

const (
	seeds = 2
	every = 1 // minute from one round of calls to the next
)
