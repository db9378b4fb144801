package lab

import (
	"cmp"
	"slices"
	"time"
)

// Tenure is a stretch of time in which a host said by its advertisements that it
// is the Active router of a virtual router.
type Tenure struct {
	Host     string
	Router   VirtualRouter
	Priority uint8 // of its last advertisement, without the farewell
	From, To Time  // the first and the last advertisement
	Farewell bool  // the last one has priority 0
	Count    int   // of advertisements
}

// VirtualRouter names a virtual router: IPv4 and IPv6 count apart.
type VirtualRouter struct {
	VRID uint8
	IPv6 bool
}

// Router returns the virtual router that the advertisement is for.
func (a Advert) Router() VirtualRouter { return VirtualRouter{a.VRID, a.Source.Is6()} }

// patience is how long after an advertisement the next one of the same tenure may
// come. It is much shorter than Backup routers wait: one that lost its place and
// got it back at once has two tenures.
func (a Advert) patience() time.Duration { return a.Interval*3/2 + 50*time.Millisecond }

// Tenures puts advertisements together, in the order of their beginnings.
func Tenures(adverts []Advert) []Tenure {
	type claimant struct {
		host   string
		router VirtualRouter
	}
	var list []Tenure
	latest := make(map[claimant]int)
	until := make(map[claimant]Time)
	sorted := slices.SortedStableFunc(slices.Values(adverts), func(a, b Advert) int { return cmp.Compare(a.At, b.At) })
	for _, a := range sorted {
		who := claimant{a.Host, a.Router()}
		i, known := latest[who]
		goesOn := known && a.At <= until[who] && !list[i].Farewell
		switch {
		case a.Priority == 0:
			if goesOn { // else it is of somebody who was not there
				list[i].To, list[i].Farewell = a.At, true
			}
			for other := range until { // whoever speaks next has taken over
				if other.router == who.router {
					until[other] = 0
				}
			}
			continue
		case !goesOn:
			i = len(list)
			latest[who] = i
			list = append(list, Tenure{Host: a.Host, Router: a.Router(), From: a.At})
		}
		list[i].To, list[i].Priority = a.At, a.Priority
		list[i].Count++
		until[who] = a.At.Add(a.patience())
	}
	return list
}

// Takeover is a change of the Active router, by its packets.
type Takeover struct {
	Old, New Tenure
}

// Length is the time from the old router's last advertisement (its farewell, if
// there was one) to the new one's first. It is negative where both sent some.
func (t Takeover) Length() time.Duration { return t.New.From.Sub(t.Old.To) }

// Takeovers returns the changes of one virtual router between hosts. The old
// router of a change is whoever sent the latest advertisement before it.
func Takeovers(tenures []Tenure, router VirtualRouter) []Takeover {
	var list []Takeover
	var before []Tenure
	for _, t := range tenures {
		if t.Router != router {
			continue
		}
		if len(before) > 0 {
			old := slices.MaxFunc(before, func(a, b Tenure) int { return cmp.Compare(min(a.To, t.From), min(b.To, t.From)) })
			if old.Host != t.Host {
				list = append(list, Takeover{old, t})
			}
		}
		before = append(before, t)
	}
	return list
}

// SharedTenure returns how long two hosts together were Active for a virtual
// router between two times, each until its last advertisement.
func SharedTenure(tenures []Tenure, router VirtualRouter, from, to Time) time.Duration {
	var holds []Hold
	for _, t := range tenures {
		if t.Router == router {
			holds = append(holds, Hold{Host: t.Host, From: t.From, To: t.To})
		}
	}
	return shared(holds, from, to)
}
