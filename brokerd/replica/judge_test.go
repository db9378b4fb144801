package replica_test

import (
	"slices"

	"holdfast/brokerd/replica"
)

// judge lets every process tell and show all that it may at this moment, and holds it
// against replication's promises.
func (w *world) judge() {
	for _, n := range w.nodes {
		if n.r != nil {
			w.judgeLog(n)
			w.judgeAcks(n)
			w.judgeReads(n)
		}
	}
	for _, n := range w.nodes {
		if n.r != nil && n.r.Leads() != 0 {
			w.judgeMaster(n)
		}
	}
}

// judgeLog: same offset and epoch, same record; and the replica knows its log.
func (w *world) judgeLog(n *node) {
	if n.r.End() != uint64(len(n.log)) || n.r.Durable() < uint64(n.durable) && !w.flushAsync || !slices.Equal(n.r.History(), historyOf(n.log)) {
		w.fail("%s takes its log %v for %v, end %d, durable %d", n.id, n.log, n.r.History(), n.r.End(), n.r.Durable())
	}
	for i, e := range n.log {
		if !w.written[place{uint64(i), e}] {
			w.fail("%s has %v at %d, which was not written there", n.id, e, i)
		}
	}
}

// judgeAcks: what may be acknowledged is.
func (w *world) judgeAcks(n *node) {
	for p := range n.writes {
		verdict, _ := n.r.Judge(p.epoch, p.offset+1, now, w.until(p.epoch))
		if verdict != replica.Acknowledged {
			continue
		}
		if w.lapsed[p.epoch] {
			w.fail("%s acknowledges %v after its lease", n.id, p)
		}
		delete(n.writes, p)
		w.acked[p] = p.epoch
	}
}

// judgeReads: what may be read is. What was read is there for ever, and a master shows
// all that was acknowledged before.
func (w *world) judgeReads(n *node) {
	leads := n.r.Leads()
	to := n.r.Readable(now, w.until(leads))
	if to > uint64(len(n.log)) {
		w.fail("%s shows %d of %d records", n.id, to, len(n.log))
		return
	}
	if leads != 0 && to > 0 && w.settings.group.Mode == replica.Sync && w.settings.group.Policy != replica.PolicyUnclean {
		if w.lapsed[leads] {
			w.fail("%s serves after its lease", n.id)
		}
		for p := range w.acked {
			if p.offset >= to {
				w.fail("%s of epoch %d shows %d records, %v was acknowledged", n.id, leads, to, p)
			}
		}
	}
	for i := range to {
		w.read[place{i, n.log[i]}] = true
	}
}

// judgeMaster: it has what was acknowledged and read under older epochs; what is lost
// is what was counted.
func (w *world) judgeMaster(n *node) {
	epoch := n.r.Leads()
	safe := w.settings.group.Policy != replica.PolicyUnclean
	has := func(p place) bool { return p.offset < uint64(len(n.log)) && n.log[p.offset] == p.entry }
	if safe && w.settings.group.Mode == replica.Sync {
		for p, by := range w.acked {
			if by < epoch && !has(p) {
				w.fail("%s leads epoch %d without %v, which was acknowledged", n.id, epoch, p)
			}
		}
	}
	if safe && epoch >= w.group.Epoch {
		for p := range w.read {
			if p.epoch < epoch && !has(p) {
				w.fail("%s leads epoch %d without %v, which was read", n.id, epoch, p)
			}
		}
	}
	lost := map[place]bool{}
	for p := range w.cut {
		if !has(p) {
			lost[place{p.offset, entry{p.epoch, 0}}] = true
		}
	}
	counted := uint64(0)
	for _, r := range replica.Lost(w.cuts, n.r.History(), n.r.End()) {
		counted += r.To - r.From
		for i := r.From; i < r.To; i++ {
			if !lost[place{i, entry{r.Epoch, 0}}] {
				w.fail("%v is counted as lost, and is not", r)
			}
		}
	}
	if counted != uint64(len(lost)) {
		w.fail("%d records are counted as lost, %d are", counted, len(lost))
	}
	for _, o := range w.nodes {
		if o != n && (o.r == nil || o.r.Follows() != epoch) {
			return
		}
	}
	for p := range w.acked { // everybody is back: no acknowledged record is lost in silence
		if !w.gone && p.epoch < epoch && !has(p) && !lost[place{p.offset, entry{p.epoch, 0}}] {
			w.fail("%v was acknowledged, is lost, and is not counted", p)
		}
	}
}
