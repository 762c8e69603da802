package filestore

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gofrs/flock"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func mustSwap(t *testing.T, d Dir, key string, old, new []byte) {
	t.Helper()
	stored, err := d.Swap(t.Context(), key, old, new, time.Minute)
	require.NoError(t, err)
	require.True(t, stored)
}

func mustHold(t *testing.T, d Dir, key, want string) {
	t.Helper()
	value, there, err := d.Get(t.Context(), key)
	require.NoError(t, err)
	require.True(t, there)
	require.Equal(t, want, string(value))
}

// Different keys have different files on every file system, and no name can leave the
// directory, be reserved by a system, or be too long.
func TestFileNames(t *testing.T) {
	keys := []string{
		"wxtoken:token:wx1", "wxtoken:token:WX1", "WXTOKEN:token:wx1", "wxtoken%3atoken%3awx1", "wxtoken%3Atoken%3Awx1",
		"../escape", "..", ".", "/etc/passwd", `..\escape`, "C:", "a/b", "a\\b", "a|b", "a*b?", "<a>",
		"con", "nul", "aux.txt", "com1", "a.", "a..", "-", "key-a", "a.lock", "a.new", "a",
		"é", "e\u0301", "É", "\xff", "\xfe", "中文", "中国",
		strings.Repeat("k", 250), strings.Repeat("k", 249) + "l", strings.Repeat("k", 249), strings.Repeat("K", 250), strings.Repeat("中", 83),
		"sha256-" + strings.Repeat("0", 64),
	}
	names := make(map[string]string)
	for _, key := range keys {
		for _, suffix := range []string{"", ".lock", ".new"} {
			file := fileName(key) + suffix
			name := strings.ToLower(file)
			assert.Empty(t, names[name], "%q and %q have one file", key, names[name])
			names[name] = key
			if suffix == "" {
				continue
			}
			assert.LessOrEqual(t, len(file), 255)
			assert.Equal(t, file, filepath.Base(file))
			assert.Regexp(t, `^(key-[a-z0-9_%-]*|sha256-[0-9a-f]{64})\.(lock|new)$`, file)
		}
	}
	assert.Equal(t, "key-wxtoken%3atoken%3awx1", fileName("wxtoken:token:wx1"))
	assert.Len(t, fileName(strings.Repeat("k", 196)), 200)
	assert.Regexp(t, "^sha256-", fileName(strings.Repeat("k", 197)))
}

// A file that is truncated, changed anywhere, of another key, or not ours at all is a
// miss, and the next write overwrites it.
func TestDamagedFilesAreMisses(t *testing.T) {
	d, key := Dir(t.TempDir()), "wxtoken:token:wx1"
	mustSwap(t, d, key, nil, []byte("value"))
	whole, err := os.ReadFile(d.path(key))
	require.NoError(t, err)
	mustSwap(t, d, "other", nil, []byte("value"))
	other, err := os.ReadFile(d.path("other"))
	require.NoError(t, err)

	files := [][]byte{
		other, append(bytes.Clone(whole), 'x'), bytes.Repeat([]byte("x"), 2*maxFile), bytes.ToUpper(whole),
		[]byte("wxtoken 1 \n"), []byte("wxtoken 2 1795000000000000000 00\nkey\nvalue"), []byte(strings.Repeat("9", 1000)), {0},
	}
	for i := range whole {
		files = append(files, whole[:i])
		changed := bytes.Clone(whole)
		changed[i] ^= 0x10
		files = append(files, changed)
	}
	for _, file := range files {
		require.NoError(t, os.WriteFile(d.path(key), file, 0o600))
		_, there, err := d.Get(t.Context(), key)
		require.NoError(t, err)
		require.False(t, there, "%q", file[:min(len(file), 200)])
	}
	mustSwap(t, d, key, nil, []byte("new"))
	mustHold(t, d, key, "new")
}

// Anything but a regular file is an error, without blocking, and is left alone.
func TestNotAFile(t *testing.T) {
	d := Dir(t.TempDir())
	require.NoError(t, os.MkdirAll(filepath.Join(d.path("directory"), "full"), 0o700))
	keys := []string{"directory"}
	if runtime.GOOS != "windows" {
		makePipe(t, d.path("pipe"))
		keys = append(keys, "pipe")
	}
	for _, key := range keys {
		_, there, err := d.Get(t.Context(), key)
		assert.ErrorContains(t, err, "not a file")
		assert.False(t, there)
		_, err = d.Swap(t.Context(), key, nil, []byte("new"), time.Minute)
		assert.ErrorContains(t, err, "not a file")
	}
}

func TestExpiry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := Dir(t.TempDir())
		for _, ttl := range []time.Duration{1, time.Second, 3 * time.Hour} {
			stored, err := d.Swap(t.Context(), "key", nil, []byte("value"), ttl)
			require.NoError(t, err)
			require.True(t, stored, "expired means absent")
			time.Sleep(ttl - 1)
			mustHold(t, d, "key", "value")
			time.Sleep(time.Nanosecond)
			_, there, err := d.Get(t.Context(), "key")
			require.NoError(t, err)
			require.False(t, there)
			stored, err = d.Swap(t.Context(), "key", []byte("value"), nil, ttl)
			require.NoError(t, err)
			require.False(t, stored)
		}
	})
}

func TestModes(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("Windows has other permissions")
	}
	there := filepath.Join(t.TempDir(), "there")
	require.NoError(t, os.Mkdir(there, 0o755))
	require.NoError(t, os.Chmod(there, 0o751))
	d := Dir(filepath.Join(there, "made", "too"))
	_, found, err := d.Get(t.Context(), "key")
	require.NoError(t, err)
	require.False(t, found)
	require.NoDirExists(t, string(d), "a read creates nothing")
	mustSwap(t, d, "key", nil, []byte("value"))
	for path, want := range map[string]fs.FileMode{
		there: 0o751, filepath.Join(there, "made"): 0o700, string(d): 0o700, d.path("key"): 0o600, d.path("key") + ".lock": 0o600,
	} {
		info, err := os.Stat(path)
		require.NoError(t, err)
		assert.Equal(t, want, info.Mode().Perm(), path)
	}
	require.NoError(t, os.RemoveAll(string(d))) // as by a cleanup job
	mustSwap(t, d, "key", nil, []byte("value"))
}

// While another process has the lock, a write ends with its ctx, and reads are not
// blocked.
func TestAnotherProcessHasTheLock(t *testing.T) {
	d := Dir(t.TempDir())
	mustSwap(t, d, "key", nil, []byte("value"))
	lock := flock.New(d.path("key") + ".lock")
	require.NoError(t, lock.Lock())
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := d.Swap(ctx, "key", []byte("value"), nil, time.Minute)
	assert.ErrorIs(t, err, context.DeadlineExceeded)
	assert.ErrorContains(t, err, "waiting for the lock of another process on lock "+d.path("key")+".lock")
	mustHold(t, d, "key", "value")
	mustSwap(t, d, "another key", nil, []byte("value"))

	require.NoError(t, lock.Unlock())
	mustSwap(t, d, "key", []byte("value"), nil)
}

// However often writers are killed, each key has at most three files.
func TestFilesDoNotPileUp(t *testing.T) {
	d := Dir(t.TempDir())
	var old []byte
	for i := range 50 {
		value := fmt.Append(nil, i)
		mustSwap(t, d, "key", old, value)
		old = value
		require.NoError(t, os.WriteFile(d.path("key")+".new", []byte("half"), 0o600)) // as a killed writer leaves it
	}
	mustSwap(t, d, "last", nil, nil)
	entries, err := os.ReadDir(string(d))
	require.NoError(t, err)
	assert.LessOrEqual(t, len(entries), 3+2)
}

// An unusable directory is reported, and stored values stay.
func TestUnusableDirectories(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	d := Dir(filepath.Join(file, "dir"))
	_, err := d.Swap(t.Context(), "key", nil, []byte("value"), time.Minute)
	var path *fs.PathError
	require.ErrorAs(t, err, &path)
	assert.Contains(t, path.Path, file)
	if runtime.GOOS != "windows" {
		_, _, err = d.Get(t.Context(), "key")
		assert.ErrorContains(t, err, "not a directory")
	}
}

// On Windows, replacing a file that a reader has open fails for a moment; other
// errors are returned at once.
func TestRetryBusy(t *testing.T) {
	calls := 0
	err := retryBusy(t.Context(), func() error { calls++; return fs.ErrPermission })
	assert.Equal(t, fs.ErrPermission, err)
	assert.Equal(t, 1, calls)
}

func FuzzDecode(f *testing.F) {
	expires := time.Unix(0, 1795000000000000000)
	f.Add(encode("key", []byte("value"), expires), "key")
	f.Add([]byte("wxtoken 1 -1 \nkey\n"), "key")
	f.Add([]byte{}, "\n")
	f.Fuzz(func(t *testing.T, file []byte, key string) {
		value, at, whole := decode(file, key)
		if whole {
			require.Equal(t, file, encode(key, value, at))
		}
		got, at, whole := decode(encode(key, file, expires), key)
		require.True(t, whole)
		require.Equal(t, expires.UnixNano(), at.UnixNano())
		require.Equal(t, append([]byte{}, file...), append([]byte{}, got...))
		_, _, whole = decode(encode(key+"x", file, expires), key)
		require.False(t, whole)
	})
}
