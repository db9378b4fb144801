package coordinator

import (
	"slices"
	"strings"
	"testing"
	"time"

	pb "holdfast/coordinator/api/holdfastpb"
	"holdfast/coordinator/lease"
	"holdfast/fsm"
)

// agentOf returns what a coordinator's status says of a host's agent, and all
// problems.
func (q *quorum) agentOf(coordinator, host string) (*pb.AgentStatus, *pb.StatusReply) {
	q.t.Helper()
	s := q.nodes[coordinator].Status(q.ctx)
	i := slices.IndexFunc(s.Agents, func(a *pb.AgentStatus) bool { return a.Host == host })
	if i < 0 {
		q.t.Fatalf("%s knows no agent on %s", coordinator, host)
	}
	return s.Agents[i], s
}

func TestStatusTellsOfTheFence(t *testing.T) {
	inBubble(t, func(t *testing.T, q *quorum) {
		h1, h2 := q.open("h1"), q.open("h2")
		h1.renew()
		q.put(web())
		q.renewFor(time.Second, h1, h2)
		if a, _ := q.agentOf("c2", "h1"); a.Fence != "" || a.FenceLeftMs != 0 {
			t.Errorf("not told: %v", a)
		}
		h1.fence = lease.FenceReport{Kind: lease.FenceEBPF, Interfaces: 2, Left: 830 * time.Millisecond, Dropped: 12}
		h1.renew()
		h2.renew()
		q.pass(100 * time.Millisecond)
		for _, name := range []string{"c1", "c2", "c3"} { // it has told each of them
			a, s := q.agentOf(name, "h1")
			if a.Fence != "ebpf" || a.FenceLeftMs != 730 || a.FenceDropped != 12 || a.FenceInterfaces != 2 || len(s.Problems) > 0 {
				t.Errorf("%s: %v, problems %q", name, a, s.Problems)
			}
		}
		// An agent that falls silent: the deadline goes by, to the eyes of the coordinators.
		q.setCut("h1", "c2", true)
		q.renewFor(2*time.Second, h1, h2)
		if a, _ := q.agentOf("c2", "h1"); a.FenceLeftMs > -1000 {
			t.Errorf("after a silence: %v", a)
		}
		q.setCut("h1", "c2", false)
		for _, tt := range []struct {
			kind             lease.FenceKind
			verdict, problem string
		}{
			{lease.FenceNFT, "ok", "weaker fence, nft"},
			{lease.FenceNone, "ok", "has no fence"},
			{lease.FenceRefused, "degraded", "holds nothing: the self-check of its fence has failed"},
		} {
			h1.fence = lease.FenceReport{Kind: tt.kind}
			q.renewFor(300*time.Millisecond, h1, h2)
			if _, s := q.agentOf("c2", "h1"); s.Verdict != tt.verdict || len(s.Problems) != 1 || !strings.Contains(s.Problems[0], tt.problem) {
				t.Errorf("%s: %s, problems %q", tt.kind, s.Verdict, s.Problems)
			}
		}
	})
}

// A report changes nothing but what is shown, and goes with its session.
func TestFenceReportsAreOfASession(t *testing.T) {
	inBubble(t, func(t *testing.T, q *quorum) {
		h1 := q.open("h1")
		h1.fence = lease.FenceReport{Kind: lease.FenceRefused}
		h1.renew()
		q.put(web())
		q.renewFor(time.Second, h1)
		if got := q.holderOf("web"); got != "h1" {
			t.Errorf("holder %q: the scheduler looks at what is for people", got)
		}
		if _, err := q.node().Close(q.ctx, &pb.CloseRequest{Session: h1.id}); err != nil {
			t.Fatal(err)
		}
		q.pass(10 * time.Millisecond)
		for name, c := range q.nodes {
			if len(c.told) != 0 {
				t.Errorf("%s remembers %v", name, c.told)
			}
		}
	})
}

func TestStallsAreEvents(t *testing.T) {
	inBubble(t, func(t *testing.T, q *quorum) {
		h1, h2 := q.open("h1"), q.open("h2")
		report := func(h *holder, lasted int64) error {
			_, err := q.node().ReportStall(q.ctx, &pb.ReportStallRequest{Session: h.id, LastedMs: lasted, EndedMsAgo: 300, More: 1})
			return err
		}
		if err := report(h1, 2800); err != nil {
			t.Fatal(err)
		}
		row := q.changesOf("stall")[0]
		if row.Host != "h1" || row.Actor != "agent/h1" || row.Cause != "did not run for 2.8s, until 300ms before this report, and 1 shorter time" {
			t.Errorf("noted %+v", row)
		}
		if err := report(h1, 1000); err == nil || !strings.Contains(err.Error(), "at most one in 9s") {
			t.Errorf("at once again: %v", err)
		}
		if err := report(h2, 1000); err != nil {
			t.Errorf("of another host: %v", err)
		}
		q.renewFor(10*time.Second, h1, h2)
		if err := report(h1, 1000); err != nil {
			t.Errorf("10 s later: %v", err)
		}
		for _, bad := range []int64{-1, 0, 99, 1 << 62} {
			q.renewFor(10*time.Second, h1, h2)
			if err := report(h1, bad); err == nil {
				t.Errorf("a stall of %d ms was noted", bad)
			}
		}
		if err := report(&holder{id: 9999}, 1000); err == nil || !strings.Contains(err.Error(), string(fsm.CodeNotFound)) {
			t.Errorf("of no session: %v", err)
		}
		if n := len(q.changesOf("stall")); n != 3 {
			t.Errorf("%d stalls noted", n)
		}
	})
}
