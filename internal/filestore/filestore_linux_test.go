package filestore

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// mount mounts a small file system in memory until the end of the test.
func mount(t *testing.T, options string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, options); err != nil {
		t.Skipf("only root can mount: %v", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
	return dir
}

// A full disk is an error that says so; stored values stay, and failed writes leave
// nothing behind.
func TestFullDisk(t *testing.T) {
	dir := mount(t, "size=64k,nr_inodes=16")
	d := Dir(dir)
	mustSwap(t, d, "key", nil, []byte("value"))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "filler"), make([]byte, 48<<10), 0o600))
	_, err := d.Swap(t.Context(), "key", []byte("value"), []byte(strings.Repeat("v", 20<<10)), time.Minute)
	assert.ErrorIs(t, err, syscall.ENOSPC)
	assert.NoFileExists(t, d.path("key")+".new")
	mustHold(t, d, "key", "value")
	require.NoError(t, os.Remove(filepath.Join(dir, "filler")))
	mustSwap(t, d, "key", []byte("value"), []byte(strings.Repeat("v", 20<<10)))
}

func TestReadOnlyDisk(t *testing.T) {
	dir := mount(t, "size=64k")
	d := Dir(dir)
	mustSwap(t, d, "key", nil, []byte("value"))
	require.NoError(t, syscall.Mount("", dir, "", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""))
	_, err := d.Swap(t.Context(), "key", []byte("value"), nil, time.Minute)
	assert.ErrorIs(t, err, syscall.EROFS)
	_, err = d.Swap(t.Context(), "new", nil, nil, time.Minute)
	assert.ErrorIs(t, err, syscall.EROFS)
	mustHold(t, d, "key", "value")
}

func TestNetworkFileSystems(t *testing.T) {
	for magic, want := range map[uint32]string{
		0x6969: "NFS", 0xff534d42: "SMB", 0xfe534d42: "SMB", 0x517b: "SMB", 0xef53: "", 0x01021994: "", 0x794c7630: "",
	} {
		assert.Equal(t, want, networkType(magic))
	}
	assert.Empty(t, networkKind(t.TempDir()))
	assert.Empty(t, networkKind("/no/such/directory"))
}
