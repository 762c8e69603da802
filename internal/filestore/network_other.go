//go:build !linux

package filestore

// networkKind returns "": it is supported only on Linux.
func networkKind(string) string { return "" }
