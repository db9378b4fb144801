package pop

import (
	"cmp"
	"container/heap"
)

// byVisible holds flights in a heap: the one that becomes visible first is at its top.
// Which one that is does not depend on how the heap came about, as no two are equal.
type byVisible struct{ flights flightHeap }

func (v *byVisible) push(f *flight)   { heap.Push(&v.flights, f) }
func (v *byVisible) fix(f *flight)    { heap.Fix(&v.flights, f.index) }
func (v *byVisible) remove(f *flight) { heap.Remove(&v.flights, f.index) }

// first returns, in order, the at most n flights that become visible first, and no later
// than now.
func (v *byVisible) first(n int, now int64) []*flight {
	var found []*flight
	frontier := []int{0} // the next in order is one of these
	for len(found) < n && len(frontier) > 0 {
		best := -1
		for i, at := range frontier {
			if at < len(v.flights) && (best < 0 || v.flights.Less(at, frontier[best])) {
				best = i
			}
		}
		if best < 0 || v.flights[frontier[best]].until > now {
			break
		}
		at := frontier[best]
		found = append(found, v.flights[at])
		frontier[best] = 2*at + 1
		frontier = append(frontier, 2*at+2)
	}
	return found
}

// next returns when the first flight becomes visible after now; false if none does.
func (v *byVisible) next() (until int64, ok bool) {
	if len(v.flights) == 0 {
		return 0, false
	}
	return v.flights[0].until, true
}

// flightHeap implements heap.Interface.
type flightHeap []*flight

func (h flightHeap) Len() int { return len(h) }

func (h flightHeap) Less(i, j int) bool {
	return cmp.Or(cmp.Compare(h[i].until, h[j].until), cmp.Compare(h[i].offset, h[j].offset)) < 0
}

func (h flightHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}

func (h *flightHeap) Push(x any) {
	f := x.(*flight)
	f.index = len(*h)
	*h = append(*h, f)
}

func (h *flightHeap) Pop() any {
	last := len(*h) - 1
	f := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	return f
}
