package sim

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/wxtoken/wxtoken"
	"github.com/wxtoken/wxtoken/wxtest"
)

// A store that forgets the record every few seconds never lets a process watch for
// as long as it takes until an owed fetch is due. A token that an API rejects is
// replaced all the same.
func TestARevokedTokenInAStoreThatForgets(t *testing.T) {
	for _, s := range few([]struct{ keeps, latency time.Duration }{ // shorter than a fetch, too
		{40 * time.Second, time.Second}, {10 * time.Second, 0}, {3 * time.Second, 2 * time.Second}, {700 * time.Millisecond, 900 * time.Millisecond},
	}) {
		for _, members := range few([]int{1, 12, 3}) {
			for _, period := range []time.Duration{time.Second, 13 * time.Second} {
				bubble(t, fmt.Sprintf("every %s, %d members, calls every %s", s.keeps, members, period), func(t *testing.T) {
					p, c := newPlatform(), shortMemory{wxtoken.NewMemoryCache(), s.keeps}
					p.Inject(wxtest.Latency(s.latency).On(wxtest.TokenCalls))
					var srcs []*wxtoken.Source
					for range members {
						srcs = append(srcs, wxtoken.New(plain(p), c))
					}
					good := func(src *wxtoken.Source) bool {
						ctx, cancel := context.WithTimeout(t.Context(), tolerated)
						defer cancel()
						tok, err := src.Token(ctx)
						if err != nil || p.Honoured(tok.Value) {
							return err == nil
						}
						_ = src.Invalidate(ctx, tok.Value)
						tok, err = src.Token(ctx)
						return err == nil && p.Honoured(tok.Value)
					}
					worst := time.Duration(0)
					for range 4 {
						for begin := time.Now(); time.Since(begin) < 20*time.Minute; time.Sleep(rare(period)) {
							for _, src := range srcs {
								good(src)
							}
						}
						p.Revoke(p.Latest(sampleApp))
						begin := time.Now()
						last := begin
						for time.Since(begin) < 10*time.Minute {
							for _, src := range srcs {
								if !good(src) {
									last = time.Now()
								}
							}
							time.Sleep(period)
						}
						worst = max(worst, last.Sub(begin))
					}
					assert.LessOrEqual(t, worst, 2*time.Minute, "until every member has a good token")
				})
			}
		}
	}
}
