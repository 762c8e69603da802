package cachetest

import (
	"bytes"
	"math/rand/v2"
	"strings"
)

func checkMiss(t tester) {
	key := t.newKey()
	t.wantMiss(key)
	t.wantNoSwap(key, []byte("old"), []byte("new"))
	t.wantMiss(key)
}

func checkSwap(t tester) {
	key := t.newKey()
	one, two := []byte("one"), []byte("two")
	t.wantStored(key, nil, one)
	t.wantValue(key, one)
	for _, wrong := range []string{"", "on", "one ", "ONE", "one\x00", "two"} {
		t.wantNoSwap(key, []byte(wrong), two)
	}
	t.wantNoSwap(key, nil, two)
	t.wantStored(key, one, two)
	t.wantValue(key, two)
	t.wantNoSwap(key, one, one)
	t.wantStored(key, two, two) // as a new ttl does
	t.wantStored(key, two, one)
	t.wantValue(key, one)
}

// An empty value is a value: a key that holds it is not absent.
func checkEmptyValue(t tester) {
	key, empty := t.newKey(), []byte{}
	t.wantNoSwap(key, empty, []byte("v"))
	t.wantStored(key, nil, empty)
	t.wantValue(key, empty)
	t.wantNoSwap(key, nil, []byte("v"))
	got, _ := t.get(key)
	if got == nil {
		t.Errorf("Get of an empty value returned nil, which as CompareAndSwap's old would mean that the key is absent")
	}
	t.wantStored(key, got, []byte("v"))
	t.wantStored(key, []byte("v"), nil) // nil new stores no bytes, too
	t.wantValue(key, empty)
}

func checkAnyBytes(t tester) {
	all := make([]byte, 256)
	for i := range all {
		all[i] = byte(i)
	}
	key := t.newKey()
	var old []byte
	for _, value := range [][]byte{
		all,
		[]byte("\x00"),
		[]byte("\x00\x00"),
		[]byte("\r\n"),
		[]byte("END\r\nSTORED\r\n"),
		[]byte("+OK\r\n$-1\r\n"),
		[]byte("0"),
		[]byte("00"),
		[]byte("1e0"),
		[]byte("nil"),
		[]byte("false"),
		[]byte(" "),
		[]byte(`{"a":"中文"}`),
		[]byte("\xff\xfe\x80 not utf-8"),
	} {
		t.wantStored(key, old, value)
		t.wantValue(key, value)
		t.wantNoSwap(key, old, []byte("x"))
		old = value
	}
}

// checkSizes replaces a small value by larger and larger ones, and each of those by
// the small one again. A lease takes about 300 bytes, a record with a token up to 16
// KiB, and an encrypted one up to 24 KiB: with a store that keeps the lease and loses
// the token, every fetched token would be lost.
func checkSizes(t tester) {
	const limit = 32 << 10
	random := rand.NewChaCha8([32]byte{1})
	key, small := t.newKey(), []byte("a lease")
	t.wantStored(key, nil, small)
	for _, size := range []int{255, 256, 257, 300, 1000, 1 << 10, 4000, 4<<10 + 1, 8 << 10, 8<<10 + 1, 16 << 10, 24 << 10, limit} {
		value := make([]byte, size)
		_, _ = random.Read(value)
		t.wantSize(key, small, value)
		almost := bytes.Clone(value)
		almost[size-1] ^= 1
		t.wantNoSwap(key, almost, small)
		t.wantNoSwap(key, value[:size-1], small)
		t.wantStored(key, value, small)
		t.wantValue(key, small)
	}
	value := make([]byte, limit)
	_, _ = random.Read(value)
	t.wantSize(t.newKey(), nil, value) // it need not start small
}

// wantSize expects a swap to store new, and reports how its size is not supported.
func (t tester) wantSize(key string, old, new []byte) {
	t.Helper()
	stored, err := t.cache.CompareAndSwap(t.Context(), key, old, new, long)
	if err != nil {
		t.Fatalf("CompareAndSwap failed to store %d bytes: %v", len(new), err)
	}
	if !stored {
		t.Fatalf("CompareAndSwap reported false for %d bytes, though old was there", len(new))
	}
	switch got, there := t.get(key); {
	case !there:
		t.Fatalf("CompareAndSwap reported that it stored %d bytes, but Get is a miss", len(new))
	case string(got) == string(old):
		t.Fatalf("CompareAndSwap reported that it stored %d bytes, but the previous value is still there", len(new))
	case string(got) != string(new):
		t.Fatalf("CompareAndSwap reported that it stored %d bytes, but Get returned %d others", len(new), len(got))
	}
}

// Stored values change only through CompareAndSwap, never through a slice.
func checkIsolation(t tester) {
	key := t.newKey()
	passed := []byte("value")
	t.wantStored(key, nil, passed)
	passed[0] = 'X'
	t.wantValue(key, []byte("value"))
	got, _ := t.get(key)
	got[0] = 'X'
	t.wantValue(key, []byte("value"))

	old := []byte("value")
	t.wantStored(key, old, []byte("other"))
	if string(old) != "value" {
		t.Errorf("CompareAndSwap changed old to %s", show(old))
	}
}

func checkKeysApart(t tester) {
	key := t.newKey()
	keys := []string{
		key, strings.ToLower(key), key + ":", key + "0", key[:len(key)-1],
		key + "\u00e9", key + "e\u0301", key + "%20", key + "+",
	}
	for _, k := range keys {
		t.wantStored(k, nil, []byte(k))
	}
	for _, k := range keys {
		t.wantValue(k, []byte(k))
	}
}

// Keys of the maximum length must work, and two of them may differ only in the last
// byte.
func checkLongestKey(t tester) {
	key := t.newKey()
	key += strings.Repeat("k", 249-len(key))
	for _, last := range []string{"1", "2"} {
		t.wantMiss(key + last)
		t.wantStored(key+last, nil, []byte(last))
	}
	t.wantValue(key+"1", []byte("1"))
	t.wantStored(key+"1", []byte("1"), []byte("changed"))
	t.wantValue(key+"2", []byte("2"))
}
