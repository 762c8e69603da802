package protocol

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func FuzzDecodeRecord(f *testing.F) {
	for _, seed := range []string{
		"", "null", "{}", "[1]", `"t"`, `{"v":1}`, `{"v":2}`, `{"v":1,"sealed":""}`, `{"v":1,"sealed":"AAAA"}`,
		`{"v":1,"epoch":"E","seq":7,"token":"T","issued_at":1,"expires_at":2,"lease":"L","owed":2,"rejected":true,"early":3}`,
		`{"v":1,"epoch":"E","seq":0,"cooldown":{"until":5,"code":40125,"message":"m","scope":"s","step":1}}`,
		`{"v":1,"epoch":"E","seq":9223372036854775807,"expires_at":-9223372036854775808}`,
		`{"v":1,"epoch":"E","seq":0,"cooldown":{"code":-1,"step":9223372036854775807}}`,
	} {
		f.Add([]byte(seed))
	}
	plain, sealed := Sealer{}, Sealer{Keys: [][32]byte{{1}}, CacheKey: "k"}
	f.Fuzz(func(t *testing.T, raw []byte) {
		for _, seal := range []Sealer{plain, sealed} {
			r, err := Decode(raw, seal)
			if err != nil {
				require.True(t, errors.Is(err, ErrGarbage) || errors.Is(err, ErrNewer) || errors.Is(err, ErrNoKey), "%v", err)
				continue
			}
			same, err := Decode(Encode(r, seal), seal)
			require.NoError(t, err)
			require.Equal(t, r, same)

			// What can be decoded can be decided on.
			now := time.UnixMilli(1_800_000_000_000)
			var v View
			v.Observe(r, now, now)
			ru := Rules{Fetch: 10 * time.Second, Local: 45 * time.Second, Ahead: 5 * time.Minute}
			require.NotPanics(t, func() { ru.Decide(r, v, "nonce", now) })

			// So can what comes of a refusal and of a fetch.
			r.Lease, v.claim = "nonce", &claim{nonce: "nonce", Result: Result{Outcome: Denied, Code: -1}}
			require.NotPanics(t, func() { r = ru.Decide(r, v, "nonce", now).Next })
			require.NotPanics(t, func() { r = ru.Refuse(r, v, r.Token, now).Next })
			assert.Positive(t, r.TTL(now))
		}
	})
}
