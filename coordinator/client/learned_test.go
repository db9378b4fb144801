package client

import (
	"maps"
	"slices"
	"testing"

	pb "holdfast/coordinator/api/holdfastpb"
)

func configuration(index uint64, names ...string) *pb.Configuration {
	c := &pb.Configuration{Index: index}
	for _, name := range names {
		c.Members = append(c.Members, &pb.Coordinator{Name: name, ApiAddress: name + ":1"})
	}
	return c
}

func TestRemovedCoordinatorsAreForgotten(t *testing.T) {
	l := newLearned()
	expect := func(what string, want ...string) {
		t.Helper()
		if got := slices.Sorted(maps.Keys(l.addresses())); !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", what, got, want)
		}
	}
	for _, name := range []string{"a", "b", "c"} {
		l.see(name, configuration(1, "a", "b", "c"))
	}
	l.see("a", nil)
	expect("at first", "a", "b", "c")
	l.see("a", configuration(9, "a", "b", "d"))
	expect("c goes on by what it knows, so does b", "a", "b", "c", "d")
	l.gone("c")
	expect("b still names c", "a", "b", "c", "d")
	l.see("b", configuration(9, "a", "b", "d"))
	expect("c has gone", "a", "b", "d")
	l.see("c", configuration(1, "a", "b", "c"))
	expect("c runs, though it was removed", "a", "b", "c", "d")
	l.gone("c")
	expect("c has been stopped", "a", "b", "d")
	l.gone("a")
	l.gone("b")
	expect("nobody is connected", "a", "b", "d")
	l.see("b", configuration(5, "a", "b", "c")) // cut back
	expect("a may know better than b", "a", "b", "c", "d")
	l.see("a", configuration(5, "a", "b", "c"))
	expect("it does not", "a", "b", "c")
	nowhere := configuration(12, "a", "b", "c")
	nowhere.Members = append(nowhere.Members, &pb.Coordinator{}, &pb.Coordinator{Name: "e"})
	nowhere.Members[0].ApiAddress = ""
	l.see("a", nowhere)
	expect("an address that is not known now stays", "a", "b", "c")
	if len(l.told) != 2 {
		t.Errorf("remembers what %d told, want a and b", len(l.told))
	}
}
