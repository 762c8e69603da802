// Package filestore keeps values in the files of a directory, for processes on one
// machine: one file for each key, replaced by rename, and beside it a lock file that
// the system unlocks when a process ends.
package filestore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"time"

	"github.com/gofrs/flock"

	"github.com/wxtoken/wxtoken/internal/store"
)

// pause is the interval between attempts to take a lock, which is held much more
// briefly.
const pause = time.Millisecond

// maxFile limits what is read of a file that may be anything.
const maxFile = 1 << 20

// A Dir is the path of a directory that need not exist yet.
type Dir string

// Get returns the value of key, and whether there is one. It takes no lock, since
// files are replaced atomically.
func (d Dir) Get(ctx context.Context, key string) (value []byte, there bool, err error) {
	var file []byte
	err = retryBusy(ctx, func() error {
		file, err = read(d.path(key))
		return err
	})
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
		return nil, false, err
	}
	value, expires, whole := decode(file, key)
	return value, whole && time.Now().Before(expires), nil
}

// Swap stores new under key for ttl if the value there is old, or, if old is
// nil, if there is none.
func (d Dir) Swap(ctx context.Context, key string, old, new []byte, ttl time.Duration) (bool, error) {
	unlock, err := d.lock(ctx, d.path(key)+".lock")
	if err != nil {
		return false, err
	}
	defer unlock()
	value, there, err := d.Get(ctx, key)
	if err != nil || there != (old != nil) || there && !bytes.Equal(value, old) {
		return false, err
	}
	err = write(ctx, d.path(key), encode(key, new, time.Now().Add(ttl)))
	return err == nil, err
}

func (d Dir) path(key string) string { return filepath.Join(string(d), fileName(key)) }

// lock waits for the lock at path until ctx ends, and creates the directory if
// necessary. The lock file is not removed: another process may be about to lock it.
func (d Dir) lock(ctx context.Context, path string) (unlock func(), err error) {
	l := flock.New(path, flock.SetPermissions(0o600))
	_, err = l.TryLockContext(ctx, pause)
	if errors.Is(err, fs.ErrNotExist) {
		if err = os.MkdirAll(string(d), 0o700); err == nil {
			_, err = l.TryLockContext(ctx, pause)
		}
	}
	switch {
	case err != nil && errors.Is(err, ctx.Err()):
		return nil, fmt.Errorf("waiting for the lock of another process on %w", &fs.PathError{Op: "lock", Path: path, Err: err})
	case err != nil:
		return nil, err
	}
	unlock = func() { _ = l.Unlock() } // fails only if there is nothing to unlock
	if kind := networkKind(string(d)); kind != "" {
		unlock()
		return nil, store.Own(fmt.Sprintf("%s is on %s, whose locks and caches do not coordinate machines: use a local directory, or a server such as Redis", string(d), kind))
	}
	return unlock, nil
}

// read returns the content of a file, or nothing if it cannot be ours.
func read(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() { // opening a pipe would block
		return nil, &fs.PathError{Op: "read", Path: path, Err: errors.New("not a file")}
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxFile))
}

// write replaces the file at path, whose lock is held, so that the name of the new
// file can always be the same: a killed process leaves one file, which the next write
// removes.
//
// Nothing is flushed to disk. After a power failure no process is left that knows a
// newer record; an older record, or an incomplete file, causes one fetch. A flush
// takes seconds on a busy disk, and a swap has two.
func write(ctx context.Context, path string, content []byte) error {
	temporary := path + ".new"
	if err := os.Remove(temporary); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := os.OpenFile(temporary, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if closing := f.Close(); err == nil {
		err = closing
	}
	if err == nil {
		err = retryBusy(ctx, func() error { return os.Rename(temporary, path) })
	}
	if err != nil {
		_ = os.Remove(temporary) // on a full disk it takes up space
	}
	return err
}

// retryBusy repeats do, until ctx ends, while Windows fails to replace a file that a
// reader, or a virus scanner, has open for a moment.
func retryBusy(ctx context.Context, do func() error) error {
	const accessDenied, sharingViolation = syscall.Errno(5), syscall.Errno(32)
	for {
		err := do()
		if runtime.GOOS != "windows" || !errors.Is(err, accessDenied) && !errors.Is(err, sharingViolation) || ctx.Err() != nil {
			return err
		}
		time.Sleep(pause)
	}
}
