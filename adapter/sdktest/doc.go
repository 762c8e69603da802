// Package sdktest holds no code: its tests run the real SDKs that package
// adapter is for, against a fake platform and in virtual time. It is a module of
// its own, so that they are no dependency of wxtoken.
package sdktest
