package replica_test

import (
	"crypto/sha256"
	"encoding/binary"
	"flag"
	"strings"
	"testing"
)

var (
	bound  = flag.Int("states", 1000000, "how many states of a configuration the checker visits at most; more is a failure")
	more   = flag.Int("more", 0, "how much larger the bounds of the checker's configurations are")
	config = flag.String("config", "", "the checker's configuration to visit alone")
)

// key is a state: what is left out of it follows from what is in it.
func (w *world) key(b []byte, ids []string) []byte {
	put := func(n ...uint64) {
		for _, v := range n {
			b = binary.AppendUvarint(b, v)
		}
	}
	flag := func(f bool) {
		if f {
			b = append(b, 1)
		} else {
			b = append(b, 0)
		}
	}
	put(w.index, w.session, w.newest, w.sessions, uint64(len(w.written)))
	b = append(b, w.groupKey...)
	for _, n := range w.nodes {
		b = append(b, '|')
		flag(w.passed[n.session])
		put(n.boot, n.session, n.saved.Epoch, n.saved.Incarnation, uint64(n.durable), uint64(n.base), uint64(len(n.log)), uint64(n.stumble), uint64(n.torn))
		flag(n.saved.Owes)
		flag(n.lost)
		for _, e := range n.log {
			put(uint64(e.value))
		}
		for _, v := range n.queue {
			b = append(append(b, v.key...), '|')
		}
		for _, e := range n.tail {
			put(uint64(e.value))
		}
		put(n.waiting[0])
		b = append(b, '|')
		if n.r != nil {
			b = n.r.Key(b, ids)
			b = append(b, n.viewKey...)
		}
	}
	for s := range w.sessions {
		flag(w.passed[s+1])
	}
	for _, p := range w.written {
		put(uint64(p.offset), p.epoch)
	}
	put(w.acked[0], w.read[0], w.sure[0], w.cut[0], w.expired[0])
	flag(w.gone)
	for _, l := range w.mail {
		b = append(append(b, l.key...), '|')
	}
	for _, p := range w.proposals {
		b = append(append(b, p.key...), '|')
	}
	return append(b, w.used[:]...)
}

// seen is how a state was reached.
type seen struct {
	w     *world
	from  *seen
	by    move
	depth int
}

func (s *seen) story() string {
	var lines []string
	for ; s.from != nil; s = s.from {
		lines = append([]string{s.by.String()}, lines...)
	}
	return strings.Join(lines, "\n")
}

// settle lets all happen that leads somewhere, in one order, until nothing does: views,
// messages, syncs. With acting, masters send too.
func (w *world) settle(t *testing.T) {
	t.Helper()
	for range 1000 {
		var next *move
		for _, m := range w.moves(nil) {
			switch m.kind {
			case view, deliver, syncLog, send, life, lead:
				if next == nil || m.kind < next.kind {
					next = &m
				}
			}
		}
		if next == nil {
			return
		}
		if w.do(*next); w.trouble != "" {
			t.Fatalf("it does not settle: %s", w.trouble)
		}
	}
	t.Fatal("it does not settle")
}

// none are the moves that a configuration has to allow by name.
func bounds(allowed map[kind]int) map[kind]int {
	m := map[kind]int{}
	for _, k := range []kind{
		lose, double, lapse, reopen, configure, recall, join, leave, start, crash, power, wipe, stumble, grant, unclean, write, send, life,
		rewind, grow, shrink, tick, release, trim, commit, again, lateView,
	} {
		m[k] = 0
	}
	for k, n := range allowed {
		m[k] = n
		if n > 0 {
			m[k] += *more
		}
	}
	return m
}

// scene is a configuration of the checker: a world, what has happened before, and what may
// happen from there.
type scene struct {
	settings settings
	before   func(w *world, do func(k kind, i, j int), settle func())
	allowed  map[kind]int
}

// visit explores a scene.
func (s *scene) visit(t *testing.T) {
	w := newWorld(&s.settings)
	letters := s.settings.letters
	w.settings.limit, w.settings.letters = map[kind]int{}, false
	settle := func() { w.settle(t) }
	do := func(k kind, i, j int) {
		w.do(move{k, i, j})
		if w.trouble != "" {
			t.Fatalf("before: %s %d %d: %s", k, i, j, w.trouble)
		}
	}
	do(grant, 0, 0)
	settle()
	if s.before != nil {
		s.before(w, do, settle)
	}
	w.settings.limit, w.settings.letters = bounds(s.allowed), letters
	t.Logf("bounds: %d replicas, %d letters under way, %v", len(w.nodes), s.settings.mail, s.allowed)
	for _, n := range w.nodes {
		n.queue = nil
	}
	explore(t, w)
}

// explore visits all states breadth first: a violation comes with a shortest story.
func explore(t *testing.T, w *world) {
	var ids []string
	for _, n := range w.nodes {
		ids = append(ids, n.id)
	}
	queue := []*seen{{w: w}}
	known := map[[16]byte]bool{}
	depth, steps := 0, 0
	var buf []byte
	var moves []move
	for len(queue) > 0 {
		s := queue[0]
		queue[0] = nil
		queue = queue[1:]
		depth = s.depth
		moves = s.w.moves(moves[:0])
		for i, m := range moves {
			next := s.w
			if i < len(moves)-1 {
				next = s.w.clone()
			}
			next.do(m)
			steps++
			here := &seen{next, s, m, s.depth + 1}
			if next.trouble != "" {
				t.Errorf("depth %d: %s\n%s", here.depth, next.trouble, here.story())
				return
			}
			buf = next.key(buf[:0], ids)
			sum := sha256.Sum256(buf)
			if k := [16]byte(sum[:16]); !known[k] {
				known[k] = true
				queue = append(queue, here)
			}
		}
		s.w = nil // its story alone is kept
		if len(known) > *bound {
			t.Errorf("more than %d states, depth %d: not exhausted", *bound, depth)
			return
		}
	}
	t.Logf("all %d states within the bounds, %d steps, depth %d", len(known), steps, depth)
}

// TestCheck visits each state of small worlds: all orders of messages, commands, syncs,
// crashes and views within the bounds of each.
func TestCheck(t *testing.T) {
	for _, name := range sorted(scenes()) {
		if *config == "" || *config == name {
			t.Run(name, func(t *testing.T) { scenes()[name].visit(t) })
		}
	}
}
