package history_test

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"holdfast/test/lab/history"
)

// clean is a history without fault: two producers, one queue in each of two groups, two
// consumers of one group. Message m4 was tried twice and is stored twice; m5 failed for certain, m6 perhaps.
func clean() []history.Event {
	var at int64
	var all []history.Event
	add := func(e history.Event) {
		at += int64(time.Millisecond)
		e.At = at
		all = append(all, e)
	}
	send := func(client, m string) { add(history.Event{Kind: history.Send, Client: client, Message: m}) }
	stored := func(client, m string, offset int64) {
		add(history.Event{Kind: history.Stored, Client: client, Message: m, Offset: offset})
	}
	on := func(kind history.Kind, client, m, group string, offset int64, attempt int32) {
		add(history.Event{Kind: kind, Client: client, Message: m, Consumers: "readers", Topic: "t", Group: group, Offset: offset, Attempt: attempt})
	}
	send("p1", "m1")
	stored("p1", "m1", 0)
	send("p1", "m2")
	send("p2", "m3")
	stored("p1", "m2", 1)
	stored("p2", "m3", 0)
	send("p1", "m4")
	stored("p1", "m4", 1)
	send("p2", "m5")
	add(history.Event{Kind: history.Failed, Client: "p2", Message: "m5", Definite: true})
	send("p2", "m6")
	add(history.Event{Kind: history.Failed, Client: "p2", Message: "m6"})
	on(history.Received, "c1", "m1", "a", 0, 1)
	on(history.Acked, "c1", "m1", "a", 0, 1)
	on(history.Received, "c2", "m3", "b", 0, 1)
	on(history.Received, "c1", "m2", "a", 1, 1)
	on(history.Received, "c1", "m4", "a", 2, 1)
	on(history.Received, "c2", "m4", "b", 1, 1)
	on(history.Received, "c1", "m6", "b", 2, 1)
	on(history.Received, "c1", "m3", "b", 0, 2)
	on(history.Acked, "c1", "m3", "b", 0, 2)
	return all
}

func judge(t *testing.T, events []history.Event) history.Report {
	t.Helper()
	var b bytes.Buffer
	w := history.NewWriter(&b)
	for _, e := range events {
		if err := w.Write(e); err != nil {
			t.Fatal(err)
		}
	}
	j, err := history.Read(&b)
	if err != nil {
		t.Fatal(err)
	}
	first := j.Report()
	if again := j.Report(); again.String() != first.String() {
		t.Fatalf("asked again:\n%v\n%v", first, again)
	}
	return first
}

func TestClean(t *testing.T) {
	got := judge(t, clean())
	want := history.Report{Sent: 6, Stored: 4, Indefinite: 1, Definite: 1, Delivered: 5, StoredTwice: 1, DeliveredAgain: 1,
		LongestGap: 3 * time.Millisecond, GapAt: int64(2 * time.Millisecond)}
	if got.String() != want.String() || got.GapAt != want.GapAt {
		t.Errorf("\n%v, gap at %d, want\n%v", got, got.GapAt, want)
	}
}

// Each fault is planted in the clean history, and found under its rule alone.
func TestFaults(t *testing.T) {
	find := func(all []history.Event, kind history.Kind, m string) int {
		for i, e := range all {
			if e.Kind == kind && e.Message == m {
				return i
			}
		}
		t.Fatalf("no %s of %s", kind, m)
		return 0
	}
	without := func(all []history.Event, i int) []history.Event { return append(all[:i:i], all[i+1:]...) }
	for name, tt := range map[string]struct {
		plant func([]history.Event) []history.Event
		rule  string
		count func(history.Report) int // what must be 1, if there is such a count
	}{
		"lost": {func(all []history.Event) []history.Event { return without(all, find(all, history.Received, "m2")) },
			history.RuleDelivered, func(r history.Report) int { return r.Lost }},
		"lost for one group": {func(all []history.Event) []history.Event {
			for _, e := range all {
				if e.Kind == history.Received && e.Message != "m2" {
					e.Consumers = "others"
					all = append(all, e)
				}
			}
			return all
		}, history.RuleDelivered, func(r history.Report) int { return r.Lost }},
		"replaced": {func(all []history.Event) []history.Event {
			all[find(all, history.Received, "m4")].Offset = 1 // where m2 is; told offset 1 is true
			return all
		}, history.RulePlace, nil},
		"told another offset": {func(all []history.Event) []history.Event {
			all[find(all, history.Stored, "m2")].Offset = 7
			return all
		}, history.RuleOffset, nil},
		"delivered out of order": {func(all []history.Event) []history.Event {
			i, j := find(all, history.Received, "m1"), find(all, history.Received, "m2")
			all[i].At, all[j].At = all[j].At, all[i].At
			all[i], all[j] = all[j], all[i]
			return all
		}, history.RuleOrder, nil},
		"stored out of order": {func(all []history.Event) []history.Event {
			i, j := find(all, history.Received, "m1"), find(all, history.Received, "m2")
			all[i].Message, all[j].Message = "m2", "m1"
			all[find(all, history.Stored, "m1")].Offset = 1
			all[find(all, history.Stored, "m2")].Offset = 0
			return without(all, find(all, history.Acked, "m1"))
		}, history.RuleOrder, nil},
		"refused and there": {func(all []history.Event) []history.Event {
			all[find(all, history.Received, "m6")].Message = "m5"
			return all
		}, history.RuleDefinite, nil},
		"never sent": {func(all []history.Event) []history.Event {
			all[find(all, history.Received, "m6")].Message = "m7"
			return all
		}, history.RuleKnown, nil},
		"sent twice": {func(all []history.Event) []history.Event { return append(all, all[0]) }, history.RuleHistory, nil},
		"unknown kind": {func(all []history.Event) []history.Event {
			all[len(all)-1].Kind = "whatever"
			return all
		}, history.RuleHistory, nil},
	} {
		r := judge(t, tt.plant(clean()))
		if len(r.Violations) != 1 || r.Violations[0].Rule != tt.rule || tt.count != nil && tt.count(r) != 1 {
			t.Errorf("%s: %v", name, r)
		}
	}
	// Not wrong: the first delivery of m2 did not arrive, the second came later.
	late := clean()
	i, j := find(late, history.Received, "m2"), find(late, history.Received, "m4")
	late[j].Offset, late[find(late, history.Stored, "m4")].Offset = 2, 2
	late[i], late[j] = late[j], late[i]
	late[j].Attempt = 2
	if r := judge(t, late); len(r.Violations) != 0 {
		t.Errorf("a later attempt: %v", r)
	}
	// Not wrong: m2 was sent before m1 was known to be stored, and both may come first.
	both := clean()
	both[1], both[2] = both[2], both[1]
	both[1].At, both[2].At = both[2].At, both[1].At
	i, j = find(both, history.Received, "m1"), find(both, history.Received, "m2")
	both[i].Message, both[j].Message = "m2", "m1"
	both[find(both, history.Stored, "m1")].Offset, both[find(both, history.Stored, "m2")].Offset = 1, 0
	both = without(both, find(both, history.Acked, "m1"))
	if r := judge(t, both); len(r.Violations) != 0 {
		t.Errorf("sent at the same time: %v", r)
	}
	// Not wrong, but counted.
	again := clean()
	again = append(again, again[find(again, history.Received, "m1")])
	if r := judge(t, again); len(r.Violations) != 0 || r.AfterAck != 1 || r.DeliveredAgain != 2 {
		t.Errorf("after its acknowledgement: %v", r)
	}
}

// Nobody received anything: all that is stored is lost, and the list is bounded.
func TestNothingReceived(t *testing.T) {
	var all []history.Event
	for i := range 100 {
		m := strings.Repeat("m", i+1)
		all = append(all, history.Event{Kind: history.Send, Message: m}, history.Event{Kind: history.Stored, Message: m})
	}
	if r := judge(t, all); r.Lost != 100 || len(r.Violations) != 20 {
		t.Errorf("%d lost, %d violations", r.Lost, len(r.Violations))
	}
}

func TestReadRefuses(t *testing.T) {
	if _, err := history.Read(strings.NewReader("{}\nnot JSON\n")); err == nil || !strings.Contains(err.Error(), "line 2") {
		t.Error(err)
	}
}
