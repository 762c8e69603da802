// Package check holds the tests of alerts.yml and dashboard.json. They are a
// module of their own because they evaluate both with Prometheus' own engine,
// which nobody who copies the metrics should have to download.
package check
