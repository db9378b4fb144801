package lab

import (
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const ms = Time(time.Millisecond)

// answersOf makes answers of one host each 2 ms between two times.
func answersOf(client, host string, from, to Time) []Answer {
	var answers []Answer
	for t := from; t <= to; t += 2 * ms {
		answers = append(answers, Answer{Client: client, Host: host, Sent: t, Accepted: t, Received: t})
	}
	return answers
}

func TestLongestGap(t *testing.T) {
	steady := answersOf("c", "h1", 2*ms, 40*ms)
	for name, tt := range map[string]struct {
		answers []Answer
		want    Gap
	}{
		"no answer at all":    {nil, Gap{0, 100 * ms, true, "c"}},
		"steady, then none":   {steady, Gap{40 * ms, 100 * ms, true, "c"}},
		"a hole":              {append(steady, answersOf("c", "h2", 80*ms, 100*ms)...), Gap{40 * ms, 80 * ms, false, "c"}},
		"late begin":          {answersOf("c", "h1", 70*ms, 100*ms), Gap{0, 70 * ms, false, "c"}},
		"another client's":    {answersOf("d", "h1", 2*ms, 100*ms), Gap{0, 100 * ms, true, "c"}},
		"answered throughout": {answersOf("c", "h1", 2*ms, 100*ms), Gap{0, 2 * ms, false, "c"}},
	} {
		t.Run(name, func(t *testing.T) {
			got := Observations{From: 0, To: 100 * ms, Answers: tt.answers}.LongestGap("c")
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestOverlap(t *testing.T) {
	hold := func(host string, from, to Time) Hold { return Hold{Host: host, From: from, To: to} }
	stretch := func(host string, from, to Time) Stretch { return Stretch{Host: host, From: from, To: to} }
	claim := func(host string, at Time) Claim { return Claim{Host: host, At: at} }
	for name, tt := range map[string]struct {
		o    Observations
		want Overlap
	}{
		"one after the other": {
			Observations{
				Holds:   []Hold{hold("h1", 1, 40*ms), hold("h2", 40*ms, 0)},
				Answers: append(answersOf("c", "h1", 0, 38*ms), answersOf("c", "h2", 42*ms, 100*ms)...),
				Claims:  []Claim{claim("h1", 30*ms), claim("h2", 41*ms)},
			}, Overlap{},
		},
		"both kernels": {
			Observations{Holds: []Hold{hold("h1", 1, 60*ms), hold("h2", 40*ms, 0)}},
			Overlap{Kernel: time.Duration(20 * ms)},
		},
		"three kernels count once, two times add": {
			Observations{Holds: []Hold{hold("h1", 10*ms, 30*ms), hold("h2", 20*ms, 30*ms), hold("h3", 15*ms, 30*ms), hold("h1", 50*ms, 60*ms), hold("h2", 55*ms, 0)}},
			Overlap{Kernel: time.Duration(20 * ms)},
		},
		"a host that is off holds nothing": {
			Observations{Holds: []Hold{hold("h1", 1, 0), hold("h2", 40*ms, 0)}, Offs: []Off{{"h1", 30 * ms, 0}}},
			Overlap{},
		},
		"off and on again with the address": {
			Observations{Holds: []Hold{hold("h1", 1, 0), hold("h2", 40*ms, 0)}, Offs: []Off{{"h1", 30 * ms, 90 * ms}}},
			Overlap{Kernel: time.Duration(10 * ms)},
		},
		"both answer": {
			Observations{Answers: append(answersOf("c", "h1", 0, 60*ms), answersOf("d", "h2", 40*ms, 100*ms)...)},
			Overlap{Answers: time.Duration(20 * ms)},
		},
		"one answer, long after the other took over": {
			Observations{Answers: append(answersOf("c", "h2", 0, 100*ms), answersOf("d", "h1", 90*ms, 90*ms)...)},
			Overlap{Answers: time.Duration(10 * ms)},
		},
		"both send, and both have the address": {
			Observations{
				Holds:     []Hold{hold("h1", 1, 0), hold("h2", 41*ms, 0)},
				Stretches: []Stretch{stretch("h1", 0, 60*ms), stretch("h2", 42*ms, 100*ms)},
			}, Overlap{Kernel: time.Duration(59 * ms), Wire: time.Duration(18 * ms)},
		},
		"the old table goes on, its packets do not": {
			Observations{
				Holds:     []Hold{hold("h1", 1, 80*ms), hold("h2", 41*ms, 0)},
				Stretches: []Stretch{stretch("h1", 0, 38*ms), stretch("h2", 42*ms, 100*ms)},
			}, Overlap{Kernel: time.Duration(39 * ms)},
		},
		"one packet, long after the other took over": {
			Observations{
				Holds:     []Hold{hold("h1", 1, 0), hold("h2", 41*ms, 0)},
				Stretches: []Stretch{stretch("h2", 42*ms, 100*ms), stretch("h1", 72*ms, 72*ms)},
			}, Overlap{Kernel: time.Duration(59 * ms), Wire: time.Duration(28 * ms)},
		},
		"packets of a host that is off": {
			Observations{
				Stretches: []Stretch{stretch("h1", 0, 45*ms), stretch("h2", 42*ms, 100*ms)},
				Offs:      []Off{{"h1", 40 * ms, 0}},
			}, Overlap{},
		},
		"a claim long after the other took over": {
			Observations{
				Holds:  []Hold{hold("h1", 1, 40*ms), hold("h2", 41*ms, 0)},
				Claims: []Claim{claim("h1", 71*ms)},
			}, Overlap{Wire: time.Duration(30 * ms)},
		},
		"a claim just before the record of the own address began": {
			Observations{
				Holds:  []Hold{hold("h1", 1, 60*ms), hold("h2", 41*ms, 0)},
				Claims: []Claim{claim("h2", 38*ms)},
			}, Overlap{Kernel: time.Duration(19 * ms)},
		},
		"a claim long before the own address": {
			Observations{
				Holds:  []Hold{hold("h1", 1*ms, 90*ms), hold("h2", 1090*ms, 0)},
				Claims: []Claim{claim("h2", 21*ms)},
			}, Overlap{Wire: time.Duration(20 * ms)},
		},
		"a claim before the record of the own address, on a busy machine": {
			Observations{
				Holds:  []Hold{hold("h1", 1*ms, 90*ms), hold("h2", 80*ms, 0)},
				Claims: []Claim{claim("h2", 21*ms)},
			}, Overlap{Kernel: time.Duration(10 * ms)},
		},
		"a claim of a host that is off": {
			Observations{
				Holds:  []Hold{hold("h1", 1, 40*ms), hold("h2", 41*ms, 0)},
				Claims: []Claim{claim("h1", 71*ms)},
				Offs:   []Off{{"h1", 40 * ms, 0}},
			}, Overlap{},
		},
	} {
		t.Run(name, func(t *testing.T) {
			tt.o.From, tt.o.To = 0, 100*ms
			if diff := cmp.Diff(tt.want, tt.o.Overlap()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestStallWithin(t *testing.T) {
	var l lateness
	l.record(10*ms, 10*ms+ms/2) // tolerable
	l.record(20*ms, 25*ms)
	l.record(30*ms, 37*ms)
	l.record(98*ms, 120*ms)
	got := l.within(0, 100*ms)
	if want := (Stall{Max: time.Duration(7 * ms), Sum: time.Duration(14 * ms)}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if got := l.within(40*ms, 90*ms); got != (Stall{}) {
		t.Errorf("got %+v from a quiet time", got)
	}
}

func TestParsePressure(t *testing.T) {
	text := "some avg10=0.04 avg60=0.45 avg300=1.37 total=23211010\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=7\n"
	if p, ok := parsePressure(text, 5); !ok || p != (pressure{5, 23211010 * time.Microsecond}) {
		t.Errorf("got %+v, %t", p, ok)
	}
	for _, bad := range []string{"", "some", "some total=x\n", "full total=5\n"} {
		if p, ok := parsePressure(bad, 5); ok {
			t.Errorf("%q is taken for %+v", bad, p)
		}
	}
}

func TestParseClaim(t *testing.T) {
	mac := []byte{2, 0x77, 0, 0, 0, 11}
	v4, v6 := netip.MustParseAddr("10.77.1.1"), netip.MustParseAddr("fd77::c:1")
	for name, tt := range map[string]struct {
		frame []byte
		want  Claim
		size  int // without which it is none
	}{
		"gratuitous request": {gratuitousARP(1, mac, v4), Claim{Host: "02:77:00:00:00:0b", Address: v4, Kind: ARPRequest, Gratuitous: true}, 42},
		"gratuitous reply":   {gratuitousARP(2, mac, v4), Claim{Host: "02:77:00:00:00:0b", Address: v4, Kind: ARPReply, Gratuitous: true}, 42},
		"advertisement":      {advertisementFrame(mac, v6), Claim{Host: "02:77:00:00:00:0b", Address: v6, Kind: Advertisement, Gratuitous: true}, 78},
		"IPv4 packet":        {vrrpFrame(mac, v4, 0), Claim{Host: "02:77:00:00:00:0b", Address: v4, Kind: IPv4Packet}, 34},
		"VRRP":               {vrrpFrame(mac, netip.MustParseAddr("10.77.0.11"), 100, v4), Claim{Host: "02:77:00:00:00:0b", Address: v4, Kind: VRRPAdvert}, 46},
	} {
		t.Run(name, func(t *testing.T) {
			got := parseFrame(tt.frame)
			if len(got) == 0 {
				t.Fatal("nothing is claimed")
			}
			if diff := cmp.Diff(tt.want, got[0], cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
				t.Error(diff)
			}
			for short := range tt.frame {
				if len(tt.frame)-short < 8 && tt.want.Kind == Advertisement {
					continue // the option alone may be missing
				}
				for _, c := range parseFrame(tt.frame[:short]) {
					if c.Kind == tt.want.Kind && short < tt.size {
						t.Fatalf("cut to %d bytes it is taken for %+v", short, c)
					}
				}
			}
		})
	}
	if c := parseFrame(gratuitousARP(1, mac, netip.IPv4Unspecified())); len(c) > 0 {
		t.Errorf("a probe is taken for a claim: %+v", c)
	}
	if c := parseFrame(vrrpFrame(mac, netip.MustParseAddr("10.77.0.11"), 0, v4)); len(c) != 1 || c[0].Kind != IPv4Packet {
		t.Errorf("an advertisement of priority 0 is taken for %+v", c)
	}
}

// vrrpFrame is a VRRPv3 advertisement over IPv4.
func vrrpFrame(mac []byte, from netip.Addr, priority byte, addresses ...netip.Addr) []byte {
	f := append([]byte{1, 0, 0x5e, 0, 0, 18}, mac...)
	f = append(f, 8, 0, 0x45, 0, 0, byte(28+4*len(addresses)), 0, 0, 0, 0, 255, vrrpNext, 0, 0)
	f = append(append(f, from.AsSlice()...), 224, 0, 0, 18)
	f = append(f, 0x31, 7, priority, byte(len(addresses)), 0, 100, 0, 0)
	for _, a := range addresses {
		f = append(f, a.AsSlice()...)
	}
	return f
}

func TestAnswerCodec(t *testing.T) {
	probe := make([]byte, probeSize)
	marshalProbe(probe, 7, 42)
	if !isProbe(probe) || isProbe(probe[1:]) {
		t.Error("a probe is not told from what is none")
	}
	b := marshalAnswer(nil, probe, 43, "host1")
	if a, ok := parseAnswer(b); !ok || a != (Answer{Host: "host1", Tick: 7, Sent: 42, Accepted: 43}) {
		t.Errorf("answer: %+v, %t", a, ok)
	}
	for i := range b {
		if a, ok := parseAnswer(b[:i]); ok && i <= answerSize {
			t.Errorf("%d bytes are taken for %+v", i, a)
		}
	}
	if isProbe(b) {
		t.Error("an answer is taken for a probe")
	}
}
