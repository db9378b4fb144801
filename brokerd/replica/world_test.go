package replica_test

import (
	"fmt"
	"maps"
	"slices"

	"holdfast/brokerd/replica"
	"holdfast/coordinator/lease"
)

// Time stands still in the world: a lease is ahead or it has passed.
const (
	now    lease.Time = 2
	ahead  lease.Time = 3
	passed lease.Time = 1
)

// entry is a record: the epoch that wrote it, and what. Offsets are indexes.
type entry struct{ epoch, value uint64 }

type place struct {
	offset uint64
	entry
}

// node is a host: a process or none, and a disk.
type node struct {
	id      string
	r       *replica.Replica // nil while it is down
	boot    uint64
	saved   replica.Saved
	log     []entry
	durable int             // entries that survive a power loss
	lost    bool            // less than it had acknowledged
	writes  map[place]bool  // of this process, not acknowledged
	queue   []replica.Group // views on their way
}

type letter struct {
	from, to string
	message  replica.Message
	records  []entry
}

// world is a group with its surroundings.
type world struct {
	settings
	group     replica.Group
	index     uint64
	boots     uint64
	values    uint64
	nodes     []*node
	mail      []letter
	proposals []replica.Command
	lapsed    map[uint64]bool // epochs whose lease has passed
	used      map[string]int  // moves of a kind so far

	// What the judge knows.
	written map[place]bool // all records ever, by offset and epoch and value
	acked   map[place]uint64
	read    map[place]bool
	cuts    []replica.Range
	cut     map[place]bool // the same, by looking at the logs
	gone    bool           // something was lost other than by a cut
	trouble string
}

// settings are the bounds of a world.
type settings struct {
	replicas          int
	group             replica.Settings
	flushAsync        bool
	set               int            // members in the set at first; 0: all
	limit             map[string]int // how often a kind of move may happen
	mail              int
	letters, oldViews bool // letters are lost, doubled, reordered; views come late
	loseData, wipe    bool
	configure         bool
}

func newWorld(s settings) *world {
	w := &world{settings: s, lapsed: map[uint64]bool{}, used: map[string]int{}, written: map[place]bool{}, acked: map[place]uint64{}, read: map[place]bool{}, cut: map[place]bool{}}
	w.group = replica.Group{Settings: s.group, Next: s.group}
	for i := range s.replicas {
		id := string(rune('a' + i))
		w.group.Members = append(w.group.Members, replica.Member{ID: id})
		if s.set == 0 || i < s.set {
			w.group.InSync = append(w.group.InSync, id)
		}
		w.nodes = append(w.nodes, &node{id: id})
	}
	for i := range w.nodes {
		w.start(i)
	}
	return w
}

func (w *world) clone() *world {
	c := *w
	c.nodes = nil
	for _, n := range w.nodes {
		m := *n
		if n.r != nil {
			m.r = n.r.Clone()
		}
		m.log, m.writes, m.queue = slices.Clone(n.log), maps.Clone(n.writes), slices.Clone(n.queue)
		c.nodes = append(c.nodes, &m)
	}
	c.mail, c.proposals, c.cuts = slices.Clone(w.mail), slices.Clone(w.proposals), slices.Clone(w.cuts)
	c.lapsed, c.used, c.written, c.acked, c.read, c.cut = maps.Clone(w.lapsed), maps.Clone(w.used), maps.Clone(w.written), maps.Clone(w.acked), maps.Clone(w.read), maps.Clone(w.cut)
	return &c
}

func (w *world) key() string {
	s := fmt.Sprintf("%v|%d|%v|%v|%v|%v|%v|%v|", w.group, w.values, w.mail, w.proposals, w.lapsed, w.acked, w.read, w.cuts)
	for _, n := range w.nodes {
		s += fmt.Sprintf("%v%d%v%v%v", n.saved, n.durable, n.log, n.lost, n.queue)
		if n.r != nil {
			s += n.r.Key()
		}
	}
	return s + fmt.Sprint(w.used)
}

func (w *world) fail(format string, args ...any) {
	if w.trouble == "" {
		w.trouble = fmt.Sprintf(format, args...)
	}
}

func (w *world) node(id string) *node {
	return w.nodes[slices.IndexFunc(w.nodes, func(n *node) bool { return n.id == id })]
}

func (w *world) until(epoch uint64) lease.Time {
	if w.lapsed[epoch] {
		return passed
	}
	return ahead
}

// historyOf reads a log as a recovery does.
func historyOf(log []entry) replica.History {
	var h replica.History
	for i, e := range log {
		if e.epoch != h.Last() {
			h = append(h, replica.Start{Epoch: e.epoch, Offset: uint64(i)})
		}
	}
	return h
}

func (w *world) start(i int) {
	n := w.nodes[i]
	w.boots++
	n.boot = w.boots
	n.durable, n.writes, n.queue = len(n.log), map[place]bool{}, nil
	r, acts, err := replica.New(replica.Config{Self: n.id, Boot: n.boot, Saved: n.saved, Lost: n.lost, History: historyOf(n.log), End: uint64(len(n.log))})
	if err != nil {
		w.fail("%s does not start: %v", n.id, err)
		return
	}
	n.lost = false // the disk does not look foreign any more
	n.r = r
	w.perform(n, acts, nil)
}

// crash ends a process; keep says that what was not synced is still there.
func (w *world) crash(n *node, keep bool) {
	n.r = nil
	if !keep && n.durable < len(n.log) {
		n.log = n.log[:n.durable]
	}
	if w.flushAsync {
		n.lost = true // it cannot know what is gone
		if !keep && len(n.log) > 0 {
			n.log, w.gone = n.log[:len(n.log)-1], true
		}
	}
}

// append writes a record that nobody wrote before.
func (w *world) append(n *node, epoch uint64) place {
	w.values++
	p := place{uint64(len(n.log)), entry{epoch, w.values}}
	n.log = append(n.log, p.entry)
	for q := range w.written {
		if q.offset == p.offset && q.epoch == epoch {
			w.fail("two records of epoch %d at %d", epoch, p.offset)
		}
	}
	w.written[p] = true
	if w.flushAsync {
		w.perform(n, n.r.Synced(uint64(len(n.log))), nil)
	}
	return p
}

// perform does what a replica asks for.
func (w *world) perform(n *node, acts []replica.Act, records *letter) {
	for _, act := range acts {
		switch a := act.(type) {
		case replica.Store:
			n.saved = a.Saved
		case replica.SyncLog:
			n.durable = len(n.log)
		case replica.CutLog:
			for i := a.At; i < uint64(len(n.log)); i++ {
				w.cut[place{i, n.log[i]}] = true
			}
			w.cuts = append(w.cuts, a.Ranges...)
			n.log = n.log[:a.At]
			n.durable = min(n.durable, len(n.log)) // syncing the cut need not sync what is before it
		case replica.Begin:
			w.append(n, a.Epoch)
		case replica.Take:
			m := records.message.(replica.Append)
			n.log = append(n.log, records.records[a.From-m.From:a.To-m.From]...)
		case replica.Send:
			if len(w.mail) < w.settings.mail {
				w.mail = append(w.mail, letter{n.id, a.To, a.Message, nil})
			}
		case replica.Propose:
			if len(w.proposals) < 4 && !slices.Contains(w.proposals, a.Command) {
				w.proposals = append(w.proposals, a.Command)
			}
		}
	}
	if _, ok := firstTake(acts); ok && w.flushAsync && n.r != nil {
		w.perform(n, n.r.Synced(uint64(len(n.log))), nil)
	}
}

func firstTake(acts []replica.Act) (replica.Take, bool) {
	for _, a := range acts {
		if t, ok := a.(replica.Take); ok {
			return t, true
		}
	}
	return replica.Take{}, false
}

// apply commits an entry.
func (w *world) apply(c replica.Command) {
	w.index++
	w.group, _ = w.group.Apply(w.index, c)
	if w.oldViews {
		for _, n := range w.nodes {
			if n.queue = append(n.queue, w.group); len(n.queue) > 2 {
				n.queue = n.queue[1:]
			}
		}
	}
	if w.group.Epoch != 0 && !w.group.Holds(w.group.Master) {
		w.fail("%s holds epoch %d outside of the set %v", w.group.Master, w.group.Epoch, w.group.InSync)
	}
}
