//go:build !race

package openplatform_test

const (
	full  = true
	seeds = 2
	days  = 3
	every = 1 // minute from one round of calls to the next
	asked = 2_000
)

func few[T any](cases []T) []T { return cases }
