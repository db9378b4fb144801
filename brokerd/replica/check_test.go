package replica_test

import (
	"crypto/sha256"
	"flag"
	"fmt"
	"strings"
	"testing"

	"holdfast/brokerd/replica"
)

var bound = flag.Int("states", 60000, "how many states of each configuration the checker visits at most")

// seen is how a state was reached.
type seen struct {
	w     *world
	from  *seen
	by    move
	depth int
}

func (s *seen) trace() string {
	var lines []string
	for ; s.from != nil; s = s.from {
		lines = append([]string{s.by.String()}, lines...)
	}
	return strings.Join(lines, "\n")
}

// begun returns a world in which the first member has led epoch 1 from an empty log, and
// all members of the set have its start.
func begun(t *testing.T, s settings) *world {
	t.Helper()
	limit := s.limit
	s.limit = nil
	w := newWorld(s)
	for i := range w.nodes {
		w.do(move{"view", i, 0}) // a grant that is in the first view is found, not led
	}
	w.do(move{kind: "grant"})
	for i := range w.nodes {
		w.do(move{"view", i, 0})
	}
	w.do(move{kind: "lead"})
	w.do(move{kind: "sync"})
	for range 2 {
		for j := 1; j < len(w.nodes); j++ {
			w.do(move{"batch", 0, j})
			for len(w.mail) > 0 {
				w.do(move{kind: "deliver"})
			}
			if w.nodes[j].durable < len(w.nodes[j].log) {
				w.do(move{"sync", j, 0})
			}
			for len(w.mail) > 0 {
				w.do(move{kind: "deliver"})
			}
		}
	}
	if w.trouble != "" || w.nodes[0].r.Readable(now, ahead) != 1 {
		t.Fatalf("it does not begin: %s\n%s", w.trouble, w.key())
	}
	w.limit = limit
	return w
}

// TestCheck visits the states of small worlds breadth first: all orders of messages,
// commands and views within the bounds, so that a violation has a shortest trace.
func TestCheck(t *testing.T) {
	sync := replica.Settings{Mode: replica.Sync, MinInSync: 1, Policy: replica.PolicyInSync}
	async := sync
	async.Mode = replica.Async
	unclean := sync
	unclean.Policy = replica.PolicyUnclean
	none := []string{"recontact", "drop", "repeat", "lose", "double", "crash", "power", "wipe", "write", "batch", "lapse", "grant", "unclean", "grow", "shrink", "start"}
	limits := func(pairs ...any) map[string]int {
		m := map[string]int{}
		for _, k := range none {
			m[k] = 0
		}
		for i := 0; i < len(pairs); i += 2 {
			m[pairs[i].(string)] = pairs[i+1].(int)
		}
		return m
	}
	for name, s := range map[string]settings{
		"failover":   {replicas: 2, group: sync, mail: 2, limit: limits("write", 2, "batch", 4, "lapse", 1, "grant", 1)},
		"power loss": {replicas: 2, group: sync, mail: 2, loseData: true, limit: limits("write", 1, "batch", 3, "power", 1, "start", 1, "lapse", 1, "grant", 1)},
		"same epoch": {replicas: 2, group: sync, mail: 2, letters: true, limit: limits("write", 2, "batch", 3, "crash", 1, "start", 1, "double", 1, "lose", 1, "recontact", 1)},
		"shrink":     {replicas: 2, group: sync, mail: 2, limit: limits("write", 1, "batch", 2, "shrink", 1, "grow", 1, "lapse", 1, "grant", 1)},
		"grow":       {replicas: 2, set: 1, group: sync, mail: 2, limit: limits("write", 1, "batch", 3, "grow", 2, "lapse", 1, "grant", 1)},
		"wipe":       {replicas: 2, group: sync, mail: 2, wipe: true, limit: limits("write", 1, "batch", 3, "wipe", 1, "start", 1, "repeat", 1, "grow", 1, "lapse", 1, "grant", 1)},
		"async":      {replicas: 2, group: async, mail: 2, limit: limits("write", 2, "batch", 4, "lapse", 1, "grant", 1)},
		"unclean":    {replicas: 2, set: 1, group: unclean, mail: 2, limit: limits("write", 1, "batch", 3, "lapse", 1, "unclean", 1, "grant", 1)},
	} {
		t.Run(name, func(t *testing.T) { explore(t, begun(t, s)) })
	}
}

func explore(t *testing.T, w *world) {
	queue := []*seen{{w: w}}
	known := map[[16]byte]bool{}
	visited, depth := 1, 0
	for len(queue) > 0 && visited < *bound {
		s := queue[0]
		queue = queue[1:]
		depth = s.depth
		for _, m := range s.w.moves() {
			next := s.w.clone()
			next.do(m)
			here := &seen{next, s, m, s.depth + 1}
			if next.trouble != "" {
				t.Errorf("depth %d: %s\n%s", here.depth, next.trouble, here.trace())
				return
			}
			sum := sha256.Sum256([]byte(next.key()))
			if k := [16]byte(sum[:16]); !known[k] {
				known[k] = true
				visited++
				queue = append(queue, here)
			}
		}
		s.w = nil // the trace alone is kept
	}
	how := "all"
	if len(queue) > 0 {
		how = "up to the bound"
	}
	t.Log(fmt.Sprintf("%d states, depth %d, %s", visited, depth, how))
}
