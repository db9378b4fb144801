package lab

import (
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// said makes an advertisement with an interval of 100 ms.
func said(at time.Duration, host string, priority uint8) Advert {
	return Advert{
		At: Time(at), Host: host, Source: netip.MustParseAddr("10.77.0.11"), Version: 3, VRID: 51, Priority: priority, Interval: 100 * time.Millisecond,
	}
}

func TestTenures(t *testing.T) {
	const x = time.Millisecond
	router := VirtualRouter{VRID: 51}
	type change struct {
		from, to string
		length   time.Duration
	}
	for _, tt := range []struct {
		name    string
		adverts []Advert
		tenures []Tenure
		changes []change
		shared  time.Duration
	}{
		{
			name:    "death",
			adverts: []Advert{said(100*x, "a", 150), said(200*x, "a", 150), said(560*x, "b", 100), said(660*x, "b", 100)},
			tenures: []Tenure{
				{Host: "a", Router: router, Priority: 150, From: Time(100 * x), To: Time(200 * x), Count: 2},
				{Host: "b", Router: router, Priority: 100, From: Time(560 * x), To: Time(660 * x), Count: 2},
			},
			changes: []change{{"a", "b", 360 * x}},
		},
		{
			name:    "farewell",
			adverts: []Advert{said(100*x, "a", 150), said(130*x, "a", 0), said(190*x, "b", 100)},
			tenures: []Tenure{
				{Host: "a", Router: router, Priority: 150, From: Time(100 * x), To: Time(130 * x), Count: 1, Farewell: true},
				{Host: "b", Router: router, Priority: 100, From: Time(190 * x), To: Time(190 * x), Count: 1},
			},
			changes: []change{{"a", "b", 60 * x}},
		},
		{
			name: "preempted, and back at once",
			adverts: []Advert{
				said(100*x, "b", 100), said(150*x, "a", 150), said(160*x, "a", 0), said(220*x, "b", 100),
			},
			tenures: []Tenure{
				{Host: "b", Router: router, Priority: 100, From: Time(100 * x), To: Time(100 * x), Count: 1},
				{Host: "a", Router: router, Priority: 150, From: Time(150 * x), To: Time(160 * x), Count: 1, Farewell: true},
				{Host: "b", Router: router, Priority: 100, From: Time(220 * x), To: Time(220 * x), Count: 1},
			},
			changes: []change{{"b", "a", 50 * x}, {"a", "b", 60 * x}},
		},
		{
			name: "preempted without a word, and back",
			adverts: []Advert{
				said(100*x, "b", 100), said(150*x, "a", 150), said(250*x, "a", 150), said(390*x, "b", 200),
			},
			tenures: []Tenure{
				{Host: "b", Router: router, Priority: 100, From: Time(100 * x), To: Time(100 * x), Count: 1},
				{Host: "a", Router: router, Priority: 150, From: Time(150 * x), To: Time(250 * x), Count: 2},
				{Host: "b", Router: router, Priority: 200, From: Time(390 * x), To: Time(390 * x), Count: 1},
			},
			changes: []change{{"b", "a", 50 * x}, {"a", "b", 140 * x}},
		},
		{
			name: "after one who came late and left early",
			adverts: []Advert{
				said(100*x, "a", 150), said(200*x, "b", 100), said(220*x, "a", 150), said(340*x, "a", 150), said(700*x, "b", 100),
			},
			tenures: []Tenure{
				{Host: "a", Router: router, Priority: 150, From: Time(100 * x), To: Time(340 * x), Count: 3},
				{Host: "b", Router: router, Priority: 100, From: Time(200 * x), To: Time(200 * x), Count: 1},
				{Host: "b", Router: router, Priority: 100, From: Time(700 * x), To: Time(700 * x), Count: 1},
			},
			changes: []change{{"a", "b", -140 * x}, {"a", "b", 360 * x}},
		},
		{
			name: "both",
			adverts: []Advert{
				said(100*x, "a", 150), said(200*x, "a", 150), said(250*x, "b", 100), said(300*x, "a", 150), said(350*x, "b", 100), said(400*x, "a", 150),
			},
			tenures: []Tenure{
				{Host: "a", Router: router, Priority: 150, From: Time(100 * x), To: Time(400 * x), Count: 4},
				{Host: "b", Router: router, Priority: 100, From: Time(250 * x), To: Time(350 * x), Count: 2},
			},
			changes: []change{{"a", "b", -150 * x}},
			shared:  100 * x,
		},
		{name: "farewell of a stranger", adverts: []Advert{said(100*x, "a", 0)}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tenures := Tenures(tt.adverts)
			if diff := cmp.Diff(tt.tenures, tenures); diff != "" {
				t.Error(diff)
			}
			var changes []change
			for _, c := range Takeovers(tenures, router) {
				changes = append(changes, change{c.Old.Host, c.New.Host, c.Length()})
			}
			if diff := cmp.Diff(tt.changes, changes, cmp.AllowUnexported(change{})); diff != "" {
				t.Error(diff)
			}
			if got := SharedTenure(tenures, router, 0, Time(time.Second)); got != tt.shared {
				t.Errorf("shared for %s, want %s", got, tt.shared)
			}
			if others := Takeovers(tenures, VirtualRouter{VRID: 51, IPv6: true}); others != nil {
				t.Errorf("takeovers of another router: %v", others)
			}
		})
	}
}
