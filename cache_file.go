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
// the workers of one host. It works on Linux, macOS and Windows.
//
// All processes must run under one user, as files are made with mode 0600. The
// directory must be local: network file systems (NFS, SMB) are refused on Linux,
// and elsewhere must not be used. Containers can share it as a volume of one
// host.
//
// A process that is killed leaves no lock behind. One that is stopped (SIGSTOP)
// in the middle of a write, which takes some 100 µs, blocks the writes of others
// until it goes on; they read on meanwhile, and fail when their ctx ends. A file
// that is not whole, or was not written by a FileCache, is a miss and is
// overwritten. Records are not flushed to the disk: after a power failure the
// last ones can be missing or old, as in a cache. It is safe to delete records;
// delete files whose names end in .lock only while nothing runs.
type FileCache struct{ dir filestore.Dir }

// NewFileCache returns a Cache that keeps its files in dir. When first written
// to, it makes dir and its missing parents, with mode 0700; one that exists is
// used as it is. A relative dir counts from the working directory of this
// moment. It panics if dir is empty.
func NewFileCache(dir string) *FileCache {
	if dir == "" {
		panic("wxtoken: NewFileCache: the directory has no name; on Linux /var/lib/NAME or os.UserCacheDir's are good places")
	}
	if abs, err := filepath.Abs(dir); err == nil { // fails only if there is no working directory
		dir = abs
	}
	return &FileCache{filestore.Dir(dir)}
}

// Get implements Cache.
func (c *FileCache) Get(ctx context.Context, key string) ([]byte, error) {
	value, there, err := c.dir.Get(ctx, key)
	switch {
	case err != nil:
		return nil, store.Error("file", key, err)
	case !there:
		return nil, ErrCacheMiss
	}
	return value, nil
}

// CompareAndSwap implements Cache. An entry expires by the machine's clock.
func (c *FileCache) CompareAndSwap(ctx context.Context, key string, old, new []byte, ttl time.Duration) (bool, error) {
	stored, err := c.dir.Swap(ctx, key, old, new, ttl)
	return stored, store.Error("file", key, err)
}
