package sim

// network is who reaches whom. The first maxNodes places are coordinators, the others
// hosts.
type network struct {
	cut [maxNodes + maxHosts][maxNodes + maxHosts]bool // by from, to
}

// delay is how long something takes on its way.
func (w *world) delay() int64 {
	if w.calm {
		return ms / 2
	}
	d := ms/5 + w.rng.Int64N(w.phase.delay)
	if w.phase.late > 0 && w.chance(w.phase.late) {
		d += w.rng.Int64N(int64(w.longest))
	}
	return d
}

func (w *world) lost() bool { return !w.calm && w.phase.loss > 0 && w.chance(w.phase.loss) }

// diskDelay is how long a write takes that has to be on disk.
func (w *world) diskDelay() int64 {
	switch {
	case w.calm:
		return ms
	case w.chance(5):
		return w.rng.Int64N(2 * int64(w.longest))
	}
	return ms + w.rng.Int64N(20*ms)
}

// applyDelay is how long a coordinator takes to apply what is committed.
func (w *world) applyDelay() int64 {
	if w.calm || w.chance(80) {
		return 0
	}
	return w.rng.Int64N(int64(w.longest) / 2)
}

// carry brings a message to a coordinator. It is lost if the link is cut when it
// leaves, or when it arrives.
func (w *world) carry(from, to int, at *node, do func()) {
	if from == to {
		at.later(0, do)
		return
	}
	if w.net.cut[from][to] || w.lost() {
		return
	}
	life := at.life
	w.queue.push(w.now+w.delay(), func() {
		if !w.net.cut[from][to] {
			at.alive(life, do)
		}
	})
}

// datagram carries a datagram, perhaps twice, in any order.
func (w *world) datagram(from, to int, do func()) {
	if w.net.cut[from][to] || w.lost() {
		return
	}
	w.queue.push(w.now+w.delay(), do)
	if w.phase.twice > 0 && w.chance(w.phase.twice) {
		w.queue.push(w.now+w.delay()+w.rng.Int64N(int64(w.longest)), do)
	}
}
