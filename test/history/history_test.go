package history

import (
	"strings"
	"testing"

	"holdfast/brokerd/pop"
)

func handle(queue uint32, offset uint64) string {
	return pop.Handle{BrokerGroup: "g", Key: pop.Key{Group: "c", Topic: "t", Queue: queue}, Offset: offset, Nonce: 7}.String()
}

func sent(id string) Event  { return Event{Kind: Sent, Message: id} }
func acked(id string) Event { return Event{Kind: Acked, Message: id} }
func got(id string, queue uint32, offset uint64, attempt int32) Event {
	return Event{Kind: Got, Message: id, Handle: handle(queue, offset), Attempt: attempt}
}

// TestJudge plants each kind of violation, and what is allowed.
func TestJudge(t *testing.T) {
	good := []Event{sent("a"), sent("b"), acked("a"), got("a", 0, 0, 1), acked("b"), got("b", 0, 1, 1), got("a", 0, 0, 2), sent("c"), {Kind: Failed, Message: "c"}}
	for name, tt := range map[string]struct {
		more []Event
		want string // in Wrong, "" = fine
		lost int
	}{
		"fine":                     {nil, "", 0},
		"failed one is delivered":  {[]Event{got("c", 0, 2, 1)}, "", 0},
		"stored twice":             {[]Event{got("a", 1, 0, 1)}, "", 0},
		"lost":                     {[]Event{sent("d"), acked("d")}, "", 1},
		"another in its place":     {[]Event{sent("d"), got("d", 0, 1, 2)}, "place 1 of queue g/t/0 had message b and has message d", 0},
		"out of order":             {[]Event{sent("d"), got("d", 0, 5, 1), sent("e"), got("e", 0, 4, 1)}, "first delivery of place 4", 0},
		"delivered first twice":    {[]Event{got("b", 0, 1, 1)}, "for the first time twice", 0},
		"never sent":               {[]Event{got("x", 0, 9, 1)}, "delivered and never sent", 0},
		"acknowledged, never sent": {[]Event{acked("x"), got("x", 0, 9, 1)}, "acknowledged and never sent", 0},
		"receipt":                  {[]Event{{Kind: Got, Message: "a", Handle: "?"}}, "cannot be read", 0},
		"sent twice":               {[]Event{sent("a")}, "the history itself", 0},
		"another kind":             {[]Event{{Kind: "x"}}, "event of kind", 0},
	} {
		v := Judge(append(append([]Event{}, good...), tt.more...))
		if len(v.Lost) != tt.lost || (len(v.Wrong) == 0) != (tt.want == "") || !strings.Contains(strings.Join(v.Wrong, "\n"), tt.want) || v.Fine() != (tt.want == "" && tt.lost == 0) {
			t.Errorf("%s: %s", name, v.String())
		}
	}
}

func TestGap(t *testing.T) {
	v := Judge([]Event{sent("a"), sent("b"), sent("c"), {At: 5, Kind: Acked, Message: "a"}, {At: 105, Kind: Acked, Message: "b"}, {At: 107, Kind: Acked, Message: "c"}})
	if v.Gap != 100 || v.GapAt != 5 {
		t.Errorf("gap %d at %d", v.Gap, v.GapAt)
	}
}

func TestRead(t *testing.T) {
	events, err := Read(strings.NewReader("{\"at\":1,\"kind\":\"sent\",\"message\":\"a\"}\n{\"kind\":\"got\",\"message\":\"a\",\"handle\":\"h\",\"attempt\":2}\n"))
	if err != nil || len(events) != 2 || events[1].Attempt != 2 {
		t.Errorf("%+v %v", events, err)
	}
	if _, err := Read(strings.NewReader("{}\n{\n")); err == nil || !strings.Contains(err.Error(), "line 2") {
		t.Errorf("%v", err)
	}
}
