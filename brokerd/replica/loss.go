package replica

import (
	"cmp"
	"slices"
)

// Reported is the end of a log as its replica last told it.
type Reported struct {
	Member string
	Epoch  uint64 // of its last record
	End    uint64
}

// Unknown is a tail that may be on a replica which did not come back: at most what it
// had last reported.
type Unknown struct {
	Member string
	Range
}

// Lost returns what the replicas cut and the master's log does not hold, each record
// once: a record that one replica cut can live on elsewhere, and several can cut the
// same one. It is to be worked out anew at each promotion, from all cuts ever made.
func Lost(cuts []Range, master History, end uint64) []Range {
	held := master.Ranges(0, end)
	var out []Range
	for _, r := range union(cuts) {
		i := slices.IndexFunc(held, func(h Range) bool { return h.Epoch == r.Epoch })
		if i < 0 {
			out = append(out, r)
			continue
		}
		if low := (Range{r.Epoch, r.From, min(r.To, held[i].From)}); low.From < low.To {
			out = append(out, low)
		}
		if high := (Range{r.Epoch, max(r.From, held[i].To), r.To}); high.From < high.To {
			out = append(out, high)
		}
	}
	return out
}

// Missing returns the tails of replicas that are not back, past what the master's log
// holds of their last epoch.
func Missing(absent []Reported, master History, end uint64) []Unknown {
	var out []Unknown
	for _, a := range absent {
		for _, r := range Lost([]Range{{a.Epoch, 0, a.End}}, master, end) {
			// What lies before the epoch's own start is of other epochs.
			i := slices.IndexFunc(master, func(s Start) bool { return s.Epoch == a.Epoch })
			if i < 0 || r.From >= master[i].Offset {
				out = append(out, Unknown{a.Member, r})
			}
		}
	}
	return out
}

// union returns ranges in order, none of which touches another of its epoch.
func union(ranges []Range) []Range {
	sorted := slices.Clone(ranges)
	slices.SortFunc(sorted, func(a, b Range) int {
		return cmp.Or(cmp.Compare(a.Epoch, b.Epoch), cmp.Compare(a.From, b.From))
	})
	var out []Range
	for _, r := range sorted {
		if n := len(out); n > 0 && out[n-1].Epoch == r.Epoch && r.From <= out[n-1].To {
			out[n-1].To = max(out[n-1].To, r.To)
		} else if r.From < r.To {
			out = append(out, r)
		}
	}
	return out
}
