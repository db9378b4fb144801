package replica_test

import (
	"reflect"

	"holdfast/brokerd/replica"
	"holdfast/fsm/group"
)

// judge lets every process tell and show all that it may at this moment, and holds it
// against replication's promises.
func (w *world) judge() {
	for _, n := range w.nodes {
		if n.r != nil {
			w.judgeLog(n)
			w.judgeAcks(n)
			if n.r.Leads() != 0 {
				for _, e := range n.log[:min(int(n.r.Confirm()), len(n.log))] {
					w.sure.add(e.value)
				}
			}
		}
	}
	for _, n := range w.nodes {
		if n.r != nil {
			w.judgeReads(n)
		}
	}
	for _, n := range w.nodes {
		if n.r != nil && n.r.Leads() != 0 {
			w.judgeMaster(n)
		}
	}
}

// has says whether a record is in a log, or was until retention took it.
func (w *world) has(n *node, v int) bool {
	p := w.written[v]
	return p.offset < len(n.log) && n.log[p.offset].value == v
}

// judgeLog: same offset and epoch, same record; and the replica knows its log.
func (w *world) judgeLog(n *node) {
	if l := n.r.Log(); l.End != uint64(len(n.log)) || l.Base != uint64(n.base) {
		w.fail("%s takes its log %v from %d for %v", n.id, n.log, n.base, n.r.Log())
	} else if want := logOf(n); !reflect.DeepEqual(want.Starts, l.Starts) && len(want.Starts)+len(l.Starts) > 0 {
		w.fail("%s takes its log %v from %d for %v", n.id, n.log, n.base, n.r.Log())
	}
	for i, e := range n.log {
		if p := w.written[e.value]; p.offset != i || p.epoch != e.epoch {
			w.fail("%s has %v at %d, which was not written there", n.id, e, i)
		}
	}
}

// judgeAcks: what may be acknowledged is.
func (w *world) judgeAcks(n *node) {
	n.waiting.each(func(v int) {
		p := w.written[v]
		verdict, _ := n.r.Judge(p.epoch, uint64(p.offset+1), now, w.until(n))
		if verdict != replica.Acknowledged {
			return
		}
		if !w.holds(n, p.epoch) {
			w.fail("%s acknowledges %d of epoch %d after its lease", n.id, v, p.epoch)
		}
		if s := n.view.Group.Settings; s.Mode == group.Sync && w.safe() && !w.gone && w.copies(v) < s.MinInSync {
			w.fail("%s acknowledges %d, of which there are %d copies", n.id, v, w.copies(v))
		}
		n.waiting.del(v)
		w.acked.add(v)
	})
}

// copies is on how many disks a record is.
func (w *world) copies(v int) (n int) {
	for _, o := range w.nodes {
		if p := w.written[v].offset; p < o.durable && o.log[p].value == v {
			n++
		}
	}
	return n
}

// holds says whether a process may act as master of an epoch: its session's lease has not
// passed, and the grant is to that session.
func (w *world) holds(n *node, epoch uint64) bool {
	return !w.passed[n.session] && w.group.Epoch == epoch && w.session == n.session
}

// safe says whether nothing acknowledged or read may ever be lost.
func (w *world) safe() bool {
	return w.limit[unclean] == 0 && w.settings.group.Policy != group.PolicyUnclean
}

// sync says whether all was written in mode sync.
func (w *world) sync() bool {
	return w.settings.group.Mode == group.Sync && w.other.Mode != group.Async
}

// judgeReads: what may be read is. What was read is there for ever, and a master shows
// all that was acknowledged before.
func (w *world) judgeReads(n *node) {
	leads := n.r.Leads()
	to := int(n.r.Readable(now, w.until(n)))
	if to > len(n.log) {
		w.fail("%s shows %d of %d records", n.id, to, len(n.log))
		return
	}
	if leads != 0 && to > 0 {
		if !w.holds(n, leads) {
			w.fail("%s serves epoch %d without its lease", n.id, leads)
		}
		if w.sync() && w.safe() && to < len(w.written) {
			w.acked.each(func(v int) {
				if w.written[v].offset >= to {
					w.fail("%s of epoch %d shows %d records, %d at %d was acknowledged", n.id, leads, to, v, w.written[v].offset)
				}
			})
		}
	}
	if w.settings.group.ReadLocal || w.other.ReadLocal {
		if to > n.durable {
			w.fail("%s shows %d records, %d are durable", n.id, to, n.durable)
		}
		return
	}
	for _, e := range n.log[:to] {
		if !w.sure.has(e.value) {
			w.fail("%s shows %d, which no master has confirmed", n.id, e.value)
		}
		w.read.add(e.value)
	}
}

// judgeMaster: it has what was acknowledged and read under older epochs; what is lost
// is what was counted.
func (w *world) judgeMaster(n *node) {
	epoch := n.r.Leads()
	if w.safe() && w.sync() {
		w.acked.each(func(v int) {
			if w.written[v].epoch < epoch && !w.has(n, v) {
				w.fail("%s leads epoch %d without %d, which was acknowledged", n.id, epoch, v)
			}
		})
	}
	if w.safe() && epoch >= w.newest {
		w.read.each(func(v int) {
			if w.written[v].epoch < epoch && !w.has(n, v) {
				w.fail("%s leads epoch %d without %d, which was read", n.id, epoch, v)
			}
		})
	}
	w.judgeLoss(n, epoch)
}

// judgeLoss: when everybody is back, no acknowledged record is lost in silence, and what
// the master says is what the cuts were.
func (w *world) judgeLoss(n *node, epoch uint64) {
	if len(w.mail) > 0 || w.gone {
		return
	}
	for _, o := range w.nodes {
		if o != n && (o.r == nil || o.r.Follows() != epoch) {
			return
		}
	}
	var counted set
	for _, r := range n.r.Loss(nil).Lost {
		for o := r.From; o < r.To; o++ {
			v := w.valueAt(int(o), r.Epoch)
			if v < 0 || w.has(n, v) || counted.has(v) {
				w.fail("%d of epoch %d is counted as lost, and is not, or twice", o, r.Epoch)
				return
			}
			counted.add(v)
		}
	}
	w.cut.each(func(v int) {
		if !w.expired.has(v) && w.written[v].offset >= n.base && !w.has(n, v) && !counted.has(v) {
			w.fail("%d at %d of epoch %d was cut, and is not counted as lost", v, w.written[v].offset, w.written[v].epoch)
		}
	})
	w.acked.each(func(v int) {
		if !w.expired.has(v) && w.written[v].offset >= n.base && !w.has(n, v) && !counted.has(v) {
			w.fail("%d at %d was acknowledged, is lost, and is not counted", v, w.written[v].offset)
		}
	})
}

func (w *world) valueAt(offset int, epoch uint64) int {
	for v, p := range w.written {
		if p.offset == offset && p.epoch == epoch {
			return v
		}
	}
	return -1
}
