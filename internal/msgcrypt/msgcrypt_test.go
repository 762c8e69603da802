package msgcrypt

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/base64"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const sampleKey = "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFG"

func box(t testing.TB, token, key string) *Box {
	t.Helper()
	b, err := New(token, key)
	require.NoError(t, err)
	return b
}

// Vectors of the platform's own sample code (WXBizMsgCrypt in Java, Python) and of
// the example in its documentation.
func TestVectorsOfThePlatform(t *testing.T) {
	t.Run("encrypt, sample in Java", func(t *testing.T) {
		b := box(t, "pamtest", sampleKey)
		got := b.encrypt([]byte("aaaabbbbccccdddd"), []byte("我是中文abcd123"), "wxb11529c136998cb6")
		assert.Equal(t, "jn1L23DB+6ELqJ+6bruv21Y6MD7KeIfP82D6gU39rmkgczbWwt5+3bnyg5K55bgVtVzd832WzZGMhkP72vVOfg==", got)
	})
	t.Run("encrypt and sign, documentation of 2024", func(t *testing.T) {
		b := box(t, "AAAAA", strings.Repeat("A", keyLength))
		got := b.encrypt([]byte("999951349e8ee746"), []byte(`<xml><demo_resp>[CDATA[good luck]]</demo_resp></xml>`), "wx134c8103faa5a59e")
		assert.Equal(t, "hE8R6mGXHkJJjU72KxzKUd1GEkKJaEZq7vRL8XgK3o+00k8JGq6+pZJUIlTSyhsX+bxIBQ72g3GyvDdIZcr6+3HAZbSvPT9t/o11MI7d6WELwqrGd7jMnV0zv3Zc9Nq7", got)
		assert.Equal(t, "03e0812039325c2712ef5f0f980fd14c70d6e307", b.Sign("1713424427", "415670741", got))
	})
	for _, v := range []struct {
		name, token, key, timestamp, nonce, signature, encrypted, appID, message string
	}{
		{"decrypt, URL check of WeCom", "QDG6eK", "jWmYm7qr5nMoAUwZRjGtBxmz3KA1tkAj3ykkR6q2B2C", "1409659589", "263014780",
			"5c45ff5e21c57e6ad56bac8758b79b1d9ac89fd3",
			"P9nAzCzyDtyTWESHep1vC5X9xho/qYX3Zpb4yKa9SKld1DsH3Iyt3tP3zNdtp+4RPcs8TgAE7OaBO+FZXvnaqQ==",
			"wx5823bf96d3bd56c7", "1616140317555161061"},
		{"decrypt, sample in Python", "spamtest", sampleKey, "1409735669", "1320562132",
			"5d197aaffba7e9b25a30732f161a50dee96bd5fa",
			"hyzAe4OzmOMbd6TvGdIOO6uBmdJoD0Fk53REIHvxYtJlE2B655HuD0m8KUePWB3+LrPXo87wzQ1QLvbeUgmBM4x6F8PGHQHFVAFmOD2LdJF9FrXpbUAh0B5GIItb52sn896wVsMSHGuPE328HnRGBcrS7C41IzDWyWNlZkyyXwon8T332jisa+h6tEDYsVticbSnyU8dKOIbgU6ux5VTjg3yt+WGzjlpKn6NPhRjpA912xMezR4kw6KWwMrCVKSVCZciVGCgavjIQ6X8tCOp3yZbGpy0VxpAe+77TszTfRd5RJSVO/HTnifJpXgCSUdUue1v6h0EIBYYI1BD1DlD+C0CR8e6OewpusjZ4uBl9FyJvnhvQl+q5rv1ixrcpCumEPo5MJSgM9ehVsNPfUM669WuMyVWQLCzpu9GhglF2PE=",
			"wx2c2769f8efd9abc2",
			"<xml><ToUserName><![CDATA[gh_10f6c3c3ac5a]]></ToUserName>\n<FromUserName><![CDATA[oyORnuP8q7ou2gfYjqLzSIWZf0rs]]></FromUserName>\n<CreateTime>1409735668</CreateTime>\n<MsgType><![CDATA[text]]></MsgType>\n<Content><![CDATA[abcdteT]]></Content>\n<MsgId>6054768590064713728</MsgId>\n</xml>"},
	} {
		t.Run(v.name, func(t *testing.T) {
			b := box(t, v.token, v.key)
			assert.True(t, b.Signed(v.signature, v.timestamp, v.nonce, v.encrypted))
			message, appID, err := b.Decrypt(v.encrypted)
			require.NoError(t, err)
			assert.Equal(t, v.message, string(message))
			assert.Equal(t, v.appID, appID)
		})
	}
}

func TestASignatureCoversEachPart(t *testing.T) {
	b := box(t, "token", sampleKey)
	good := b.Sign("1", "2", "3")
	assert.True(t, b.Signed(good, "1", "2", "3"))
	for _, bad := range [][4]string{
		{good, "0", "2", "3"}, {good, "1", "0", "3"}, {good, "1", "2", "0"},
		{"", "1", "2", "3"}, {good[:39], "1", "2", "3"}, {good + "0", "1", "2", "3"}, {strings.ToUpper(good), "1", "2", "3"},
	} {
		assert.False(t, b.Signed(bad[0], bad[1], bad[2], bad[3]), bad)
	}
	assert.False(t, box(t, "other", sampleKey).Signed(good, "1", "2", "3"))
}

func TestNewRejectsBadKeysWithoutShowingThem(t *testing.T) {
	for _, key := range []string{"", "short", sampleKey[:42], sampleKey + "A", strings.Repeat("-", keyLength), sampleKey[:42] + "\n"} {
		_, err := New("token", key)
		require.Error(t, err, key)
		if key != "" {
			assert.NotContains(t, err.Error(), key)
		}
	}
	_, err := New("", sampleKey)
	assert.Error(t, err)
}

func TestDecryptRejects(t *testing.T) {
	b := box(t, "token", sampleKey)
	good := b.Encrypt([]byte("message"), "wx1")
	raw, _ := base64.StdEncoding.DecodeString(good)
	for name, text := range map[string]string{
		"nothing":        "",
		"no base64":      "%%%",
		"half a block":   base64.StdEncoding.EncodeToString(raw[:24]),
		"cut off":        base64.StdEncoding.EncodeToString(raw[:16]),
		"another's key":  box(t, "token", sampleKey[1:]+"a").Encrypt([]byte("message"), "wx1"),
		"only padding":   seal(b, strings.Repeat("\x20", 32)),
		"short head":     seal(b, strings.Repeat("x", 19)+strings.Repeat("\x0d", 13)),
		"length of 4 GB": seal(b, strings.Repeat("x", 16)+"\xff\xff\xff\xff"+strings.Repeat("\x0c", 12)),
		"pad of 0":       seal(b, strings.Repeat("\x00", 32)),
		"pad of 33":      seal(b, strings.Repeat("\x21", 64)),
	} {
		_, _, err := b.Decrypt(text)
		assert.Error(t, err, name)
	}
}

// seal encrypts blocks without padding them.
func seal(b *Box, blocks string) string {
	text := []byte(blocks)
	cipher.NewCBCEncrypter(b.block, b.key[:aes.BlockSize]).CryptBlocks(text, text)
	return base64.StdEncoding.EncodeToString(text)
}

func FuzzDecrypt(f *testing.F) {
	b := box(f, "token", sampleKey)
	f.Add(b.Encrypt([]byte("message"), "wx1"))
	f.Add("")
	f.Add(strings.Repeat("A", 88))
	f.Fuzz(func(t *testing.T, text string) {
		message, appID, err := b.Decrypt(text)
		if err != nil {
			return
		}
		again, to, err := b.Decrypt(b.Encrypt(message, appID))
		if err != nil || string(again) != string(message) || to != appID {
			t.Fatal(fmt.Sprint("not the same after a round trip: ", err))
		}
	})
}

func FuzzRoundTrip(f *testing.F) {
	b := box(f, "token", sampleKey)
	f.Add([]byte("message"), "wx1")
	f.Add([]byte{}, "")
	f.Fuzz(func(t *testing.T, message []byte, appID string) {
		got, to, err := b.Decrypt(b.Encrypt(message, appID))
		if err != nil || string(got) != string(message) || to != appID {
			t.Fatal("not the same after a round trip: ", err)
		}
	})
}
