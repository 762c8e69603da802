package wxtoken_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/wxtoken/wxtoken"
)

func TestNewFileCache(t *testing.T) {
	assert.PanicsWithValue(t, "wxtoken: NewFileCache: the directory has no name; on Linux /var/lib/NAME or os.UserCacheDir's are good places",
		func() { wxtoken.NewFileCache("") })

	dir := t.TempDir()
	t.Chdir(dir)
	cache := wxtoken.NewFileCache("relative")
	t.Chdir(t.TempDir()) // a process that changes its directory keeps its cache
	mustSwap(t, cache, "key", nil, []byte("value"), time.Minute)
	assert.FileExists(t, filepath.Join(dir, "relative", "key-key"))
}

// The record is there for other processes, and its token in no error.
func TestFileCacheErrors(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	cache := wxtoken.NewFileCache(filepath.Join(file, "dir"))
	_, err := cache.CompareAndSwap(t.Context(), "key", nil, []byte("72_q3Nf"), time.Minute)
	assert.ErrorContains(t, err, `wxtoken: file, key "key": `)
	assert.ErrorContains(t, err, file)
	assert.NotErrorIs(t, err, wxtoken.ErrCacheMiss)
	assert.NotContains(t, err.Error(), "72_")
}
