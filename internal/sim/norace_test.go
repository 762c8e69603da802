//go:build !race

package sim

import "time"

func rare(period time.Duration) time.Duration { return period }

const day = 24 * time.Hour
