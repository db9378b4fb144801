package replica_test

import "holdfast/fsm/group"

// scenes are the checker's configurations. Each is small enough to be exhausted, and has
// some of the rules at its heart.
func scenes() map[string]*scene {
	sync := syncOf(1, group.PolicyInSync)
	async := group.Settings{Mode: group.Async, MinInSync: 1, Policy: group.PolicyInSync}
	dirty := syncOf(1, group.PolicyUnclean)
	of := func(replicas int, g group.Settings, change func(*settings)) settings {
		s := settings{replicas: replicas, group: g, other: g, mail: 2, batch: 2, window: 4}
		if change != nil {
			change(&s)
		}
		return s
	}
	return map[string]*scene{
		"failover": {settings: of(2, sync, nil), allowed: map[kind]int{write: 2, send: 3, life: 2, lapse: 1, grant: 1}},
		"async":    {settings: of(2, async, nil), allowed: map[kind]int{write: 2, send: 2, life: 2, lapse: 1, grant: 1}},
		"shrink":   {settings: of(2, sync, nil), allowed: map[kind]int{write: 1, send: 2, life: 2, shrink: 1, commit: 1, lapse: 1, grant: 1}},
		"grow": {settings: of(2, sync, func(s *settings) { s.set = 1 }),
			allowed: map[kind]int{write: 1, send: 2, life: 1, grow: 1, commit: 1, again: 1, lapse: 1, grant: 1}},
		"late views": {settings: of(2, sync, func(s *settings) { s.set, s.lateViews = 1, true }), before: func(w *world, do func(k kind, i, j int), settle func()) {
			settle()
			do(grow, 0, 1)
		}, allowed: map[kind]int{write: 1, send: 1, commit: 1, lateView: 2, lapse: 1, grant: 1}},
		// The set changes and an old proposal is committed late.
		"version": {settings: of(2, sync, nil), before: func(w *world, do func(k kind, i, j int), settle func()) {
			do(shrink, 0, 1)
			do(commit, 0, 0)
			settle()
			do(grow, 0, 1)
			do(commit, 1, 0)
			settle()
			do(shrink, 0, 1)
		}, allowed: map[kind]int{write: 1, send: 1, grow: 1, commit: 2, lapse: 1, grant: 1}},
		// c lacks what is acknowledged, the new master b does not know how much that is.
		"before the start": {settings: of(3, sync, nil), before: beforeTheStart,
			allowed: map[kind]int{send: 1, life: 2, grow: 1, commit: 1, lapse: 1, grant: 1}},
		"power": {settings: of(2, sync, nil), allowed: map[kind]int{write: 1, send: 2, life: 2, power: 1, start: 1, lapse: 1, grant: 1}},
		"unsynced leader": {settings: of(2, sync, nil), before: func(w *world, do func(k kind, i, j int), settle func()) {
			do(write, 0, 0)
			do(send, 0, 1)
			do(deliver, 0, 0)
			do(lapse, 0, 0)
			do(fence, 0, 0)
			do(reopen, 0, 0)
			do(grant, 1, 0)
			do(view, 1, 0)
			do(view, 0, 0)
			w.mail = nil
		}, allowed: map[kind]int{send: 2, life: 1, power: 1, start: 1, grant: 1}},
		"wipe": {settings: of(2, sync, nil), before: func(w *world, do func(k kind, i, j int), settle func()) {
			do(write, 0, 0)
			settle()
			do(wipe, 1, 0)
		}, allowed: map[kind]int{start: 1, commit: 1, life: 1, send: 1, lapse: 1, grant: 1}},
		"wiped master": {settings: of(2, sync, nil), before: func(w *world, do func(k kind, i, j int), settle func()) {
			do(write, 0, 0)
			settle()
			do(wipe, 0, 0)
			do(fence, 0, 0)
		}, allowed: map[kind]int{start: 1, commit: 1, life: 2, send: 1, grant: 2, lapse: 1}},
		// b has a tail of epoch 1 that the new master does not have.
		"diverged": {settings: of(3, sync, nil), before: diverged,
			allowed: map[kind]int{send: 1, life: 1, write: 1, lapse: 1, grant: 1, crash: 1, start: 1}},
		"late answers": {settings: of(3, sync, func(s *settings) { s.letters = true }), before: diverged,
			allowed: map[kind]int{double: 1, life: 2, tick: 1, send: 1}},
		"early acknowledgement": {settings: of(3, sync, func(s *settings) { s.letters = true }), before: diverged,
			allowed: map[kind]int{life: 1, send: 1, lapse: 1, grant: 1}},
		"older epoch": {settings: of(3, sync, nil), before: lateAppend, allowed: map[kind]int{life: 1, send: 1, lapse: 1, grant: 1}},
		"forgotten epoch": {settings: of(3, sync, nil), before: forgotten,
			allowed: map[kind]int{crash: 1, start: 1, life: 1, grant: 1}},
		"former answer": {settings: of(2, sync, func(s *settings) { s.letters, s.mail = true, 4 }), before: formerAnswer,
			allowed: map[kind]int{crash: 1, start: 1, life: 1, lapse: 1, grant: 1}},
		"same epoch": {settings: of(2, sync, func(s *settings) { s.letters = true }),
			allowed: map[kind]int{write: 1, send: 2, life: 2, crash: 1, start: 1, double: 1, rewind: 1}},
		"restarts": {settings: of(2, sync, nil), allowed: map[kind]int{write: 1, send: 1, life: 2, crash: 1, start: 1, grant: 2, commit: 1}},
		"sessions": {settings: of(2, sync, nil), allowed: map[kind]int{write: 1, send: 1, life: 1, lapse: 1, reopen: 1, grant: 1, commit: 1, release: 1}},
		"unclean": {settings: of(2, dirty, func(s *settings) { s.set = 1 }),
			allowed: map[kind]int{write: 1, send: 2, life: 2, lapse: 2, unclean: 1, grant: 1}},
		"recall": {settings: of(2, sync, nil), allowed: map[kind]int{write: 1, send: 2, life: 1, recall: 1, commit: 1, grant: 1}},
		"mode":   {settings: of(2, sync, func(s *settings) { s.other = syncOf(2, group.PolicyInSync) }), allowed: map[kind]int{write: 1, send: 1, configure: 1, commit: 1, grant: 1}},
		"members": {settings: of(2, sync, func(s *settings) { s.spare = 1 }), before: func(w *world, do func(k kind, i, j int), settle func()) {
			do(join, 2, 0)
			do(view, 2, 0)
			do(commit, len(w.proposals)-1, 0)
			settle()
		}, allowed: map[kind]int{commit: 1, grow: 1, leave: 1, send: 1, lapse: 1, grant: 1}},
	}
}

// beforeTheStart: a write of a's is acknowledged and on b, not on c, which has left the
// set; b becomes master without having heard of the confirm offset.
func beforeTheStart(w *world, do func(k kind, i, j int), settle func()) {
	do(shrink, 0, 2)
	do(commit, 0, 0)
	settle()
	do(write, 0, 0)
	do(syncLog, 0, 0)
	do(send, 0, 1)
	do(deliver, 0, 0) // to b
	do(deliver, 0, 0) // its acknowledgement of what was before
	do(syncLog, 1, 0)
	do(deliver, 0, 0)
	do(lapse, 0, 0)
	do(fence, 0, 0)
	do(crash, 0, 0)
	do(grant, 1, 0)
	do(view, 1, 0)
	do(view, 2, 0)
	do(lead, 1, 0)
}

// diverged: b has a write of a's that c does not have, and c becomes master.
func diverged(w *world, do func(k kind, i, j int), settle func()) {
	do(write, 0, 0)
	do(syncLog, 0, 0)
	do(send, 0, 1)
	do(deliver, 0, 0)
	do(syncLog, 1, 0)
	do(crash, 0, 0)
	w.mail = nil
	do(fence, 0, 0)
	do(grant, 2, 1) // without a in the set
	do(view, 2, 0)
	do(lead, 2, 0)
	do(syncLog, 2, 0)
}

// late: a's records for b are under way when c becomes master.
func lateAppend(w *world, do func(k kind, i, j int), settle func()) {
	do(write, 0, 0)
	do(syncLog, 0, 0)
	do(send, 0, 1)
	do(lapse, 0, 0)
	do(fence, 0, 0)
	do(grant, 2, 0)
	do(view, 2, 0)
	do(shrink, 0, 1) // of a master that is none any more
	do(lead, 2, 0)
	do(syncLog, 2, 0)
	do(shrink, 2, 0)
	do(commit, len(w.proposals)-1, 0)
	do(view, 2, 0)
}

// forgotten: b leads, with c, and has a write acknowledged; a, which led before, has heard
// nothing of that.
func forgotten(w *world, do func(k kind, i, j int), settle func()) {
	talk := func() {
		do(life, 1, 2)
		for range 8 {
			for len(w.mail) > 0 {
				do(deliver, 0, 0)
			}
			if n := w.nodes[2]; n.durable < len(n.log) {
				do(syncLog, 2, 0)
			} else if _, ok := w.nodes[1].r.Next("c", 9); ok {
				do(send, 1, 2)
			}
		}
	}
	do(lapse, 0, 0)
	do(fence, 0, 0)
	do(grant, 1, 0)
	do(view, 1, 0)
	do(view, 2, 0)
	do(lead, 1, 0)
	do(syncLog, 1, 0)
	talk()
	do(shrink, 1, 0)
	do(commit, len(w.proposals)-1, 0)
	do(view, 1, 0)
	do(write, 1, 0)
	do(syncLog, 1, 0)
	talk()
	do(crash, 2, 0)
}

// formerAnswer: an answer to a process of b's is still under way when that has long gone on.
func formerAnswer(w *world, do func(k kind, i, j int), settle func()) {
	w.settings.letters = true
	do(crash, 1, 0)
	do(start, 1, 0)
	do(view, 1, 0)
	do(life, 0, 1)
	do(deliver, 0, 0) // to b, which asks
	do(deliver, 0, 0) // to a, which answers
	do(double, 0, 0)
	do(deliver, 1, 0)
	do(write, 0, 0)
	do(syncLog, 0, 0)
	do(send, 0, 1)
	do(deliver, 1, 0)
	do(deliver, 1, 0)
	do(syncLog, 1, 0)
	do(deliver, 1, 0)
}
