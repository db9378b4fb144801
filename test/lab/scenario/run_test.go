package scenario

import (
	"strings"
	"testing"

	"holdfast/test/lab"
)

func TestRowIsHeldToItsPromise(t *testing.T) {
	takeover := Row{From: "h1", To: "h2", Lost: 500, GapMS: 1200, PromiseGapMS: 1250, PromiseTakeover: true}
	with := func(change func(*Row)) Row {
		r := takeover
		change(&r)
		return r
	}
	for name, tt := range map[string]struct {
		row  Row
		open bool
		why  string
	}{
		"as promised":               {row: takeover},
		"late":                      {row: with(func(r *Row) { r.GapMS = 1251 }), why: "gap 1251 ms"},
		"late by the own stall":     {row: with(func(r *Row) { r.GapMS, r.GapStallMS = 1260, 10 })},
		"later than the own stall":  {row: with(func(r *Row) { r.GapMS, r.GapStallMS = 1261, 10 }), why: "own stall 10 ms"},
		"both have it":              {row: with(func(r *Row) { r.OverlapMS = 3 }), why: "overlap 3.0 ms"},
		"a stall excuses none":      {row: with(func(r *Row) { r.OverlapMS, r.OverlapStallMS = 3, 3 }), why: "overlap 3.0 ms"},
		"as far as two stamps go":   {row: with(func(r *Row) { r.OverlapMS = 0.09 })},
		"in both tables":            {row: with(func(r *Row) { r.KernelOverlapMS = 3 }), why: "3.0 ms in the tables"},
		"in both, by the own stall": {row: with(func(r *Row) { r.KernelOverlapMS, r.OverlapStallMS = 3, 3 })},
		"in both, as promised":      {row: with(func(r *Row) { r.KernelOverlapMS, r.PromiseTableMS = 3, 4 })},
		"took over, or stayed":      {row: Row{From: "h1", To: "h2", Anywhere: true}},
		"nobody took over":          {row: with(func(r *Row) { r.To = "h1" }), why: "takeover false"},
		"took over without a cause": {row: Row{From: "h1", To: "h2"}, why: "takeover true"},
		"one lost probe":            {row: Row{From: "h1", To: "h1", Lost: 1, GapMS: 4}, why: "gap 4 ms"},
		"gap not promised":          {row: Row{From: "h1", To: "h1", Lost: 1, GapMS: 400, PromiseGapMS: -1}, open: true},
		"no answer to the end":      {row: takeover, open: true, why: "no answer to the end"},
	} {
		t.Run(name, func(t *testing.T) {
			tt.row.judge(lab.Gap{Open: tt.open})
			if tt.row.OK != (tt.why == "") || !strings.Contains(tt.row.Why, tt.why) {
				t.Errorf("ok %t, %q; want %q", tt.row.OK, tt.row.Why, tt.why)
			}
		})
	}
}

func TestFirstOther(t *testing.T) {
	clients := []*lab.Host{{Name: "c2"}}
	answers := []lab.Answer{
		{Client: "c2", Host: "h1", Received: 1}, {Client: "c1", Host: "h2", Received: 2},
		{Client: "c2", Host: "h2", Received: 5}, {Client: "c2", Host: "h3", Received: 4},
	}
	if a, ok := firstOther(answers, "h1", clients); !ok || a.Host != "h3" {
		t.Errorf("got %+v, %t", a, ok)
	}
	if a, ok := firstOther(answers[:2], "h1", clients); ok {
		t.Errorf("got %+v from a client that does not count", a)
	}
}

// Every scenario has a promise that fits its TTL.
func TestPromises(t *testing.T) {
	if got := PowerOff().Promise(QuickProfile).Gap; got.Milliseconds() != 700 {
		t.Errorf("the quick profile promises %v", got)
	}
	for _, name := range []string{"power-off", "random-loss", "quorum-lost"} {
		if _, ok := ByName(name); !ok {
			t.Errorf("no scenario %s", name)
		}
	}
	if _, ok := ByName("earthquake"); ok {
		t.Error("a scenario that is none")
	}
}
