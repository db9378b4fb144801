package main

import (
	"strings"
	"testing"
	"time"

	"holdfast/test/lab"
	"holdfast/test/lab/scenario"
)

func TestQuantile(t *testing.T) {
	values := []float64{5, 1, 4, 2, 3}
	for q, want := range map[float64]float64{0: 1, 0.5: 3, 0.99: 5, 1: 5} {
		if got := quantile(values, q); got != want {
			t.Errorf("quantile %v is %v, want %v", q, got, want)
		}
	}
	if quantile(nil, 0.5) != 0 {
		t.Error("no values have a median")
	}
}

func TestParseUsage(t *testing.T) {
	stat := "42 (a ) b) S 1 42 42 0 -1 4194560 100 0 0 0 123 45 0 0 0 -20 9 0 1 2 3"
	status := "Name:\ta\nVmHWM:\t  2048 kB\nVmRSS:\t  1024 kB\n"
	got, err := parseUsage(strings.Replace(stat, "a ) b", "a b", 1), status)
	if want := (usage{cpu: 1680 * time.Millisecond, rss: 1024, hwm: 2048}); err != nil || got != want {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
	if _, err := parseUsage("42 (a) S 1", status); err == nil {
		t.Error("a cut line is accepted")
	}
}

func TestFaultTable(t *testing.T) {
	var out strings.Builder
	r := &report{out: &out}
	sc := scenario.PowerOff()
	r.faultTable([]scenario.Scenario{sc, scenario.Move()}, map[string][]scenario.Row{sc.Name: {
		{GapMS: 900, PromiseGapMS: 1250, OK: true}, {GapMS: 1300, PromiseGapMS: 1250}, {GapMS: 1000, PromiseGapMS: 1250, OK: true, OverlapMS: 0.2},
	}})
	want := "| power-off of the holder's host | 1000 / 1300 | <= 1250 | 0 / 0 | 0 / 0.2 | 0 | 0 / 0 | 0 / 0 | 2 of 3 |\n"
	if !strings.HasSuffix(out.String(), want) {
		t.Errorf("the table ends differently:\n%swant\n%s", out.String(), want)
	}
	if strings.Contains(out.String(), scenario.Move().Title) {
		t.Error("a fault that was not measured has a row")
	}
}

func TestManyFile(t *testing.T) {
	addresses := manyAddresses()
	seen := make(map[string]bool)
	for _, a := range addresses {
		seen[a.String()] = true
	}
	if len(addresses) != 1000 || len(seen) != 1000 {
		t.Errorf("%d addresses, %d different ones", len(addresses), len(seen))
	}
	text := manyFile([]*lab.Host{{Name: "host1"}})
	if n := strings.Count(text, "- name:"); n != manySets {
		t.Errorf("%d sets", n)
	}
}
