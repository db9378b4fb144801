package schedule

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"holdfast/fsm"
)

// scene is a random cluster as a list of entries, so that it can be built
// twice in different orders.
type scene struct {
	sets   []fsm.Set
	later  []fsm.Op // applied in this order after the sets
	silent map[fsm.SessionID]bool
}

func drawScene(t *rapid.T) scene {
	hosts := []string{"a", "b", "c", "d"}
	label := func(name string) string {
		return rapid.SampledFrom([]string{"", "", "x", "y"}).Draw(t, name)
	}
	sc := scene{silent: make(map[fsm.SessionID]bool)}
	n := rapid.IntRange(1, 8).Draw(t, "sets")
	for i := range n {
		set := fsm.Set{
			Name:         fmt.Sprintf("s%d", i),
			Addresses:    []fsm.Address{{Prefix: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(i + 1)}), 24)}},
			Preempt:      rapid.Bool().Draw(t, "preempt"),
			PreemptDelay: time.Duration(rapid.IntRange(0, 2).Draw(t, "delay")) * time.Second,
			SyncGroup:    label("group"),
			Spread:       label("spread"),
			AntiAffinity: label("anti"),
			Paused:       rapid.IntRange(0, 9).Draw(t, "paused") == 0,
		}
		for _, h := range hosts {
			if rapid.IntRange(0, 3).Draw(t, "candidate") > 0 {
				set.Candidates = append(set.Candidates, fsm.Candidate{Host: h, Priority: rapid.SampledFrom([]int{1, 100, 150, 254}).Draw(t, "priority")})
			}
		}
		if len(set.Candidates) == 0 {
			set.Candidates = []fsm.Candidate{{Host: "a", Priority: 100}}
		}
		sc.sets = append(sc.sets, set)
	}
	drawRest(t, &sc, hosts)
	return sc
}

// drawRest adds sessions, conditions, grants, recalls and operators' wishes,
// also ones that the scheduler itself would not have made.
func drawRest(t *rapid.T, sc *scene, hosts []string) {
	var sessions []fsm.SessionID
	add := func(op fsm.Op) fsm.SessionID {
		sc.later = append(sc.later, op)
		return fsm.SessionID(len(sc.sets) + len(sc.later))
	}
	for _, h := range hosts {
		for range rapid.IntRange(0, 2).Draw(t, "sessions") {
			id := add(fsm.OpenSession{Host: h, TTL: time.Second, Secret: [32]byte{1}})
			sessions = append(sessions, id)
			sc.silent[id] = rapid.IntRange(0, 4).Draw(t, "silent") == 0
		}
		if rapid.IntRange(0, 5).Draw(t, "drained") == 0 {
			add(fsm.DrainHost{Host: h, Drained: true})
		}
	}
	for _, set := range sc.sets {
		for _, id := range sessions {
			switch rapid.IntRange(0, 12).Draw(t, "condition") {
			case 0:
				add(fsm.SetCondition{Session: id, Set: set.Name, Condition: fsm.Condition{Veto: true}})
			case 1:
				add(fsm.SetCondition{Session: id, Set: set.Name, Condition: fsm.Condition{Weight: rapid.SampledFrom([]int{-254, -50, 100}).Draw(t, "weight")}})
			}
		}
		if len(sessions) > 0 && rapid.Bool().Draw(t, "held") {
			epoch := fsm.Epoch(add(fsm.GrantSet{Set: set.Name, Session: rapid.SampledFrom(sessions).Draw(t, "holder")}))
			if rapid.IntRange(0, 4).Draw(t, "recalled") == 0 {
				add(fsm.RecallSet{Set: set.Name, Epoch: epoch, To: rapid.SampledFrom(append(hosts, "")).Draw(t, "to")})
			}
		}
		if rapid.IntRange(0, 4).Draw(t, "moved") == 0 {
			add(fsm.PreferHost{Set: set.Name, Host: rapid.SampledFrom(hosts).Draw(t, "prefer")})
		}
	}
}

// build applies the scene; order permutes the sets. Refused ops are part of
// the scene.
func (sc scene) build(t *rapid.T, order []int) *fsm.State {
	s := fsm.New()
	var ops []fsm.Op
	for _, i := range order {
		ops = append(ops, fsm.PutSet{Set: sc.sets[i]})
	}
	for _, op := range append(ops, sc.later...) {
		if _, err := s.ApplyEntry(s.Applied()+1, fsm.Entry{Version: fsm.EntryVersion, Ops: []fsm.Op{op}}); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

func (sc scene) live(id fsm.SessionID) bool { return !sc.silent[id] }

// oracle is the eligibility rule of one host for one set, written anew.
func (sc scene) oracle(s *fsm.State, set *fsm.Set, host string) (fsm.SessionID, bool) {
	if _, ok := set.Candidate(host); !ok {
		return 0, false
	}
	if _, drained := s.Drained(host); drained {
		return 0, false
	}
	var newest *fsm.Session
	for _, session := range s.SessionsOf(host) {
		if sc.live(session.ID) {
			newest = session
		}
	}
	if newest == nil || newest.Conditions[set.Name].Veto {
		return 0, false
	}
	return newest.ID, true
}

// checkDecision holds a decision against the rules, one by one.
func (sc scene) checkDecision(t *rapid.T, s *fsm.State, d Decision) {
	for _, g := range d.Grants {
		set, _ := s.Set(g.Set)
		if held, ok := s.Grant(g.Set); ok {
			t.Fatalf("grants %s, which %s holds", g.Set, held.Host)
		}
		if g.Reason == "" {
			t.Fatalf("grants %s for no reason", g.Set)
		}
		if set.Paused || s.Settings().Paused {
			t.Fatalf("grants %s, which is paused", g.Set)
		}
		for _, mate := range s.Sets() {
			if mate.Name != g.Set && (set.SyncGroup == "" || mate.SyncGroup != set.SyncGroup) {
				continue
			}
			id, ok := sc.oracle(s, mate, g.Host)
			if !ok || id != g.Session {
				t.Fatalf("grants %s to %s session %d, which cannot hold %s (%d)", g.Set, g.Host, g.Session, mate.Name, id)
			}
		}
		sc.checkApart(t, s, d, set, g.Host)
	}
	for _, r := range d.Recalls {
		g, held := s.Grant(r.Set)
		set, _ := s.Set(r.Set)
		if !held || g.Recall != nil || g.Epoch != r.Epoch || g.Host != r.From || r.To == g.Host || set.Paused || r.Reason == "" {
			t.Fatalf("recalls %+v of %+v", r, g)
		}
		if _, ok := sc.oracle(s, set, r.To); r.To != "" && !ok && !slices.ContainsFunc(s.Sets(), func(m *fsm.Set) bool {
			mg, ok := s.Grant(m.Name)
			return set.SyncGroup != "" && m.SyncGroup == set.SyncGroup && ok && mg.Host == r.To
		}) {
			t.Fatalf("recalls %+v for a host that cannot hold it", r)
		}
	}
}

func (sc scene) checkApart(t *rapid.T, s *fsm.State, d Decision, set *fsm.Set, host string) {
	if set.AntiAffinity == "" {
		return
	}
	for _, other := range s.Sets() {
		if other.Name == set.Name || other.AntiAffinity != set.AntiAffinity {
			continue
		}
		if g, held := s.Grant(other.Name); held && g.Host == host {
			t.Fatalf("grants %s to %s, where %s is, against anti-affinity", set.Name, host, other.Name)
		}
		for _, g := range d.Grants {
			if g.Set == other.Name && g.Host == host {
				t.Fatalf("grants %s and %s to %s, against anti-affinity", set.Name, other.Name, host)
			}
		}
	}
}

func TestDecisionsKeepTheRules(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		sc := drawScene(t)
		order := make([]int, len(sc.sets))
		for i := range order {
			order[i] = i
		}
		s := sc.build(t, order)
		in := Input{State: s, Live: sc.live, Seen: NewTracker()}
		d := Decide(in)
		sc.checkDecision(t, s, d)

		// The same from another order of insertion.
		in2 := Input{State: sc.build(t, rapid.Permutation(order).Draw(t, "order")), Live: sc.live, Seen: NewTracker()}
		if diff := cmp.Diff(d, Decide(in2)); diff != "" {
			t.Fatalf("the decision depends on the order of insertion:\n%s", diff)
		}
		for _, set := range s.Sets() {
			e, err := Explain(in, set.Name)
			if err != nil {
				t.Fatal(err)
			}
			e2, _ := Explain(in2, set.Name)
			if diff := cmp.Diff(e, e2); diff != "" {
				t.Fatalf("the explanation depends on the order of insertion:\n%s", diff)
			}
			sc.checkExplanation(t, s, d, e)
		}
		if again := Decide(in); cmp.Diff(d, again) != "" {
			t.Fatalf("asked twice: %+v, then %+v", d, again)
		}
	})
}

// checkExplanation holds what is told against what is done.
func (sc scene) checkExplanation(t *rapid.T, s *fsm.State, d Decision, e Explanation) {
	if e.Decision == "" {
		t.Fatalf("%s: no decision told", e.Set)
	}
	eligible := make(map[string]bool)
	for _, c := range e.Candidates {
		eligible[c.Host] = c.Eligible
		if len(c.Reasons) == 0 {
			t.Fatalf("%s: nothing told about %s", e.Set, c.Host)
		}
	}
	for _, g := range d.Grants {
		if g.Set == e.Set && !eligible[g.Host] {
			t.Fatalf("%s is granted to %s, which is told not to be eligible", e.Set, g.Host)
		}
	}
	for _, l := range e.IfHostDies {
		if l.Reason == "" || l.Next == l.Host {
			t.Fatalf("%s: told of a loss: %+v", e.Set, l)
		}
	}
}

// Applied over and over, with holders that do as they are told, decisions come
// to rest, and then everything that can be held is held.
func TestDecisionsComeToRest(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		sc := drawScene(t)
		order := make([]int, len(sc.sets))
		for i := range order {
			order[i] = i
		}
		s := sc.build(t, order)
		in := Input{State: s, Live: sc.live, Seen: NewTracker()}
		apply := func(ops ...fsm.Op) {
			res, err := s.ApplyEntry(s.Applied()+1, fsm.Entry{Version: fsm.EntryVersion, Ops: ops})
			if err != nil || res.Err() != nil {
				t.Fatal(err, res.Err())
			}
		}
		moves := 0
		for rounds := 0; ; rounds++ {
			if rounds > 200 {
				t.Fatal("does not come to rest")
			}
			d := Decide(in)
			sc.checkDecision(t, s, d)
			moves += len(d.Recalls)
			if ops := d.Ops(); len(ops) > 0 {
				apply(ops...)
			}
			var recalled []*fsm.Grant
			for _, g := range s.Grants() {
				if g.Recall != nil && sc.live(g.Session) {
					recalled = append(recalled, g)
				}
			}
			switch {
			case len(recalled) > 0: // some of them, in any order, before the next look
				for _, g := range rapid.Permutation(recalled).Draw(t, "releases")[:rapid.IntRange(1, len(recalled)).Draw(t, "released")] {
					apply(fsm.Release{Set: g.Set, Session: g.Session, Epoch: g.Epoch})
				}
			case len(d.Grants)+len(d.Recalls) > 0:
			case d.Again > 0:
				in.Now += d.Again
			default:
				sc.checkRest(t, s)
				return
			}
		}
	})
}

func (sc scene) checkRest(t *rapid.T, s *fsm.State) {
	// A silent holder never ends here. What is recalled from it keeps a place
	// for itself elsewhere, which may keep others out by anti-affinity.
	limbo := slices.ContainsFunc(s.Grants(), func(g *fsm.Grant) bool { return g.Recall != nil })
	for _, set := range s.Sets() {
		if limbo && set.AntiAffinity != "" {
			continue
		}
		if _, held := s.Grant(set.Name); held || set.Paused || set.SyncGroup != "" {
			continue
		}
		for _, c := range set.Candidates {
			if _, ok := sc.oracle(s, set, c.Host); !ok {
				continue
			}
			apart := false
			for _, other := range s.Sets() {
				g, held := s.Grant(other.Name)
				there := held && (g.Host == c.Host || g.Recall != nil && g.Recall.To == c.Host)
				apart = apart || set.AntiAffinity != "" && other.AntiAffinity == set.AntiAffinity && there
			}
			if !apart {
				t.Fatalf("%s stays free although %s could hold it", set.Name, c.Host)
			}
		}
	}
	// A group that all live, eligible hosts serve is in one place.
	at := make(map[string]string)
	for _, g := range s.Grants() {
		set, _ := s.Set(g.Set)
		if set.SyncGroup == "" || sc.loose(s, set.SyncGroup) {
			continue
		}
		if host, ok := at[set.SyncGroup]; ok && host != g.Host {
			t.Fatalf("sync group %s is on %s and on %s", set.SyncGroup, host, g.Host)
		}
		at[set.SyncGroup] = g.Host
	}
}

// loose says that a group may rightly be in several places: one of its sets is
// paused, or its holder is silent, or no host of it is eligible for all of it.
func (sc scene) loose(s *fsm.State, group string) bool {
	fits := false
	for _, host := range []string{"a", "b", "c", "d"} {
		all := true
		for _, set := range s.Sets() {
			if set.SyncGroup != group {
				continue
			}
			if set.Paused {
				return true
			}
			if g, held := s.Grant(set.Name); held && !sc.live(g.Session) {
				return true
			}
			if set.AntiAffinity != "" {
				return true // the scripts cover that
			}
			_, ok := sc.oracle(s, set, host)
			all = all && ok
		}
		fits = fits || all
	}
	return !fits
}

func BenchmarkDecide(b *testing.B) {
	for _, labels := range []bool{false, true} {
		b.Run(fmt.Sprintf("labels=%v", labels), func(b *testing.B) { benchmarkDecide(b, labels) })
	}
}

// 50 sets of 20 addresses, 500 hosts with a session each, 16 candidates per
// set, everything held: what a leader asks itself all the time.
func benchmarkDecide(b *testing.B, labels bool) {
	w := newWorld()
	for h := range 500 {
		if err := w.sessions("open", []string{fmt.Sprintf("host-%03d", h)}); err != nil {
			b.Fatal(err)
		}
	}
	for i := range 50 {
		set := fsm.Set{Name: fmt.Sprintf("set-%02d", i), Preempt: true, PreemptDelay: time.Second}
		if labels {
			set.Spread, set.AntiAffinity = fmt.Sprintf("s%d", i%3), fmt.Sprintf("a%d", i%10)
		}
		for a := range 20 {
			set.Addresses = append(set.Addresses, fsm.Address{
				Prefix: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i), 0, byte(a + 1)}), 16)})
		}
		for c := range 16 {
			set.Candidates = append(set.Candidates, fsm.Candidate{Host: fmt.Sprintf("host-%03d", (i*10+c*31)%500), Priority: 100 + c})
		}
		if err := w.apply(fsm.PutSet{Set: set}); err != nil {
			b.Fatal(err)
		}
	}
	if err := w.apply(Decide(w.input()).Ops()...); err != nil {
		b.Fatal(err)
	}
	in := w.input()
	b.ReportAllocs()
	for b.Loop() {
		if d := Decide(in); len(d.Grants)+len(d.Recalls) > 0 {
			b.Fatalf("not at rest: %+v", d)
		}
	}
}
