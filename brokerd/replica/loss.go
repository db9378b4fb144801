package replica

import (
	"cmp"
	"slices"
)

// Loss is what a log has not: records that replicas had and cut, by epoch, and tails that
// may be on replicas which did not come back.
type Loss struct {
	Lost    []Range
	Unknown []Unknown
}

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

// Loss returns what is lost as far as this master knows: from what it and its followers
// cut, and from what the others had last reported. It may change until all members have
// been in contact. Under mode sync and policy in-sync nothing of it was ever acknowledged.
func (r *Replica) Loss(reported []Reported) Loss {
	if r.master == nil {
		return Loss{}
	}
	absent := slices.DeleteFunc(slices.Clone(reported), func(p Reported) bool {
		return p.Member == r.config.Self || r.master.followers[p.Member].met
	})
	return Loss{Lost(append(slices.Clone(r.cuts), r.master.cuts...), r.log), Missing(absent, r.log)}
}

// Lost returns what replicas cut and a log does not hold, each record once: a record
// that one replica cut can live on elsewhere, and several can cut the same one. It is to
// be worked out anew at each promotion, from all cuts ever made. What retention has taken
// from the log is not lost.
func Lost(cuts []Range, log Log) []Range {
	held := log.Ranges(log.Base, log.End)
	var out []Range
	for _, r := range union(cuts) {
		r.From = max(r.From, min(log.Base, r.To))
		i := slices.IndexFunc(held, func(h Range) bool { return h.Epoch == r.Epoch })
		if i < 0 {
			out = add(out, r)
			continue
		}
		out = add(out, Range{r.Epoch, r.From, min(r.To, held[i].From)})
		out = add(out, Range{r.Epoch, max(r.From, held[i].To), r.To})
	}
	return out
}

func add(ranges []Range, r Range) []Range {
	if r.From < r.To {
		return append(ranges, r)
	}
	return ranges
}

// Missing returns the tails of replicas that are not back, past what a log holds of
// their last epoch. Where that epoch began is not known if the log has nothing of it: the
// tail begins then at the start of the first later epoch that the log has.
func Missing(absent []Reported, log Log) []Unknown {
	var out []Unknown
	for _, a := range absent {
		from := log.End
		for i := len(log.Starts) - 1; i >= 0 && log.Starts[i].Epoch >= a.Epoch; i-- {
			from = log.Starts[i].Offset
			if log.Starts[i].Epoch == a.Epoch {
				from = log.endOf(i)
			}
		}
		if from < a.End {
			out = append(out, Unknown{a.Member, Range{a.Epoch, from, a.End}})
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
		} else {
			out = add(out, r)
		}
	}
	return out
}
