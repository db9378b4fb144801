package replica_test

import (
	"fmt"
	"slices"

	"holdfast/brokerd/replica"
)

// move is one thing that can happen.
type move struct {
	kind string
	i, j int
}

func (m move) String() string { return fmt.Sprintf("%s %d %d", m.kind, m.i, m.j) }

// moves returns what can happen now.
func (w *world) moves() []move {
	var out []move
	add := func(kind string, i, j int) {
		if most, ok := w.limit[kind]; !ok || w.used[kind] < most {
			out = append(out, move{kind, i, j})
		}
	}
	for i := range w.mail {
		add("deliver", i, 0)
		if w.letters {
			add("lose", i, 0)
			add("double", i, 0)
		} else {
			break
		}
	}
	for i := range w.proposals {
		add("commit", i, 0)
		add("drop", i, 0)
		add("repeat", i, 0)
	}
	if e := w.group.Epoch; e != 0 {
		if !w.lapsed[e] {
			add("lapse", 0, 0)
		} else {
			add("fence", 0, 0)
		}
	}
	for i, n := range w.nodes {
		w.nodeMoves(n, i, add)
	}
	if w.configure {
		add("configure", 0, 0)
	}
	return out
}

func (w *world) nodeMoves(n *node, i int, add func(string, int, int)) {
	if n.r == nil {
		add("start", i, 0)
		return
	}
	add("view", i, 0)
	if len(n.queue) > 0 {
		add("late view", i, 0)
	}
	if n.durable < len(n.log) {
		add("sync", i, 0)
	}
	add("crash", i, 0)
	if w.loseData {
		add("power", i, 0)
	}
	if w.wipe {
		add("wipe", i, 0)
	}
	if w.group.Epoch == 0 {
		add("grant", i, 0)
		if w.settings.group.Policy == replica.PolicyUnclean {
			add("unclean", i, 0)
		}
	} else if w.group.Master == n.id && n.r.Leads() != w.group.Epoch {
		add("lead", i, 0)
	}
	if e := n.r.Leads(); e != 0 {
		if n.r.Admit(now, w.until(e)) == nil {
			add("write", i, 0)
		}
		for j := range w.nodes {
			if j != i {
				add("batch", i, j)
				add("grow", i, j)
				add("shrink", i, j)
			}
		}
	}
	add("recontact", i, 0)
}

// do makes a move.
func (w *world) do(m move) {
	w.used = cloneCount(w.used, m.kind, w.limit)
	switch m.kind {
	case "deliver", "double", "lose":
		l := w.mail[m.i]
		if m.kind != "double" {
			w.mail = slices.Delete(slices.Clone(w.mail), m.i, m.i+1)
		}
		if m.kind != "lose" {
			w.receive(l)
		}
	case "commit", "repeat", "drop":
		c := w.proposals[m.i]
		if m.kind != "repeat" {
			w.proposals = slices.Delete(slices.Clone(w.proposals), m.i, m.i+1)
		}
		if m.kind != "drop" {
			w.apply(c)
		}
	case "lapse":
		w.lapsed[w.group.Epoch] = true
	case "fence":
		w.apply(replica.End{Epoch: w.group.Epoch})
	case "configure":
		next := w.settings.group
		next.MinInSync = 3 - next.MinInSync
		w.apply(replica.Configure{Settings: next})
	default:
		w.doNode(m, w.nodes[m.i])
	}
	if w.trouble == "" {
		w.judge()
	}
}

func (w *world) doNode(m move, n *node) {
	switch m.kind {
	case "start":
		w.start(m.i)
	case "view":
		w.perform(n, n.r.View(w.group), nil)
	case "late view":
		g := n.queue[0]
		n.queue = n.queue[1:]
		w.perform(n, n.r.View(g), nil)
	case "sync":
		n.durable = len(n.log)
		w.perform(n, n.r.Synced(uint64(n.durable)), nil)
	case "crash", "power":
		w.crash(n, m.kind == "crash")
	case "wipe":
		n.r, n.log, n.durable, n.saved, n.lost, w.gone = nil, nil, 0, replica.Saved{}, true, true
	case "grant", "unclean":
		w.apply(replica.Grant{Member: n.id, Unclean: m.kind == "unclean"})
	case "lead":
		if acts, err := n.r.Lead(w.group.Epoch, 1, now, w.until(w.group.Epoch)); err == nil {
			w.perform(n, acts, nil)
		}
	case "write":
		epoch := n.r.Leads()
		n.r.Appended(1)
		n.writes[w.append(n, epoch)] = true
	case "batch":
		to := w.nodes[m.j]
		if b, ok := n.r.Batch(n.r.Acked(to.id), 2); ok && len(w.mail) < w.settings.mail {
			w.mail = append(w.mail, letter{n.id, to.id, b, slices.Clone(n.log[b.From:b.To])})
		}
	case "grow":
		w.perform(n, n.r.Add(w.nodes[m.j].id), nil)
	case "shrink":
		w.perform(n, n.r.Remove(w.nodes[m.j].id), nil)
	case "recontact":
		w.perform(n, n.r.Recontact(), nil)
	}
}

func (w *world) receive(l letter) {
	if n := w.node(l.to); n.r != nil {
		w.perform(n, n.r.Receive(l.from, l.message, now), &l)
	}
}

func cloneCount(used map[string]int, kind string, limit map[string]int) map[string]int {
	if _, ok := limit[kind]; ok {
		used[kind]++
	}
	return used
}
