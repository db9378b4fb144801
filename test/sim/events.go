package sim

// event is something that happens at a real time.
type event struct {
	at  int64
	seq uint64 // of two at one time, the one that was planned first
	do  func()
}

// events is a heap of what is to come.
type events struct {
	heap []event
	seq  uint64
}

func (q *events) less(i, j int) bool {
	a, b := &q.heap[i], &q.heap[j]
	return a.at < b.at || a.at == b.at && a.seq < b.seq
}

func (q *events) push(at int64, do func()) {
	q.seq++
	q.heap = append(q.heap, event{at, q.seq, do})
	for i := len(q.heap) - 1; i > 0; {
		up := (i - 1) / 2
		if !q.less(i, up) {
			break
		}
		q.heap[i], q.heap[up] = q.heap[up], q.heap[i]
		i = up
	}
}

func (q *events) pop() event {
	top, n := q.heap[0], len(q.heap)-1
	q.heap[0] = q.heap[n]
	q.heap[n].do = nil
	q.heap = q.heap[:n]
	for i := 0; ; {
		next := i
		for _, child := range [2]int{2*i + 1, 2*i + 2} {
			if child < n && q.less(child, next) {
				next = child
			}
		}
		if next == i {
			return top
		}
		q.heap[i], q.heap[next] = q.heap[next], q.heap[i]
		i = next
	}
}

// timer is one recurring wish to be woken: only the earliest counts.
type timer struct {
	at  int64 // 0 = not set
	gen uint64
}

// set makes the timer fire at a time, unless it fires before.
func (w *world) set(t *timer, at int64, do func()) {
	if t.at != 0 && t.at <= at {
		return
	}
	t.at = max(at, w.now)
	t.gen++
	gen := t.gen
	w.queue.push(t.at, func() {
		if t.gen == gen && t.at != 0 {
			t.at = 0
			do()
		}
	})
}

// stop forgets what the timer was set for.
func (t *timer) stop() { t.at, t.gen = 0, t.gen+1 }
