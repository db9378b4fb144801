package lab

import (
	"cmp"
	"net/netip"
	"slices"
	"time"
)

// Gap is a stretch of time without an answer.
type Gap struct {
	From, To Time
	Open     bool   // it had not ended when the window did
	Client   string // who saw it
}

// Length returns the gap's duration.
func (g Gap) Length() time.Duration { return g.To.Sub(g.From) }

// Overlap is the time in which two hosts had one address, by each judge.
type Overlap struct {
	Kernel  time.Duration // by the hosts' address tables
	Answers time.Duration // by who answered, and when it took the question in
	Wire    time.Duration // by the packets that claim it, whatever any host says
}

// Max returns the longest of what a neighbour can notice. That an address
// stands in a table is no overlap by itself: behind a closed fence it is mute.
func (o Overlap) Max() time.Duration { return max(o.Answers, o.Wire) }

// Observations are what was seen of one address in a window of time.
type Observations struct {
	Address   netip.Addr
	From, To  Time
	Answers   []Answer // by time of arrival
	Holds     []Hold
	Claims    []Claim
	Stretches []Stretch
	Offs      []Off
}

// LongestGap returns the longest time in the window in which the client got no
// answer. The window's ends count like answers.
func (o Observations) LongestGap(client string) Gap {
	longest := Gap{From: o.From, To: o.From, Client: client}
	last := o.From
	for _, a := range o.Answers {
		if a.Client != client || a.Received < last {
			continue
		}
		if a.Received.Sub(last) > longest.Length() {
			longest = Gap{From: last, To: a.Received, Client: client}
		}
		last = a.Received
	}
	if o.To.Sub(last) > longest.Length() {
		longest = Gap{From: last, To: o.To, Open: true, Client: client}
	}
	return longest
}

// sameRun is the longest time between two answers of a host during which it is
// taken to have gone on answering. Probes are 2 ms apart; losses and stalls
// make some go missing.
const sameRun = 50 * time.Millisecond

// Overlap judges the window.
func (o Observations) Overlap() Overlap {
	return Overlap{
		Kernel:  shared(switchedOn(o.Holds, o.Offs, o.To), o.From, o.To),
		Answers: intrusion(runs(o.Answers)),
		Wire:    max(intrusion(switchedOn(o.claimed(), o.Offs, o.To)), unfounded(o.Claims, o.Holds, o.Offs)),
	}
}

// LastClaims returns, for each kind, the last packet of a host that claims the
// address in the window.
func (o Observations) LastClaims(host string) map[ClaimKind]Time {
	last := make(map[ClaimKind]Time)
	for _, c := range o.Claims {
		if c.Host == host {
			last[c.Kind] = max(last[c.Kind], c.At)
		}
	}
	for _, p := range o.Stretches {
		if p.Host == host {
			last[p.Kind] = max(last[p.Kind], p.To)
		}
	}
	return last
}

// claimed turns the packets into stretches of time in which a host claimed the
// address.
func (o Observations) claimed() []Hold {
	pieces := make([]Hold, 0, len(o.Claims)+len(o.Stretches))
	for _, c := range o.Claims {
		pieces = append(pieces, Hold{c.Host, o.Address, c.At, c.At})
	}
	for _, p := range o.Stretches {
		pieces = append(pieces, Hold{p.Host, o.Address, p.From, p.To})
	}
	return joined(pieces)
}

// switchedOn cuts the times in which a host was off out of the holds; a hold
// that has not ended gets the end of the window.
func switchedOn(holds []Hold, offs []Off, end Time) []Hold {
	var kept []Hold
	for _, h := range holds {
		if h.To == 0 {
			h.To = max(end, h.From)
		}
		pieces := []Hold{h}
		for _, off := range offs {
			if off.Host == h.Host {
				pieces = without(pieces, off)
			}
		}
		kept = append(kept, pieces...)
	}
	return kept
}

func without(pieces []Hold, off Off) []Hold {
	var kept []Hold
	for _, p := range pieces {
		if before := min(p.To, off.From); before > p.From || p.From == p.To && p.To < off.From {
			kept = append(kept, Hold{p.Host, p.Address, p.From, before})
		}
		if after := max(p.From, off.To); off.To != 0 && (after < p.To || p.From == p.To && p.From > off.To) {
			kept = append(kept, Hold{p.Host, p.Address, after, p.To})
		}
	}
	return kept
}

// runs turns answers into stretches of time in which a host answered.
func runs(answers []Answer) []Hold {
	pieces := make([]Hold, 0, len(answers))
	for _, a := range answers {
		pieces = append(pieces, Hold{Host: a.Host, Address: a.Address, From: a.Accepted, To: a.Accepted})
	}
	return joined(pieces)
}

// joined makes one of a host's stretches that are not more than [sameRun] apart.
func joined(pieces []Hold) []Hold {
	slices.SortStableFunc(pieces, func(a, b Hold) int { return cmp.Compare(a.From, b.From) })
	var holds []Hold
	latest := make(map[string]int) // host -> position of its latest run
	for _, p := range pieces {
		if i, ok := latest[p.Host]; ok && p.From.Sub(holds[i].To) <= sameRun {
			holds[i].To = max(holds[i].To, p.To)
			continue
		}
		latest[p.Host] = len(holds)
		holds = append(holds, p)
	}
	return holds
}

// shared returns the total time between from and to in which two or more hosts
// had the address. All holds must be of one address and have an end.
func shared(holds []Hold, from, to Time) time.Duration {
	type edge struct {
		at    Time
		host  string
		delta int
	}
	var edges []edge
	for _, h := range holds {
		start, end := max(h.From, from), min(h.To, to)
		if start < end {
			edges = append(edges, edge{start, h.Host, 1}, edge{end, h.Host, -1})
		}
	}
	// An end and a start at one instant do not overlap: ends first.
	slices.SortStableFunc(edges, func(a, b edge) int { return cmp.Or(cmp.Compare(a.at, b.at), a.delta-b.delta) })
	held := make(map[string]int)
	var total time.Duration
	var since Time
	for _, e := range edges {
		if len(held) > 1 {
			total += e.at.Sub(since)
		}
		since = e.at
		if held[e.host] += e.delta; held[e.host] == 0 {
			delete(held, e.host)
		}
	}
	return total
}

// intrusion returns how deep a host's run reaches into another one's: from its
// last sign of life back to the other's first, or, for one that begins and ends
// inside the other, to the nearer end. A single packet long after another host
// took over is a fault however short it was.
func intrusion(holds []Hold) time.Duration {
	var deepest time.Duration
	for i, a := range holds {
		for _, b := range holds[i+1:] {
			if a.Host != b.Host {
				deepest = max(deepest, min(a.To.Sub(b.From), b.To.Sub(a.From)))
			}
		}
	}
	return deepest
}

// unfounded returns how deep inside a host's tenure, by its address table,
// another host, switched on, claimed it that neither had the address nor got it
// soon. It sees what the packets alone do not show: a claim of an address that
// nobody asks.
func unfounded(claims []Claim, holds []Hold, offs []Off) time.Duration {
	var deepest time.Duration
	for _, c := range claims {
		if offAt(offs, c.Host, c.At) || holdsAt(holds, c) {
			continue
		}
		for _, h := range switchedOn(holds, offs, 1<<62) {
			if h.Host != c.Host && h.From < c.At && c.At < h.To {
				deepest = max(deepest, min(c.At.Sub(h.From), h.To.Sub(c.At)))
			}
		}
	}
	return deepest
}

// lateRecord is how late the record may be with the begin of a hold. It is
// stamped when the watcher has read it, on a busy machine much later; a claim is
// stamped by the kernel on its arrival. What happens in that time is seen by
// those who judge the packets.
const lateRecord = time.Second

// holdsAt reports whether the claimant's own kernel had the address then, or
// just got it.
func holdsAt(holds []Hold, c Claim) bool {
	return slices.ContainsFunc(holds, func(h Hold) bool {
		return h.Host == c.Host && h.From.Add(-lateRecord) <= c.At && (h.To == 0 || c.At <= h.To)
	})
}

func offAt(offs []Off, host string, at Time) bool {
	return slices.ContainsFunc(offs, func(o Off) bool {
		return o.Host == host && o.From <= at && (o.To == 0 || at <= o.To)
	})
}
