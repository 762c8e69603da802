package protocol

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

func TestTokenInHandIsGivenOutUnderItsLease(t *testing.T) {
	now := time.Now()
	expires := now.Add(time.Hour).UnixMilli()
	v := View{
		Copy: Record{Token: "old", ExpiresAt: expires},
		claim: &claim{nonce: "n", ends: now.Add(15 * time.Second),
			Result: Result{Outcome: Issued, Token: Record{Token: "new", ExpiresAt: expires}}},
	}
	at := func(v View, after time.Duration) string {
		r, _ := v.Held(now.Add(after))
		return r.Token
	}
	assert.Equal(t, "new", at(v, 14*time.Second))
	assert.Equal(t, "old", at(v, 15*time.Second), "another process may have fetched since")
	v.CacheFailed()
	assert.Equal(t, "new", at(v, 15*time.Second), "the cache failed: nothing better is to be had")
}
