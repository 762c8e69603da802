//go:build !race

package sim

import "time"

func rare(period time.Duration) time.Duration { return period }

func few[T any](cases []T) []T { return cases }

const day = 24 * time.Hour
