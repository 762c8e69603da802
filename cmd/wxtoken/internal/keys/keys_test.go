package keys

import (
	"encoding/base64"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestKeysAreReadInEveryForm(t *testing.T) {
	want := [32]byte([]byte("hush-hush-hush-hush-hush-hush?>~"))
	forms := []string{hex.EncodeToString(want[:]), strings.ToUpper(hex.EncodeToString(want[:]))}
	for _, e := range []*base64.Encoding{base64.StdEncoding, base64.RawStdEncoding, base64.URLEncoding, base64.RawURLEncoding} {
		forms = append(forms, e.EncodeToString(want[:]))
	}
	for _, form := range forms {
		key, err := Parse(form)
		require.NoError(t, err, form)
		assert.Equal(t, want, key)
	}
	for _, bad := range []string{"", "hush", hex.EncodeToString(want[:31]), hex.EncodeToString(want[:]) + "00", strings.Repeat("A", 43)} {
		_, err := Parse(bad)
		require.Error(t, err, bad)
		assert.NotContains(t, err.Error(), "hush")
	}

	file := filepath.Join(t.TempDir(), "keys")
	require.NoError(t, os.WriteFile(file, []byte("# the newest\n"+forms[0]+"\r\n\n  "+forms[2]+"\n"), 0o600))
	all, err := ReadFile(file)
	require.NoError(t, err)
	assert.Equal(t, [][32]byte{want, want}, all)

	for text, says := range map[string]string{"": "no key in it", "# none\n": "no key in it", forms[0] + "\nhush": "line 2"} {
		require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
		_, err := ReadFile(file)
		require.ErrorContains(t, err, says)
		assert.NotContains(t, err.Error(), "hush")
	}
	_, err = ReadFile(file + ".missing")
	assert.ErrorContains(t, err, "can be read")
}
