package filestore

import "syscall"

// networkKind names the network file system that dir is on; "" for any other and for
// an unknown one.
func networkKind(dir string) string {
	var fs syscall.Statfs_t
	if err := syscall.Statfs(dir, &fs); err != nil {
		return ""
	}
	return networkType(uint32(fs.Type)) // whose type differs between machines
}

// networkType names the types of linux/magic.h that belong to a network.
func networkType(magic uint32) string {
	switch magic {
	case 0x6969:
		return "NFS"
	case 0x517b, 0xff534d42, 0xfe534d42:
		return "SMB"
	}
	return ""
}
