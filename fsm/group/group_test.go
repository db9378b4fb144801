package group_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"holdfast/fsm/group"
)

func syncOf(min int) group.Settings {
	return group.Settings{Mode: group.Sync, MinInSync: min, Policy: group.PolicyInSync}
}

func with(s group.Settings, change func(*group.Settings)) group.Settings { change(&s); return s }

func three(t *testing.T, s group.Settings) group.Group {
	t.Helper()
	g, err := group.New(1, []group.Member{{ID: "c"}, {ID: "a", Priority: 2}, {ID: "b"}}, s)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// show is a group in a line: master@epoch, set, version, incarnations, what waits.
func show(g group.Group) string {
	s := fmt.Sprintf("%s@%d {%s} v%d", g.Master, g.Epoch, strings.Join(g.InSync, " "), g.Version)
	for _, m := range g.Members {
		s += fmt.Sprintf(" %s.%d", m.ID, m.Incarnation)
	}
	if g.Wanted != "" {
		s += " wants " + g.Wanted
	}
	return s
}

// step is a command at the next index, and the state or the error that comes of it.
type step struct {
	do   group.Command
	want string
	err  error
}

func TestApply(t *testing.T) {
	never := with(syncOf(1), func(s *group.Settings) { s.Policy = group.PolicyNever })
	unclean := with(syncOf(1), func(s *group.Settings) { s.Policy = group.PolicyUnclean })
	for name, c := range map[string]struct {
		settings group.Settings
		steps    []step // the first has index 2
	}{
		"grant and end": {syncOf(1), []step{
			{group.Grant{Member: "x"}, "", group.ErrMember},
			{group.Grant{Member: "a"}, "a@3 {a b c} v1 a.1 b.1 c.1", nil},
			{group.Grant{Member: "b"}, "", group.ErrGranted},
			{group.End{Epoch: 2}, "", group.ErrEpoch},
			{group.End{Epoch: 0}, "", group.ErrEpoch},
			{group.End{Epoch: 3}, "@0 {a b c} v1 a.1 b.1 c.1", nil},
			{group.End{Epoch: 3}, "", group.ErrEpoch},
			{group.Grant{Member: "b", Absent: []string{"a", "x", "b"}}, "b@9 {b c} v9 a.1 b.1 c.1", nil},
			{group.End{Epoch: 9}, "@0 {b c} v9 a.1 b.1 c.1", nil},
			{group.Grant{Member: "c", Absent: []string{"a"}}, "c@11 {b c} v9 a.1 b.1 c.1", nil},
		}},
		"shrink": {syncOf(1), []step{
			{group.Shrink{Epoch: 0, Version: 1, Member: "c"}, "", group.ErrEpoch},
			{group.Grant{Member: "a"}, "a@3 {a b c} v1 a.1 b.1 c.1", nil},
			{group.Shrink{Epoch: 2, Version: 1, Member: "c"}, "", group.ErrEpoch},
			{group.Shrink{Epoch: 3, Version: 0, Member: "c"}, "", group.ErrVersion},
			{group.Shrink{Epoch: 3, Version: 1, Member: "a"}, "", group.ErrInSync},
			{group.Shrink{Epoch: 3, Version: 1, Member: "c"}, "a@3 {a b} v7 a.1 b.1 c.1", nil},
			{group.Shrink{Epoch: 3, Version: 7, Member: "c"}, "", group.ErrInSync},
			{group.Shrink{Epoch: 3, Version: 1, Member: "b"}, "", group.ErrVersion},
		}},
		"grow": {syncOf(1), []step{
			{group.Grant{Member: "a"}, "a@2 {a b c} v1 a.1 b.1 c.1", nil},
			{group.Shrink{Epoch: 2, Version: 1, Member: "b"}, "a@2 {a c} v3 a.1 b.1 c.1", nil},
			{group.Grow{Epoch: 2, Version: 3, Member: "x", Incarnation: 1}, "", group.ErrMember},
			{group.Grow{Epoch: 1, Version: 3, Member: "b", Incarnation: 1}, "", group.ErrEpoch},
			{group.Grow{Epoch: 2, Version: 1, Member: "b", Incarnation: 1}, "", group.ErrVersion},
			{group.Grow{Epoch: 2, Version: 3, Member: "b", Incarnation: 9}, "", group.ErrIncarnation},
			{group.Grow{Epoch: 2, Version: 3, Member: "c", Incarnation: 1}, "", group.ErrInSync},
			{group.Grow{Epoch: 2, Version: 3, Member: "b", Incarnation: 1}, "a@2 {a b c} v9 a.1 b.1 c.1", nil},
		}},
		"a return before the first grant leaves the set": {syncOf(1), []step{
			{group.Return{Member: "b", Incarnation: 1, Boot: 7}, "@0 {a b c} v1 a.1 b.2 c.1", nil},
			{group.Return{Member: "b", Incarnation: 1, Boot: 7}, "", group.ErrIncarnation},
		}},
		"return": {syncOf(1), []step{
			{group.Grant{Member: "a"}, "a@2 {a b c} v1 a.1 b.1 c.1", nil},
			{group.Return{Member: "x", Incarnation: 1, Boot: 7}, "", group.ErrMember},
			{group.Return{Member: "b", Incarnation: 1}, "", group.ErrIncarnation},
			{group.Return{Member: "b", Incarnation: 1, Boot: 7}, "a@2 {a c} v5 a.1 b.5 c.1", nil},
			{group.Return{Member: "b", Incarnation: 1, Boot: 8}, "", group.ErrIncarnation},
			{group.Return{Member: "b", Incarnation: 5, Boot: 8}, "a@2 {a c} v7 a.1 b.7 c.1", nil},
			{group.Grow{Epoch: 2, Version: 5, Member: "b", Incarnation: 7}, "", group.ErrVersion},
			{group.Return{Member: "a", Incarnation: 1, Boot: 9}, "@0 {c} v9 a.9 b.7 c.1", nil},
			{group.Grant{Member: "a"}, "", group.ErrInSync},
			{group.Grant{Member: "a", Unclean: true}, "", group.ErrPolicy},
			{group.Return{Member: "c", Incarnation: 1, Boot: 9}, "@0 {} v12 a.9 b.7 c.12", nil},
			{group.Grant{Member: "b", Unclean: true, Operator: true}, "b@13 {b} v13 a.9 b.7 c.12", nil},
		}},
		"unclean": {unclean, []step{
			{group.Grant{Member: "a"}, "a@2 {a b c} v1 a.1 b.1 c.1", nil},
			{group.Shrink{Epoch: 2, Version: 1, Member: "b"}, "a@2 {a c} v3 a.1 b.1 c.1", nil},
			{group.End{Epoch: 2}, "@0 {a c} v3 a.1 b.1 c.1", nil},
			{group.Grant{Member: "b"}, "", group.ErrInSync},
			{group.Grant{Member: "b", Unclean: true}, "b@6 {b} v6 a.1 b.1 c.1", nil},
		}},
		"never": {never, []step{
			{group.Grant{Member: "a"}, "a@2 {a b c} v1 a.1 b.1 c.1", nil},
			{group.End{Epoch: 2}, "@0 {a b c} v1 a.1 b.1 c.1", nil},
			{group.Grant{Member: "b"}, "", group.ErrPolicy},
			{group.Grant{Member: "b", Unclean: true}, "", group.ErrPolicy},
			{group.Grant{Member: "a"}, "a@6 {a b c} v1 a.1 b.1 c.1", nil},
			{group.Recall{Epoch: 6, To: "b"}, "a@6 {a b c} v1 a.1 b.1 c.1 wants b", nil},
			{group.End{Epoch: 6}, "@0 {a b c} v1 a.1 b.1 c.1 wants b", nil},
			{group.Grant{Member: "b"}, "b@9 {a b c} v1 a.1 b.1 c.1", nil},
			{group.End{Epoch: 9}, "@0 {a b c} v1 a.1 b.1 c.1", nil},
			{group.Grant{Member: "a", Operator: true}, "a@11 {a b c} v1 a.1 b.1 c.1", nil},
		}},
		"recall": {syncOf(1), []step{
			{group.Grant{Member: "a"}, "a@2 {a b c} v1 a.1 b.1 c.1", nil},
			{group.Shrink{Epoch: 2, Version: 1, Member: "b"}, "a@2 {a c} v3 a.1 b.1 c.1", nil},
			{group.Recall{Epoch: 1, To: "c"}, "", group.ErrEpoch},
			{group.Recall{Epoch: 2, To: "x"}, "", group.ErrMember},
			{group.Recall{Epoch: 2, To: "b"}, "", group.ErrInSync},
			{group.Recall{Epoch: 2, To: "c"}, "a@2 {a c} v3 a.1 b.1 c.1 wants c", nil},
		}},
		"settings come with a grant": {syncOf(1), []step{
			{group.Configure{Settings: syncOf(4)}, "", group.ErrSettings},
			{group.Grant{Member: "a"}, "a@3 {a b c} v1 a.1 b.1 c.1", nil},
			{group.Configure{Settings: syncOf(1)}, "a@3 {a b c} v1 a.1 b.1 c.1", nil},
			{group.Configure{Settings: syncOf(2)}, "a@3 {a b c} v1 a.1 b.1 c.1 wants a", nil},
		}},
		"members": {syncOf(2), []step{
			{group.Join{}, "", group.ErrMember},
			{group.Join{Member: "d"}, "@0 {a b c} v1 a.1 b.1 c.1 d.3", nil},
			{group.Join{Member: "d", Priority: 4}, "@0 {a b c} v1 a.1 b.1 c.1 d.3", nil},
			{group.Grant{Member: "a"}, "a@5 {a b c} v1 a.1 b.1 c.1 d.3", nil},
			{group.Leave{Member: "a"}, "", group.ErrGranted},
			{group.Leave{Member: "x"}, "", group.ErrMember},
			{group.Leave{Member: "b"}, "a@5 {a c} v8 a.1 c.1 d.3", nil},
			{group.Grow{Epoch: 5, Version: 1, Member: "d", Incarnation: 3}, "", group.ErrVersion},
			{group.Leave{Member: "d"}, "a@5 {a c} v10 a.1 c.1", nil}, // moved: a Grow of d is dead
			{group.Leave{Member: "c"}, "", group.ErrSettings},
			{group.Join{Member: "b"}, "a@5 {a c} v10 a.1 b.12 c.1", nil},
		}},
		"the last of the set stays": {syncOf(1), []step{
			{group.Grant{Member: "a"}, "a@2 {a b c} v1 a.1 b.1 c.1", nil},
			{group.Shrink{Epoch: 2, Version: 1, Member: "b"}, "a@2 {a c} v3 a.1 b.1 c.1", nil},
			{group.Shrink{Epoch: 2, Version: 3, Member: "c"}, "a@2 {a} v4 a.1 b.1 c.1", nil},
			{group.End{Epoch: 2}, "@0 {a} v4 a.1 b.1 c.1", nil},
			{group.Leave{Member: "a"}, "", group.ErrInSync},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			g := three(t, c.settings)
			for i, s := range c.steps {
				next, err := g.Apply(uint64(i+2), s.do)
				if !errors.Is(err, s.err) || (err != nil) != (s.err != nil) {
					t.Fatalf("step %d, %T%+v: error %v, want %v", i, s.do, s.do, err, s.err)
				}
				if err != nil && !reflect.DeepEqual(next, g) {
					t.Fatalf("step %d: refused, and changed %v to %v", i, g, next)
				}
				if err == nil && show(next) != s.want {
					t.Fatalf("step %d, %T%+v:\n%s, want\n%s", i, s.do, s.do, show(next), s.want)
				}
				g = next
			}
		})
	}
}

func TestConfigureTakesEffectWithAGrant(t *testing.T) {
	g := three(t, syncOf(1))
	g, _ = g.Apply(2, group.Grant{Member: "a"})
	g, _ = g.Apply(3, group.Configure{Settings: syncOf(2)})
	if g.Settings != syncOf(1) || !g.Recalled() {
		t.Errorf("in force %v, recalled %v", g.Settings, g.Recalled())
	}
	g, _ = g.Apply(4, group.End{Epoch: 2})
	g, _ = g.Apply(4, group.Grant{Member: "a"})
	if g.Settings != syncOf(2) || g.Recalled() || g.Epoch != 4 {
		t.Errorf("in force %v, recalled %v, epoch %d", g.Settings, g.Recalled(), g.Epoch)
	}
}

func TestNew(t *testing.T) {
	for name, c := range map[string]struct {
		members []group.Member
		min     int
	}{
		"nobody":     {nil, 1},
		"twice":      {[]group.Member{{ID: "a"}, {ID: "a"}}, 1},
		"no name":    {[]group.Member{{}}, 1},
		"min of two": {[]group.Member{{ID: "a"}}, 2},
	} {
		if _, err := group.New(1, c.members, syncOf(c.min)); err == nil {
			t.Errorf("%s: created", name)
		}
	}
}

func TestValue(t *testing.T) {
	g := three(t, syncOf(1))
	g, _ = g.Apply(2, group.Grant{Member: "a"})
	g, _ = g.Apply(3, group.Shrink{Epoch: 2, Version: 1, Member: "b"})
	before, _ := json.Marshal(g)
	for _, c := range []group.Command{
		group.Grow{Epoch: 2, Version: 3, Member: "b", Incarnation: 1}, group.Shrink{Epoch: 2, Version: 3, Member: "c"},
		group.Return{Member: "c", Incarnation: 1, Boot: 1}, group.Join{Member: "aa"}, group.Join{Member: "b", Priority: 7}, group.Leave{Member: "b"},
	} {
		if _, err := g.Apply(4, c); err != nil {
			t.Fatal(err)
		}
		if after, _ := json.Marshal(g); string(after) != string(before) {
			t.Fatalf("%T changes its argument to %s", c, after)
		}
	}
	var again group.Group
	if err := json.Unmarshal(before, &again); err != nil || !reflect.DeepEqual(again, g) {
		t.Errorf("%v, %v, want %v", again, err, g)
	}
}

func TestChoose(t *testing.T) {
	g := group.Group{
		Settings: syncOf(1), InSync: []string{"a", "b"}, Last: "a",
		Members: []group.Member{{ID: "a", Priority: 1}, {ID: "b", Priority: 1}, {ID: "c", Priority: 1}, {ID: "d", Priority: 9}},
	}
	all := []group.Candidate{{"a", true, 4, 9}, {"b", true, 4, 10}, {"c", true, 9, 99}, {"d", true, 8, 100}, {"x", true, 99, 99}}
	dead := []group.Candidate{{"a", false, 4, 9}, {"b", false, 4, 10}, {"c", true, 9, 99}, {"d", true, 8, 100}}
	for name, c := range map[string]struct {
		policy group.Policy
		epoch  uint64
		wanted string
		among  []group.Candidate
		want   group.Grant
		ok     bool
	}{
		"of the set, by its log":    {group.PolicyInSync, 0, "", all, group.Grant{Member: "b"}, true},
		"granted":                   {group.PolicyInSync, 7, "", all, group.Grant{}, false},
		"nobody of the set":         {group.PolicyInSync, 0, "", dead, group.Grant{}, false},
		"wanted":                    {group.PolicyInSync, 0, "a", all, group.Grant{Member: "a"}, true},
		"without the absent":        {group.PolicyInSync, 0, "", all[1:], group.Grant{Member: "b", Absent: []string{"a"}}, true},
		"wanted, but not in set":    {group.PolicyInSync, 0, "d", all, group.Grant{Member: "b"}, true},
		"unclean: the log first":    {group.PolicyUnclean, 0, "", dead, group.Grant{Member: "c", Unclean: true}, true},
		"unclean need not be":       {group.PolicyUnclean, 0, "", all, group.Grant{Member: "b"}, true},
		"never: the last one":       {group.PolicyNever, 0, "", all, group.Grant{Member: "a"}, true},
		"never: waits":              {group.PolicyNever, 0, "", dead, group.Grant{}, false},
		"never: an operator's wish": {group.PolicyNever, 0, "b", all, group.Grant{Member: "b"}, true},
	} {
		t.Run(name, func(t *testing.T) {
			g := g
			g.Settings.Policy, g.Epoch, g.Wanted = c.policy, c.epoch, c.wanted
			if got, ok := group.Choose(g, c.among); !reflect.DeepEqual(got, c.want) || ok != c.ok {
				t.Errorf("%v %v, want %v", got, ok, c.want)
			}
		})
	}
}
