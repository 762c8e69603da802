package protocol

import (
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

type value struct{ Secret string }

func TestEnvelopes(t *testing.T) {
	plain := Sealer{CacheKey: "k"}
	one := Sealer{Keys: [][32]byte{{1}}, CacheKey: "k"}
	both := Sealer{Keys: [][32]byte{{2}, {1}}, CacheKey: "k"}
	elsewhere := Sealer{Keys: [][32]byte{{1}}, CacheKey: "other"}
	other := Sealer{Keys: [][32]byte{{3}}, CacheKey: "k"}
	for name, test := range map[string]struct {
		from, to Sealer
		plain    bool
		want     error
	}{
		"plain":                        {plain, plain, false, nil},
		"sealed":                       {one, one, false, nil},
		"after a rotation":             {one, both, false, nil},
		"without the key":              {one, plain, false, ErrNoKey},
		"with another key":             {one, other, false, ErrNoKey},
		"from another place":           {one, elsewhere, false, ErrNoKey},
		"plain, with keys":             {plain, one, false, ErrPlain},
		"plain, with keys, as allowed": {plain, one, true, nil},
	} {
		raw, err := test.from.Wrap(value{"s3cret"})
		require.NoError(t, err)
		assert.Equal(t, len(test.from.Keys) == 0, strings.Contains(string(raw), "s3cret"), name)
		var got value
		test.to.Plain = test.plain
		err = test.to.Unwrap(raw, &got)
		assert.True(t, errors.Is(err, test.want), "%s: %v", name, err)
		assert.Equal(t, test.want == nil, got.Secret == "s3cret", name)
		if test.want == nil {
			assert.ErrorIs(t, test.to.Unwrap(raw, new(int)), ErrCorrupt, "another type")
		}
	}
	for text, want := range map[string]error{
		"": ErrCorrupt, "x": ErrCorrupt, "1": ErrCorrupt, "null": ErrCorrupt, `{"v":0}`: ErrCorrupt, `{"v":1}`: ErrCorrupt, `{"v":1,"value":7}`: ErrCorrupt, `{"v":1,"value":{}}`: nil,
		`{"v":1,"sealed":"%"}`: ErrCorrupt, `{"v":1,"sealed":""}`: ErrCorrupt, `{"v":1,"sealed":null}`: ErrCorrupt, `{"v":2,"value":{}}`: ErrNewer,
		`{"v":1,"sealed":{"alg":"x"}}`: ErrCorrupt, `{"v":1,"sealed":7}`: ErrCorrupt, `{"v":2,"sealed":{"alg":"x"}}`: ErrNewer, `{"v":2,"sealed":"%"}`: ErrNewer,
		`{"v":2,"value":{"x":"` + strings.Repeat("x", maxEnvelope) + `"}}`: ErrNewer,
		`{"v":1,"value":{"x":"` + strings.Repeat("x", maxEnvelope) + `"}}`: ErrCorrupt,
		strings.Repeat("\x00", maxEnvelope+1):                              ErrCorrupt,
	} {
		assert.ErrorIs(t, plain.Unwrap([]byte(text), &value{}), want, "%.30s", text)
	}
	_, err := plain.Wrap(func() {})
	assert.Error(t, err)
}
