//go:build race

package main

const apps = 1_000 // which the race detector makes as slow as ten thousand; `make test` has those without it
