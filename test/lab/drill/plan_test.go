package drill

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	pb "holdfast/coordinator/api/holdfastpb"
)

func userSets() []*pb.VIPSet {
	return []*pb.VIPSet{
		{Name: "lonely", Addresses: []*pb.Address{{Prefix: "192.0.2.1/24"}}, Candidates: []*pb.Candidate{{Host: "a", Priority: 100}}},
		{Name: "front", Preempt: true, PreemptDelayMs: 2500, SyncGroup: "g",
			Addresses:  []*pb.Address{{Prefix: "192.0.2.50/24"}, {Prefix: "192.0.2.51/24"}, {Prefix: "2001:db8::50/64", Interface: "eth7"}},
			Candidates: []*pb.Candidate{{Host: "lb1", Priority: 150}, {Host: "lb2", Priority: 100}}},
		{Name: "resting", Paused: true, Addresses: []*pb.Address{{Prefix: "192.0.2.60/24"}},
			Candidates: []*pb.Candidate{{Host: "lb2", Priority: 7}, {Host: "a", Priority: 8}}},
	}
}

// Names, priorities and numbers of addresses stay; hosts of the attacked set
// come first.
func TestPlan(t *testing.T) {
	p, err := MakePlan(userSets(), "")
	if err != nil {
		t.Fatal(err)
	}
	want := &Plan{
		Set:   "front",
		Hosts: []Pair{{"lb1", "host1"}, {"lb2", "host2"}, {"a", "host3"}},
	}
	if diff := cmp.Diff(want.Hosts, p.Hosts); p.Set != want.Set || diff != "" {
		t.Errorf("set %s, hosts: %s", p.Set, diff)
	}
	if got := fmt.Sprint(p.VIPs, p.Also, p.candidates); got != "[10.77.1.2 fd77::c:1] [10.77.1.1 10.77.1.4] [host1 host2]" {
		t.Errorf("asked: %s", got)
	}
	for _, line := range []string{
		"  - name: front\n    addresses:\n      - 10.77.1.2/32\n      - 10.77.1.3/32\n      - fd77::c:1/128\n",
		"      - {host: host1, priority: 150}\n      - {host: host2, priority: 100}\n    preempt: true\n    paused: false\n    preempt_delay: 2.5s\n    sync_group: g\n",
		"  - name: resting\n", "paused: true\n", "{host: host2, priority: 7}",
	} {
		if !strings.Contains(p.File, line) {
			t.Errorf("the file lacks %q:\n%s", line, p.File)
		}
	}
}

func TestPlanRefuses(t *testing.T) {
	for set, want := range map[string]string{"lonely": "only one host", "resting": "paused", "nothing": "no set"} {
		if _, err := MakePlan(userSets(), set); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", set, err)
		}
	}
	if _, err := MakePlan(userSets()[:1], ""); err == nil || !strings.Contains(err.Error(), "no set in the file can move") {
		t.Errorf("nothing to attack: %v", err)
	}
}

// A seed stands for its sequence, today and tomorrow.
func TestSequence(t *testing.T) {
	names := faultNames()
	first := func(seed uint64) string {
		s := NewSequence(seed, names)
		var b bytes.Buffer
		for range 200 {
			if err := json.NewEncoder(&b).Encode(s.Next()); err != nil {
				t.Fatal(err)
			}
		}
		return b.String()
	}
	one := first(1)
	if again := first(1); one != again {
		t.Error("the same seed gives another sequence")
	}
	if one == first(2) {
		t.Error("another seed gives the same sequence")
	}
	s, seen := NewSequence(3, names), make(map[string]bool)
	for range 500 {
		step := s.Next()
		if step.Length < shortest || step.Length > longest || len(step.Blows) == 0 || len(step.Blows) > mostIn {
			t.Fatalf("%+v", step)
		}
		for _, b := range step.Blows {
			seen[b.Fault] = true
			if b.After > step.Length {
				t.Errorf("falls after the step: %+v", step)
			}
		}
	}
	for _, name := range names {
		if !seen[name] {
			t.Errorf("%s never falls", name)
		}
	}
	slices.Sort(names)
	if len(slices.Compact(names)) != len(faults()) {
		t.Error("two faults have one name")
	}
}
