package replica_test

import (
	"fmt"
	"math/bits"
	"slices"
	"time"

	"holdfast/brokerd/replica"
	"holdfast/coordinator/lease"
	"holdfast/fsm/group"
)

// Time stands still in the world: a lease is ahead or it has passed.
const (
	now    lease.Time = 2
	ahead  lease.Time = 3
	passed lease.Time = 1
)

// entry is a record: the epoch that wrote it, and what: the index into world.written.
// All records have length 1, so offsets are indexes.
type entry struct {
	epoch uint64
	value int
}

// set is a set of values.
type set [5]uint64

const maxValues = len(set{}) * 64

func (s *set) add(v int)     { s[v/64] |= 1 << (v % 64) }
func (s *set) del(v int)     { s[v/64] &^= 1 << (v % 64) }
func (s set) has(v int) bool { return s[v/64]&(1<<(v%64)) != 0 }
func (s set) each(f func(v int)) {
	for i, w := range s {
		for ; w != 0; w &= w - 1 {
			f(i*64 + bits.TrailingZeros64(w))
		}
	}
}

func (s set) len() (n int) {
	s.each(func(int) { n++ })
	return n
}

// node is a host: a process or none, and a disk.
type node struct {
	id      string
	r       *replica.Replica // nil while it is down
	boot    uint64
	session uint64
	viewKey string
	view    replica.View // the newest that it was given
	queue   []late       // on their way
	waiting set          // writes of this process that nobody was told of
	stumble int          // it crashes before this act of the next call, counted from 1; 0: it does not

	// The disk. What is before base is gone for the replica; the judge remembers it.
	saved   replica.Saved
	log     []entry
	base    int
	durable int             // entries that survive a power loss
	cuts    []replica.Range // as noted
	lost    bool            // less than it had acknowledged
	tail    []entry         // a cut that was not synced, from torn on
	torn    int
}

// late is a view that may come late.
type late struct {
	view replica.View
	key  string
}

type letter struct {
	from, to int
	message  replica.Message
	records  []entry
	key      string
}

// proposal is a command that was proposed.
type proposal struct {
	command group.Command
	key     string
}

func newLetter(from, to int, m replica.Message, records []entry) letter {
	return letter{from, to, m, records, fmt.Sprint(from, to, m, records)}
}

// world is a group with its surroundings.
type world struct {
	*settings
	group     group.Group
	groupKey  string
	index     uint64 // of the last entry that changed something
	session   uint64 // of the grant
	grants    []given
	newest    uint64 // epoch ever granted
	sessions  uint64 // so far
	passed    map[uint64]bool
	nodes     []*node
	mail      []letter
	proposals []proposal // that were ever made: each may be committed at any time, again too
	used      [kinds]uint8

	// What the judge knows.
	written []entryAt // by value
	acked   set
	read    set
	sure    set // confirmed by a master
	cut     set
	expired set  // retention took it somewhere
	gone    bool // something was lost other than by a cut
	trouble string
}

// given is a grant: epoch and session.
type given struct{ epoch, session uint64 }

type entryAt struct {
	offset int
	epoch  uint64
}

// settings are the bounds of a world.
type settings struct {
	replicas  int
	spare     int // hosts that are no members at first
	group     group.Settings
	flush     string       // "" is sync
	set       int          // members in the set at first; 0: all
	limit     map[kind]int // how often a kind of move may happen; not in it: any time
	mail      int
	batch     uint64
	letters   bool // letters are lost, doubled, reordered
	lateViews bool
	window    uint64
	other     group.Settings // for configure
}

func newWorld(s *settings) *world {
	w := &world{settings: s, passed: map[uint64]bool{}}
	var members []group.Member
	for i := range s.replicas + s.spare {
		id := string(rune('a' + i))
		if i < s.replicas {
			members = append(members, group.Member{ID: id})
		}
		w.nodes = append(w.nodes, &node{id: id})
	}
	w.index = 1
	g, err := group.New(1, members, s.group)
	if err != nil {
		panic(err)
	}
	if s.set != 0 {
		g.InSync = g.InSync[:s.set]
	}
	w.setGroup(g)
	for i := range w.nodes {
		w.start(i)
	}
	for i := range s.replicas {
		// All return at first, as nobody knows what their disks had.
		w.show(w.nodes[i], w.now())
		for _, p := range w.proposals {
			w.apply(p.command)
		}
		w.proposals = nil
		w.show(w.nodes[i], w.now())
	}
	return w
}

func (w *world) clone() *world {
	c := *w
	c.nodes = make([]*node, len(w.nodes))
	for i, n := range w.nodes {
		m := *n
		if n.r != nil {
			m.r = n.r.Clone()
		}
		m.log = slices.Clip(n.log)
		c.nodes[i] = &m
	}
	c.mail, c.proposals, c.written = slices.Clip(w.mail), slices.Clip(w.proposals), slices.Clip(w.written)
	c.passed = make(map[uint64]bool, len(w.passed))
	for k, v := range w.passed {
		c.passed[k] = v
	}
	return &c
}

func (w *world) fail(format string, args ...any) {
	if w.trouble == "" {
		w.trouble = fmt.Sprintf(format, args...)
	}
}

func (w *world) node(id string) int {
	return slices.IndexFunc(w.nodes, func(n *node) bool { return n.id == id })
}

// until is the deadline of a host's session.
func (w *world) until(n *node) lease.Time {
	if w.passed[n.session] {
		return passed
	}
	return ahead
}

// logOf reads a log as a recovery does.
func logOf(n *node) replica.Log {
	l := replica.Log{Base: uint64(n.base), End: uint64(len(n.log))}
	for i := n.base; i < len(n.log); i++ {
		if e := n.log[i].epoch; e != l.Last() {
			l.Starts = append(l.Starts, replica.Start{Epoch: e, Offset: uint64(i)})
		}
	}
	return l
}

func (w *world) start(i int) {
	n := w.nodes[i]
	w.sessions++
	n.boot, n.session = w.sessions, w.sessions
	n.durable, n.waiting, n.queue, n.tail, n.stumble = len(n.log), set{}, nil, nil, 0
	n.view, n.viewKey = replica.View{}, ""
	if n.base > len(n.log) {
		n.base = len(n.log)
	}
	r, acts, err := replica.New(replica.Config{
		Self: n.id, Boot: n.boot, Saved: n.saved, Lost: n.lost, Log: logOf(n), Cuts: n.cuts, Window: w.window, Slow: time.Second,
	})
	if err != nil {
		w.fail("%s does not start: %v", n.id, err)
		return
	}
	n.r = r
	w.perform(i, acts, nil)
	n.lost = false // the disk does not look foreign any more
}

// crash ends a process; keep says that what was not synced is still there.
func (w *world) crash(n *node, keep bool) {
	n.r = nil
	w.passed[n.session] = true
	if !keep {
		if n.durable < len(n.log) {
			n.log = n.log[:n.durable:n.durable]
		}
		if n.tail != nil {
			n.log = append(slices.Clip(n.log[:n.torn]), n.tail...)
		}
		n.base = min(n.base, len(n.log))
	}
	n.tail = nil
	if w.flush == "async" {
		n.lost = true // it cannot know what is gone
		if !keep && len(n.log) > n.base {
			n.log, w.gone = n.log[:len(n.log)-1:len(n.log)-1], true
		}
	}
}

// write appends a record that nobody wrote before.
func (w *world) write(i int, epoch uint64) int {
	n, v := w.nodes[i], len(w.written)
	for _, p := range w.written {
		if p.offset == len(n.log) && p.epoch == epoch {
			w.fail("two records of epoch %d at %d", epoch, p.offset)
		}
	}
	w.written = append(w.written, entryAt{len(n.log), epoch})
	n.log = append(n.log, entry{epoch, v})
	return v
}

// perform does what a replica asks for.
func (w *world) perform(i int, acts []replica.Act, l *letter) {
	n := w.nodes[i]
	for k, act := range acts {
		if n.stumble == k+1 {
			w.crash(n, false)
			return
		}
		w.act(i, act, l)
	}
	if len(acts) > 0 {
		n.stumble = 0
	}
	if w.flush == "async" && n.r != nil && n.r.Durable() < uint64(len(n.log)) && n.r.Log().End == uint64(len(n.log)) {
		n.durable = len(n.log)
		w.perform(i, n.r.Synced(uint64(len(n.log))), nil)
	}
}

func (w *world) act(i int, act replica.Act, l *letter) {
	n := w.nodes[i]
	switch a := act.(type) {
	case replica.Store:
		n.saved = a.Saved
	case replica.SyncLog:
		n.durable, n.tail = len(n.log), nil
	case replica.CutLog:
		w.noteCut(n, a.Ranges)
		if n.durable == len(n.log) {
			n.tail, n.torn = slices.Clone(n.log[a.At:]), int(a.At)
		}
		n.log = n.log[:a.At:a.At]
		n.durable = min(n.durable, len(n.log)) // syncing the cut need not sync what is before it
	case replica.Discard:
		w.noteCut(n, a.Ranges)
		n.log, n.base, n.durable, n.tail = nil, 0, 0, nil
	case replica.Rebase:
		n.log = slices.Clone(l.records)
		n.base, n.durable, n.tail = int(a.At), int(a.At), nil
	case replica.Begin:
		w.write(i, a.Epoch)
	case replica.Take:
		m := l.message.(replica.Append)
		n.log = append(n.log, l.records[a.From-m.From:a.To-m.From]...)
	case replica.Send:
		if j := w.node(a.To); len(w.mail) < w.settings.mail {
			var records []entry
			if m, ok := a.Message.(replica.Answer); ok && m.Reset {
				records = slices.Clone(n.log[:m.Base]) // for the judge, who remembers what retention took
			}
			w.mail = append(w.mail, newLetter(i, j, a.Message, records))
		}
	case replica.Propose:
		if p := (proposal{a.Command, fmt.Sprintf("%T%v", a.Command, a.Command)}); len(w.proposals) < 12 && !slices.Contains(w.proposals, p) {
			w.proposals = append(w.proposals, p)
		}
	}
}

func (w *world) noteCut(n *node, ranges []replica.Range) {
	n.cuts = append(slices.Clip(n.cuts), ranges...)
	for _, r := range ranges {
		for o := r.From; o < r.To; o++ {
			w.cut.add(n.log[o].value)
		}
	}
}

// apply commits an entry.
func (w *world) apply(c group.Command) bool {
	g, err := w.group.Apply(w.index+1, c)
	if err != nil {
		return false
	}
	w.index++
	w.setGroup(g)
	if w.lateViews {
		for _, n := range w.nodes {
			if n.queue = append(slices.Clip(n.queue), late{replica.View{Index: w.index, Group: g}, w.groupKey}); len(n.queue) > 3 {
				n.queue = n.queue[1:]
			}
		}
	}
	if g.Epoch != 0 && !g.Holds(g.Master) {
		w.fail("%s holds epoch %d outside of the set %v", g.Master, g.Epoch, g.InSync)
	}
	return true
}

func (w *world) setGroup(g group.Group) {
	w.group, w.groupKey = g, fmt.Sprint(g)
	w.newest = max(w.newest, g.Epoch)
}

// give gives a grant to the session of a host, if the state allows it.
func (w *world) give(n *node, c group.Grant) {
	if w.apply(c) {
		w.session = n.session
		w.grants = append(slices.Clip(w.grants), given{w.group.Epoch, n.session})
	}
}

// show gives a host a state of the group, which may be older than one that it was given.
func (w *world) show(n *node, v replica.View) {
	v.Mine = slices.Contains(w.grants, given{v.Group.Epoch, n.session})
	if v.Index >= n.view.Index {
		n.view, n.viewKey = v, fmt.Sprint(v)
	}
	w.perform(w.node(n.id), n.r.View(v), nil)
}

func (w *world) now() replica.View { return replica.View{Index: w.index, Group: w.group} }
