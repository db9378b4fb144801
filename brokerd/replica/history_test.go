package replica_test

import (
	"slices"
	"testing"

	"holdfast/brokerd/replica"
)

func TestCommonPoint(t *testing.T) {
	type h = replica.History
	for name, c := range map[string]struct {
		a    h
		aEnd uint64
		b    h
		bEnd uint64
		want uint64
	}{
		"empty":                 {nil, 0, h{{1, 0}}, 5, 0},
		"shorter":               {h{{1, 0}}, 3, h{{1, 0}}, 5, 3},
		"newer epoch behind":    {h{{1, 0}, {4, 3}}, 9, h{{1, 0}}, 5, 3},
		"other epochs, longer":  {h{{1, 0}, {4, 3}}, 4, h{{1, 0}, {2, 3}}, 9, 3},
		"other from the start":  {h{{2, 0}}, 4, h{{1, 0}}, 4, 0},
		"epoch at other places": {h{{1, 0}, {4, 3}}, 9, h{{1, 0}, {4, 5}}, 9, 3},
		"same":                  {h{{1, 0}, {4, 3}}, 9, h{{1, 0}, {4, 3}}, 9, 9},
	} {
		t.Run(name, func(t *testing.T) {
			for _, got := range []uint64{replica.CommonPoint(c.a, c.aEnd, c.b, c.bEnd), replica.CommonPoint(c.b, c.bEnd, c.a, c.aEnd)} {
				if got != c.want {
					t.Errorf("%d, want %d", got, c.want)
				}
			}
		})
	}
}

func TestHistoryCheck(t *testing.T) {
	for _, c := range []struct {
		h    replica.History
		end  uint64
		good bool
	}{
		{nil, 0, true}, {nil, 1, false}, {replica.History{{1, 0}}, 1, true}, {replica.History{{1, 0}}, 0, false},
		{replica.History{{1, 1}}, 3, false}, {replica.History{{0, 0}}, 3, false}, {replica.History{{1, 0}, {1, 2}}, 3, false},
		{replica.History{{2, 0}, {1, 2}}, 3, false}, {replica.History{{1, 0}, {2, 0}}, 3, false}, {replica.History{{1, 0}, {2, 2}}, 3, true},
	} {
		if err := c.h.Check(c.end); (err == nil) != c.good {
			t.Errorf("%v to %d: %v", c.h, c.end, err)
		}
	}
}

func TestLost(t *testing.T) {
	type ranges = []replica.Range
	master := replica.History{{1, 0}, {4, 5}}
	for name, c := range map[string]struct {
		cuts, want ranges
	}{
		"nothing cut":            {nil, nil},
		"cut twice":              {ranges{{2, 5, 8}, {2, 6, 9}}, ranges{{2, 5, 9}}},
		"lives on":               {ranges{{1, 2, 5}}, nil},
		"past the epoch's end":   {ranges{{1, 2, 7}}, ranges{{1, 5, 7}}},
		"same offset, two epoch": {ranges{{2, 5, 6}, {3, 5, 6}}, ranges{{2, 5, 6}, {3, 5, 6}}},
		"not in the log yet":     {ranges{{4, 8, 12}}, ranges{{4, 9, 12}}},
	} {
		t.Run(name, func(t *testing.T) {
			if got := replica.Lost(c.cuts, master, 9); !slices.Equal(got, c.want) {
				t.Errorf("%v, want %v", got, c.want)
			}
		})
	}
	unknown := replica.Missing([]replica.Reported{{Member: "b", Epoch: 4, End: 11}, {Member: "c", Epoch: 1, End: 4}}, master, 9)
	if want := []replica.Unknown{{Member: "b", Range: replica.Range{Epoch: 4, From: 9, To: 11}}}; !slices.Equal(unknown, want) {
		t.Errorf("%v, want %v", unknown, want)
	}
}

func TestChoose(t *testing.T) {
	g := replica.Group{
		Settings: replica.Settings{Mode: replica.Sync, MinInSync: 1, Policy: replica.PolicyInSync},
		Members:  []replica.Member{{ID: "a", Priority: 1}, {ID: "b", Priority: 1}, {ID: "c", Priority: 9}}, InSync: []string{"a", "b"}, Last: "a",
	}
	all := []replica.Candidate{{"a", true, 4, 9}, {"b", true, 4, 10}, {"c", true, 9, 99}}
	dead := []replica.Candidate{{"a", false, 4, 9}, {"b", false, 4, 10}, {"c", true, 9, 99}}
	for name, c := range map[string]struct {
		policy replica.Policy
		epoch  uint64
		among  []replica.Candidate
		want   replica.Grant
		ok     bool
	}{
		"of the set, by its log": {replica.PolicyInSync, 0, all, replica.Grant{Member: "b"}, true},
		"granted":                {replica.PolicyInSync, 7, all, replica.Grant{}, false},
		"nobody of the set":      {replica.PolicyInSync, 0, dead, replica.Grant{}, false},
		"unclean":                {replica.PolicyUnclean, 0, dead, replica.Grant{Member: "c", Unclean: true}, true},
		"unclean need not be":    {replica.PolicyUnclean, 0, all, replica.Grant{Member: "b"}, true},
		"never: the last one":    {replica.PolicyNever, 0, all, replica.Grant{Member: "a"}, true},
		"never: waits":           {replica.PolicyNever, 0, dead, replica.Grant{}, false},
	} {
		t.Run(name, func(t *testing.T) {
			g := g
			g.Policy, g.Epoch = c.policy, c.epoch
			if got, ok := replica.Choose(g, c.among); got != c.want || ok != c.ok {
				t.Errorf("%v %v, want %v", got, ok, c.want)
			}
		})
	}
}
