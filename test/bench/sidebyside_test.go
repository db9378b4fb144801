package main

import (
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/test/lab/scenario"
)

const (
	slowPeer  = "keepalived, VRRPv2, 1 s"
	quickPeer = "keepalived, VRRPv3, 100 ms"
	slow      = "Holdfast, TTL 1 s"
	quick     = "Holdfast, TTL 500 ms"
)

// asPromised are outcomes in which everything holds.
func asPromised() outcomes {
	got := make(outcomes)
	for name, gap := range map[string]float64{slowPeer: 3500, quickPeer: 350, slow: 1000, quick: 500} {
		got.add(name, scenario.Row{Scenario: "power-off", GapMS: gap})
		kill := scenario.Row{Scenario: "kill-all"}
		kill.KernelOverlapMS = 300
		if strings.HasPrefix(name, "keepalived") {
			kill.BothMS = 3000
		}
		got.add(name, kill)
	}
	return got
}

func TestCheckSideBySide(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(outcomes)
		want   []string // the beginning of each complaint
	}{
		"as promised":            {func(outcomes) {}, nil},
		"an address table alone": {func(o outcomes) { o["kill-all"][slow][0].KernelOverlapMS = 900 }, nil},
		"late beside 1 s": {func(o outcomes) { o["power-off"][slow][0].GapMS = 1300 },
			[]string{slow + ": outage at power-off 0.37", slow + ": outage at power-off 0.37"}},
		"late once": {func(o outcomes) {
			o["power-off"][slow] = append(o["power-off"][slow], o["power-off"][slow][0], scenario.Row{GapMS: 1300})
		}, []string{slow + ": outage at power-off 0.37"}},
		"late beside 100 ms": {func(o outcomes) { o["power-off"][quick][0].GapMS = 800 },
			[]string{quick + ": outage at power-off 2.29", quick + ": outage at power-off 2.29"}},
		"a client is answered by two": {func(o outcomes) { o["kill-all"][quick][0].AnswersOverlapMS = 0.4 },
			[]string{quick + ", kill-all: overlap 0.4 ms"}},
		"one late packet": {func(o outcomes) { o["kill-all"][slow][0].WireOverlapMS = 13 },
			[]string{slow + ", kill-all: overlap 13 ms"}},
		"a stranger hears two": {func(o outcomes) { o["kill-all"][slow][0].BothMS = 7 },
			[]string{slow + ", kill-all: overlap 7.0 ms"}},
		"judges that see nothing": {func(o outcomes) {
			o["kill-all"][slowPeer][0].BothMS, o["kill-all"][quickPeer][0].BothMS = 0, 0
		},
			[]string{"keepalived's longest overlap is 0 ms"}},
		"no power-off": {func(o outcomes) { delete(o, "power-off") },
			[]string{slow + ": no outage", slow + ": no outage", quick + ": no outage", quick + ": no outage"}},
	} {
		t.Run(name, func(t *testing.T) {
			got := asPromised()
			tt.change(got)
			broken := checkSideBySide(got)
			if !slices.EqualFunc(broken, tt.want, strings.HasPrefix) {
				t.Errorf("got %q, want %q", broken, tt.want)
			}
		})
	}
}

func TestSideTable(t *testing.T) {
	var out strings.Builder
	r := &report{out: &out}
	got := asPromised()
	got.add(slowPeer, scenario.Row{Scenario: "cut-in", GapMS: 6400, Open: true})
	got.add(slow, scenario.Row{Scenario: "cut-in", GapMS: 1080, GapStallMS: 7})
	got.add(slowPeer, scenario.Row{Scenario: "sigterm", GapMS: 361, GapStallMS: 346, Open: true}) // that was the machine
	got.add(slow, scenario.Row{Scenario: "sigterm", GapMS: 5})
	r.sideTable(scenario.Compared(time.Second), got)
	for _, line := range []string{
		"| power-off of the holder's host | keepalived, VRRPv2, 1 s | 3500 / 3500 | 0 / 0 |  | 0 / 0 | 0 / 0 | 0 / 0 |\n",
		"|  | Holdfast, TTL 1 s | 1000 / 1000 | 0 / 0 | 0.29 / 0.29 | 0 / 0 | 0 / 0 | 0 / 0 |\n",
		"|  | keepalived, VRRPv3, 100 ms | 0 / 0 | 0 / 0 |  | 3000 / 3000 | 0 / 0 | 300 / 300 |\n",
		"| holder's incoming packets lost | keepalived, VRRPv2, 1 s | > 6400 / 6400 | 0 / 0 |  | 0 / 0 | 0 / 0 | 0 / 0 |\n",
		"|  | Holdfast, TTL 1 s | 1080 / 1080 | 7.0 / 7.0 | < 0.17 / 0.17 | 0 / 0 | 0 / 0 | 0 / 0 |\n",
		"| agent stopped (SIGTERM) | keepalived, VRRPv2, 1 s | 361 / 361 | 346 / 346 |  | 0 / 0 | 0 / 0 | 0 / 0 |\n",
		"|  | Holdfast, TTL 1 s | 5.0 / 5.0 | 0 / 0 |  | 0 / 0 | 0 / 0 | 0 / 0 |\n",
	} {
		if !strings.Contains(out.String(), line) {
			t.Errorf("no line\n%sin\n%s", line, out.String())
		}
	}
	if strings.Contains(out.String(), scenario.CutOut().Title) {
		t.Error("a fault that was not measured has a row")
	}
}
