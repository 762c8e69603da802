package wxtoken

import (
	"context"
	"path/filepath"
	"time"

	"github.com/wxtoken/wxtoken/internal/filestore"
	"github.com/wxtoken/wxtoken/internal/store"
)

// A FileCache keeps each record as a file in a directory, for several processes
// on one machine that have no server to share: a web process and a cron job, or
// the workers of one host. It works on Linux, macOS and Windows. Make one with
// [NewFileCache]; the zero FileCache keeps nothing, and its methods return an error.
//
// All processes must run under one user, because files are created with mode 0600.
// The directory must be local: network file systems (NFS, SMB) are an error on Linux
// and must not be used elsewhere. Containers on one host can share it as a volume.
//
// A process that is killed leaves no lock behind. One that is stopped (SIGSTOP) in
// the middle of a write, which takes about 100 µs, blocks other writers until it
// continues or their ctx ends; readers are not blocked. A file that is incomplete, or
// was not written by a FileCache, is a miss and is overwritten. Records are not
// flushed to disk: after a power failure the latest ones can be missing or old, as in
// any cache. Records may be deleted at any time; delete files whose names end in
// .lock only while no process is running.
type FileCache struct{ dir filestore.Dir }

// NewFileCache returns a [Cache] that keeps its files in dir. The first write creates
// dir and its missing parents with mode 0700; an existing directory is used as it is.
// A relative dir is resolved when NewFileCache is called. It panics if dir is empty.
func NewFileCache(dir string) *FileCache {
	if dir == "" {
		panic("wxtoken: NewFileCache: dir is empty; pass a directory that stays, such as /var/lib/myapp/wxtoken")
	}
	if abs, err := filepath.Abs(dir); err == nil { // fails only if there is no working directory
		dir = abs
	}
	return &FileCache{filestore.Dir(dir)}
}

var errZeroFileCache = store.Own("wxtoken: this FileCache comes from no constructor; use NewFileCache(dir)")

// Get implements [Cache].
func (c *FileCache) Get(ctx context.Context, key string) ([]byte, error) {
	if c.dir == "" {
		return nil, errZeroFileCache
	}
	value, there, err := c.dir.Get(ctx, key)
	switch {
	case err != nil:
		return nil, store.Error("file", key, err)
	case !there:
		return nil, ErrCacheMiss
	}
	return value, nil
}

// CompareAndSwap implements [Cache]. An entry expires by the machine's clock.
func (c *FileCache) CompareAndSwap(ctx context.Context, key string, old, new []byte, ttl time.Duration) (bool, error) {
	if c.dir == "" {
		return false, errZeroFileCache
	}
	stored, err := c.dir.Swap(ctx, key, old, new, ttl)
	return stored, store.Error("file", key, err)
}
