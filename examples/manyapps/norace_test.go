//go:build !race

package main

const apps = 10_000
