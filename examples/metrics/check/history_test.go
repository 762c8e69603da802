package check

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/util/annotations"
	"github.com/stretchr/testify/require"
)

// A history is what a Prometheus has scraped from one process.
type history struct {
	series     map[string]*series
	start, end time.Time
}

type series struct {
	labels  labels.Labels
	samples []chunks.Sample
}

// scrape adds what g exposes now.
func (h *history) scrape(t *testing.T, g prometheus.Gatherer) {
	t.Helper()
	families, err := g.Gather()
	require.NoError(t, err)
	h.end = time.Now()
	if h.series == nil {
		h.series, h.start = map[string]*series{}, h.end
	}
	for _, family := range families {
		for _, m := range family.Metric {
			name := family.GetName()
			switch family.GetType() {
			case dto.MetricType_COUNTER:
				h.add(name, m, m.Counter.GetValue())
			case dto.MetricType_GAUGE:
				h.add(name, m, m.Gauge.GetValue())
			case dto.MetricType_HISTOGRAM:
				h.add(name+"_sum", m, m.Histogram.GetSampleSum())
				h.add(name+"_count", m, float64(m.Histogram.GetSampleCount()))
				for _, b := range m.Histogram.Bucket {
					h.add(name+"_bucket", m, float64(b.GetCumulativeCount()), "le", fmt.Sprint(b.GetUpperBound()))
				}
				h.add(name+"_bucket", m, float64(m.Histogram.GetSampleCount()), "le", "+Inf")
			default:
				require.Fail(t, "metric of an unexpected type", "%s: %s", name, family.GetType())
			}
		}
	}
}

func (h *history) add(name string, m *dto.Metric, value float64, more ...string) {
	all := append([]string{model.MetricNameLabel, name, "instance", "test:1", "job", "test"}, more...)
	for _, pair := range m.Label {
		all = append(all, pair.GetName(), pair.GetValue())
	}
	set := labels.FromStrings(all...)
	if h.series[set.String()] == nil {
		h.series[set.String()] = &series{labels: set}
	}
	s := h.series[set.String()]
	s.samples = append(s.samples, sample{h.end.UnixMilli(), value})
}

// query evaluates expr once a minute, over all of the history.
func (h *history) query(t *testing.T, expr string) promql.Matrix {
	t.Helper()
	engine := promql.NewEngine(promql.EngineOpts{
		MaxSamples: 10_000_000, Timeout: time.Minute, LookbackDelta: 5 * time.Minute, Parser: newParser(),
	})
	defer engine.Close()
	q, err := engine.NewRangeQuery(t.Context(), h, nil, expr, h.start, h.end, time.Minute)
	require.NoError(t, err, expr)
	defer q.Close()
	result := q.Exec(t.Context())
	require.NoError(t, result.Err, expr)
	matrix, err := result.Matrix()
	require.NoError(t, err, expr)
	return slices.Clone(matrix)
}

func newParser() parser.Parser { return parser.NewParser(parser.Options{}) }

// What follows lets Prometheus' engine read a history.

func (h *history) Querier(int64, int64) (storage.Querier, error) { return &querier{h: h}, nil }

type querier struct {
	storage.MockQuerier // for what the engine does not use
	h                   *history
}

func (q *querier) Select(_ context.Context, _ bool, _ *storage.SelectHints, matchers ...*labels.Matcher) storage.SeriesSet {
	set := &seriesSet{at: -1}
	for _, name := range slices.Sorted(maps.Keys(q.h.series)) {
		s := q.h.series[name]
		if !slices.ContainsFunc(matchers, func(m *labels.Matcher) bool { return !m.Matches(s.labels.Get(m.Name)) }) {
			set.found = append(set.found, storage.NewListSeries(s.labels, s.samples))
		}
	}
	return set
}

type seriesSet struct {
	found []storage.Series
	at    int
}

func (s *seriesSet) Next() bool                      { s.at++; return s.at < len(s.found) }
func (s *seriesSet) At() storage.Series              { return s.found[s.at] }
func (*seriesSet) Err() error                        { return nil }
func (*seriesSet) Warnings() annotations.Annotations { return nil }

type sample struct {
	t int64
	f float64
}

func (s sample) T() int64                      { return s.t }
func (s sample) ST() int64                     { return 0 }
func (s sample) F() float64                    { return s.f }
func (s sample) H() *histogram.Histogram       { return nil }
func (s sample) FH() *histogram.FloatHistogram { return nil }
func (s sample) Type() chunkenc.ValueType      { return chunkenc.ValFloat }
func (s sample) Copy() chunks.Sample           { return s }
