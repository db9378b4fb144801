package main

import (
	"encoding/hex"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// epoch is the beginning of each test's time.
func epoch() time.Time { return time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC) }

func TestTally(t *testing.T) {
	const step = probeEvery
	at := func(n int) time.Time { return epoch().Add(time.Duration(n) * step) }
	tests := []struct {
		name  string
		count int
		lost  func(n int) bool          // questions without an answer
		late  func(n int) time.Duration // how long an answer takes
		pause int                       // before this question nothing was asked for a second; 0 = never
		want  tally                     // its counts alone
	}{
		{name: "all answered", count: 1000, want: tally{asked: 1000, pause: step}},
		{name: "none answered", count: 1000, lost: func(int) bool { return true },
			want: tally{asked: 1000, lost: 1000, gaps: 1, total: 1000 * step, longest: 1000 * step, pause: step}},
		{name: "two gaps", count: 1000, lost: func(n int) bool { return n >= 100 && n < 140 || n >= 500 && n < 510 },
			want: tally{asked: 1000, lost: 50, gaps: 2, total: 50 * step, longest: 40 * step, pause: step}},
		{name: "the first is lost", count: 10, lost: func(n int) bool { return n == 0 },
			want: tally{asked: 10, lost: 1, gaps: 1, total: step, longest: step, pause: step}},
		{name: "the last is lost", count: 10, lost: func(n int) bool { return n == 9 },
			want: tally{asked: 10, lost: 1, gaps: 1, total: step, longest: step, pause: step}},
		{name: "in time", count: 300, late: func(int) time.Duration { return probePatience - 1 }, want: tally{asked: 300, pause: step}},
		{name: "too late", count: 300, late: func(n int) time.Duration { return time.Duration(n/299) * probePatience },
			want: tally{asked: 300, lost: 1, gaps: 1, total: step, longest: step, pause: step}},
		{name: "a pause is no loss, and is told", count: 20, pause: 10, want: tally{asked: 20, pause: time.Second + step}},
		{name: "a gap reaches over a pause", count: 20, pause: 10, lost: func(n int) bool { return n == 9 },
			want: tally{asked: 20, lost: 1, gaps: 1, total: time.Second + step, longest: time.Second + step, pause: time.Second + step}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var got tally
			type event struct {
				at       time.Time
				question int
				answer   bool
			}
			var events []event
			for n := range tt.count {
				asked := at(n)
				if tt.pause > 0 && n >= tt.pause {
					asked = asked.Add(time.Second)
				}
				events = append(events, event{asked, n, false})
				if tt.lost != nil && tt.lost(n) {
					continue
				}
				late := time.Millisecond
				if tt.late != nil {
					late = tt.late(n)
				}
				events = append(events, event{asked.Add(late), n, true})
			}
			slices.SortStableFunc(events, func(a, b event) int { return a.at.Compare(b.at) })
			for _, e := range events {
				if e.answer {
					got.answer(e.question, e.at)
				} else if n := got.ask(e.at); n != e.question {
					t.Fatalf("question %d is number %d", e.question, n)
				}
			}
			if most := int(probePatience/step) + 1; len(got.open) > most {
				t.Errorf("%d questions are kept, want at most %d", len(got.open), most)
			}
			got.finish(events[len(events)-1].at)
			got = tally{asked: got.asked, lost: got.lost, gaps: got.gaps, total: got.total, longest: got.longest, pause: got.pause}
			if got.asked != tt.want.asked || got.lost != tt.want.lost || got.gaps != tt.want.gaps ||
				got.total != tt.want.total || got.longest != tt.want.longest || got.pause != tt.want.pause {
				t.Errorf("got %+v, want %+v", got, tt.want)
			}
		})
	}
}

// TestTallyForgets: what comes for a question that is judged, or was never asked, counts nothing.
func TestTallyForgets(t *testing.T) {
	var y tally
	y.answer(0, epoch())
	y.ask(epoch())
	y.ask(epoch().Add(time.Second)) // judges the first
	for _, n := range []int{-1, 0, 2, 1 << 30} {
		y.answer(n, epoch().Add(time.Second))
	}
	y.finish(epoch().Add(time.Second))
	if y.asked != 2 || y.lost != 2 {
		t.Errorf("%d asked, %d lost; want 2 and 2", y.asked, y.lost)
	}
}

func TestSightings(t *testing.T) {
	var s sightings
	for _, mac := range []string{"a", "a", "b", "b", "a"} {
		s.see(mac, time.Second)
	}
	if len(s.list) != 3 || s.list[2].MAC != "a" {
		t.Errorf("got %+v, want a, b, a", s.list)
	}
	for n := range 100 {
		s.see([]string{"b", "a"}[n%2], 0)
	}
	if len(s.list) != maxSightings || s.more != 103-maxSightings {
		t.Errorf("%d kept and %d more; want %d and %d", len(s.list), s.more, maxSightings, 103-maxSightings)
	}
}

func TestWho(t *testing.T) {
	seen := func(macs ...string) (out []neighbour) {
		for _, m := range macs {
			out = append(out, neighbour{MAC: m})
		}
		return out
	}
	tests := []struct {
		x    addressAnswers
		want string
	}{
		{addressAnswers{}, "-"},
		{addressAnswers{Holders: seen("a", "b"), Claims: seen("b")}, "a, then b"},
		{addressAnswers{Holders: seen("a"), Claims: seen("a", "c", "a", "c")}, "a (claimed too by c)"},
		{addressAnswers{Holders: seen("a", "b", "a", "b", "a"), MoreChanges: 7}, "a, then b, then a, then b, and 8 changes"},
		{addressAnswers{Holders: seen("a"), PauseMS: 50}, "a"},
		{addressAnswers{Holders: seen("a"), PauseMS: 120.4}, "a (this host was busy: it did not ask for 120 ms)"},
	}
	for _, tt := range tests {
		if got := tt.x.who(); got != tt.want {
			t.Errorf("got %q, want %q", got, tt.want)
		}
	}
}

const (
	arpRequest = "0001080006040001" + "02000000000a" + "0a000032" + "000000000000" + "0a000032"
	echoReply4 = "45000024000000004001000" + "0" + "0a000032" + "0a000009" + "0000000012340001"
	echoReply6 = "60000000000a3a40" + "20010db8000000000000000000000050" + "20010db8000000000000000000000009" + "8100000012340001"
	bareNA     = "6000000000183aff" + "fe800000000000000000000000000001" + "ff020000000000000000000000000001" + "8800000020000000" + "20010db8000000000000000000000050"
)

func TestSight(t *testing.T) {
	const other, own = "02:00:00:00:00:0a", "02:00:00:00:00:0b" // in the packet, and of the frame
	v4, v6 := netip.MustParseAddr("10.0.0.50"), netip.MustParseAddr("2001:db8::50")
	tests := []struct {
		name     string
		protocol uint16
		packet   string
		want     sighting // zero = none
	}{
		{"ARP", unix.ETH_P_ARP, arpRequest, sighting{v4, other, true}},
		{"padded ARP", unix.ETH_P_ARP, arpRequest + strings.Repeat("00", 18), sighting{v4, other, true}},
		{"ARP of another network", unix.ETH_P_ARP, "0006" + arpRequest[4:], sighting{}},
		{"echo reply", unix.ETH_P_IP, echoReply4, sighting{v4, own, false}},
		{"echo request", unix.ETH_P_IP, strings.Replace(echoReply4, "000000001234", "080000001234", 1), sighting{}},
		{"UDP", unix.ETH_P_IP, strings.Replace(echoReply4, "4001", "4011", 1), sighting{}},
		{"a later fragment", unix.ETH_P_IP, strings.Replace(echoReply4, "0000000040", "0000000140", 1), sighting{}},
		{"with options", unix.ETH_P_IP, "46" + echoReply4[2:40] + "01010101" + echoReply4[40:], sighting{v4, own, false}},
		{"a header that is too short", unix.ETH_P_IP, "44" + strings.Replace(echoReply4[2:], "0a000009", "00000009", 1), sighting{}},
		{"options beyond the end", unix.ETH_P_IP, "4f" + echoReply4[2:], sighting{}},
		{"IPv6 echo reply", unix.ETH_P_IPV6, echoReply6, sighting{v6, own, false}},
		{"neighbour advertisement", unix.ETH_P_IPV6, bareNA + "020102000000000a", sighting{v6, other, true}},
		{"without the option", unix.ETH_P_IPV6, bareNA, sighting{v6, own, true}},
		{"with a cut option", unix.ETH_P_IPV6, bareNA + "02010200000000", sighting{v6, own, true}},
		{"from beyond a router", unix.ETH_P_IPV6, strings.Replace(bareNA, "3aff", "3afe", 1), sighting{}},
		{"another protocol", 0x88cc, arpRequest, sighting{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b, err := hex.DecodeString(tt.packet)
			if err != nil {
				t.Fatal(err)
			}
			got, ok := sight(tt.protocol, []byte{2, 0, 0, 0, 0, 0xb}, b)
			if got != tt.want || ok != (tt.want != sighting{}) {
				t.Errorf("got %+v, %t; want %+v", got, ok, tt.want)
			}
		})
	}
}

func FuzzSight(f *testing.F) {
	for _, seed := range []struct {
		protocol uint16
		packet   string
	}{{unix.ETH_P_ARP, arpRequest}, {unix.ETH_P_IP, echoReply4}, {unix.ETH_P_IPV6, echoReply6}, {unix.ETH_P_IPV6, bareNA + "020102000000000a"}} {
		b, err := hex.DecodeString(seed.packet)
		if err != nil {
			f.Fatal(err)
		}
		for n := range len(b) + 1 {
			f.Add(seed.protocol, b[:n])
		}
	}
	f.Fuzz(func(t *testing.T, protocol uint16, b []byte) {
		s, ok := sight(protocol, []byte{2, 0, 0, 0, 0, 0xb}, b)
		if ok != s.address.IsValid() || ok && len(s.mac) != len("02:00:00:00:00:0b") {
			t.Errorf("%+v, %t", s, ok)
		}
	})
}
