//go:build race

package openplatform_test

// These say how much is simulated under the race detector, which makes it some ten
// times slower and sees as much in fewer runs. `make test` simulates everything in
// full without it.
const (
	full  = false // whether there are enough calls for a rate
	seeds = 1
	days  = 1
	every = 2   // minutes from one round of calls to the next
	asked = 400 // of ten thousand authorizers
)

// few returns the first and the last of the cases: the others run the same code with
// other numbers.
func few[T any](cases []T) []T {
	return append(cases[:1:1], cases[max(len(cases)-1, 1):]...)
}
