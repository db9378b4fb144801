package router

import (
	"container/heap"
	"time"
)

// appointment is something to be done at a time. The zero value with do is ready; it
// is on the agenda of one Router at most.
type appointment struct {
	do    func(late time.Duration)
	at    time.Duration
	index int // in the agenda, plus one; 0 = not on it
}

// agenda has the appointments by time.
type agenda struct{ queue queue }

// set puts the appointment on the agenda, or moves it.
func (a *agenda) set(p *appointment, at time.Duration) {
	p.at = at
	if p.index > 0 {
		heap.Fix(&a.queue, p.index-1)
		return
	}
	heap.Push(&a.queue, p)
}

// cancel takes it off.
func (a *agenda) cancel(p *appointment) {
	if p.index > 0 {
		heap.Remove(&a.queue, p.index-1)
	}
}

// next returns the time of the first appointment; false if there is none.
func (a *agenda) next() (time.Duration, bool) {
	if len(a.queue) == 0 {
		return 0, false
	}
	return a.queue[0].at, true
}

// take takes off the first appointment if its time has come by now, else nil.
func (a *agenda) take(now time.Duration) *appointment {
	if len(a.queue) == 0 || a.queue[0].at > now {
		return nil
	}
	p, _ := heap.Pop(&a.queue).(*appointment)
	return p
}

type queue []*appointment

func (q queue) Len() int           { return len(q) }
func (q queue) Less(i, j int) bool { return q[i].at < q[j].at }
func (q queue) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].index, q[j].index = i+1, j+1
}

func (q *queue) Push(x any) {
	if p, ok := x.(*appointment); ok {
		*q = append(*q, p)
		p.index = len(*q)
	}
}

func (q *queue) Pop() any {
	last := len(*q) - 1
	p := (*q)[last]
	(*q)[last] = nil
	*q = (*q)[:last]
	p.index = 0
	return p
}
