package main

import (
	"errors"
	"flag"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"holdfast/test/lab"
	"holdfast/test/lab/scenario"
)

func TestTable(t *testing.T) {
	var out strings.Builder
	writeTable(&out, []scenario.Row{
		{Title: "power-off", GapMS: 1043.4, TakeoverMS: 1041, PromiseGapMS: 1250, PromiseTakeover: true, From: "host1", To: "host2", StallMS: 3.25, OK: true},
		{Title: "restart", From: "host2", To: "host2", OverlapMS: 12.5, StallMS: 0.04},
		{Title: "loss", GapMS: 80, PromiseGapMS: -1, From: "host2", To: "host2", OK: true},
	})
	want := `
FAULT      GAP      PROMISED    OVERLAP  PROMISED  TAKEOVER  FROM -> TO      STALL   
power-off  1043 ms  <= 1250 ms  0 ms     0         1041 ms   host1 -> host2  3.2 ms  ok
restart    0 ms     0           12 ms    0         0 ms      host2 stays     0 ms    NOT AS PROMISED
loss       80 ms    -           0 ms     0         0 ms      host2 stays     0 ms    ok
`
	if diff := cmp.Diff(strings.TrimPrefix(want, "\n"), out.String()); diff != "" {
		t.Error(diff)
	}
}

func TestCells(t *testing.T) {
	const ms = lab.Time(1e6)
	answers := func(client, host string, from, to lab.Time) (list []lab.Answer) {
		for at := from; at < to; at += 2 * ms {
			list = append(list, lab.Answer{Client: client, Host: host, Accepted: at, Received: at})
		}
		return list
	}
	for name, tt := range map[string]struct {
		answers []lab.Answer
		want    string
	}{
		"nobody":             {nil, "."},
		"one host":           {answers("c", "host1", 0, 100*ms), "1"},
		"another's answers":  {answers("d", "host1", 0, 100*ms), "."},
		"a change":           {append(answers("c", "host1", 0, 50*ms), answers("c", "host3", 52*ms, 100*ms)...), "3"},
		"a change with hole": {append(answers("c", "host1", 0, 20*ms), answers("c", "host3", 80*ms, 100*ms)...), ":"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := answerCell(lab.Observations{From: 0, To: 100 * ms, Answers: tt.answers}, "c"); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
	if got := holderCell(nil) + holderCell([]string{"host2"}) + holderCell([]string{"host1", "host2"}); got != ".2!" {
		t.Errorf("holder cells are %q", got)
	}
}

func TestFlags(t *testing.T) {
	if _, err := parse([]string{"--help"}); !errors.Is(err, flag.ErrHelp) {
		t.Errorf("--help: %v", err)
	}
	if _, err := parse([]string{"--bin", t.TempDir()}); err == nil || !strings.Contains(err.Error(), "make build") {
		t.Errorf("a directory without programs: %v", err)
	}
	if _, err := parse([]string{"power-off"}); err == nil {
		t.Error("an argument that is no flag is accepted")
	}
	if s, err := choose("drain, freeze"); err != nil || len(s) != 2 || s[1].Name != "freeze" {
		t.Errorf("--only: %v, %v", s, err)
	}
	if _, err := choose("earthquake"); err == nil {
		t.Error("an unknown scenario is accepted")
	}
	names := make(map[string]bool)
	for _, s := range scenario.All() {
		if names[s.Name] || s.Promise == nil || s.Fault == nil || s.Title == "" {
			t.Errorf("scenario %+v", s)
		}
		names[s.Name] = true
	}
}
