// Package sdktest has no code: its tests run the real SDKs that package adapter is
// for, against a fake platform and in virtual time. It is a separate module, so that
// the SDKs are not dependencies of wxtoken.
package sdktest
