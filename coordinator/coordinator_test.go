package coordinator

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	pb "holdfast/coordinator/api/holdfastpb"
	"holdfast/coordinator/lease"
	"holdfast/fsm"
)

// inBubble runs a scenario on three coordinators, c1 leading.
func inBubble(t *testing.T, scenario func(t *testing.T, q *quorum)) {
	synctest.Test(t, func(t *testing.T) {
		q := newQuorum(t, "c1", "c2", "c3")
		q.lead("c1")
		scenario(t, q)
	})
}

func TestSilentHolderIsReplacedInOneEntry(t *testing.T) {
	inBubble(t, func(t *testing.T, q *quorum) {
		h1, h2 := q.open("h1"), q.open("h2")
		h1.renew()
		h2.renew()
		q.put(web())
		q.renewFor(2*time.Second, h1, h2)
		if got := q.holderOf("web"); got != "h1" {
			t.Fatalf("holder %q, want h1", got)
		}
		deadline := h1.Deadline()
		q.renewFor(1500*time.Millisecond, h2)
		if got := q.holderOf("web"); got != "h2" {
			t.Fatalf("holder after silence %q, want h2", got)
		}
		expire := q.changesOf("expire")
		grants := q.changesOf("grant")
		if len(expire) == 0 || grants[len(grants)-1].Index != expire[0].Index {
			t.Fatalf("expire %v and next grant %v are not one entry", expire, grants)
		}
		if !h1.Lapsed(q.now()) || deadline != h1.Deadline() {
			t.Fatal("the old holder still believes to hold")
		}
	})
}

func TestHolderHeardByAMajorityOnlyIsNotFenced(t *testing.T) {
	inBubble(t, func(t *testing.T, q *quorum) {
		h1, h2 := q.open("h1"), q.open("h2")
		h1.renew()
		h2.renew()
		q.put(web())
		q.setCut("h1", "c1", true) // the leader does not hear the holder
		q.renewFor(10*time.Second, h1, h2)
		if got := q.holderOf("web"); got != "h1" {
			t.Fatalf("holder %q, want h1", got)
		}
		if n := len(q.changesOf("expire")); n != 0 {
			t.Fatalf("%d sessions expired", n)
		}
		for name, s := range q.stores {
			if n := len(s.Marks()); n != 0 {
				t.Errorf("%s marked a healthy session", name)
			}
		}
		if h1.Lapsed(q.now()) {
			t.Fatal("the holder reaches a majority and lapsed")
		}
	})
}

func TestNewSessionGetsOnePromiseToSpeak(t *testing.T) {
	inBubble(t, func(t *testing.T, q *quorum) {
		q.pass(5 * time.Second) // quiet time and configuration wait are over
		q.open("h1")            // says nothing
		q.pass(time.Second)
		if n := len(q.changesOf("expire")); n != 0 {
			t.Fatal("expired before it could have been heard")
		}
		q.pass(100 * time.Millisecond)
		if n := len(q.changesOf("expire")); n != 1 {
			t.Fatalf("%d sessions expired, want the silent one", n)
		}
	})
}

func TestNewLeaderNeedsNoWait(t *testing.T) {
	inBubble(t, func(t *testing.T, q *quorum) {
		h1, h2 := q.open("h1"), q.open("h2")
		h1.renew()
		h2.renew()
		q.put(web())
		q.renewFor(2*time.Second, h1, h2)
		silentSince := q.now()
		q.renewFor(600*time.Millisecond, h2)
		q.setCut("c2", "c1", true)
		q.setCut("c3", "c1", true)
		q.lead("c2") // leader and holder are lost together
		for q.holderOf("web") != "h2" {
			if q.now().Sub(silentSince) > 5*time.Second {
				t.Fatal("never taken over")
			}
			h2.renew()
			q.pass(10 * time.Millisecond)
		}
		// max(election, TTL), not their sum: h1 was last answered at most a round
		// before silentSince.
		if took := q.now().Sub(silentSince); took > 1100*time.Millisecond {
			t.Fatalf("taken over after %v", took)
		}
	})
}

func TestRestartedCoordinatorsStayQuiet(t *testing.T) {
	inBubble(t, func(t *testing.T, q *quorum) {
		h1 := q.open("h1")
		h1.renew()
		q.put(web())
		q.renewFor(2*time.Second, h1)
		// c2 and c3 forget their promises; c1 does not hear h1 at all.
		h1.renew()
		q.start("c2")
		q.start("c3")
		open := []uint64{h1.id}
		for _, name := range []string{"c2", "c3"} {
			r, err := q.nodes[name].Fence(q.ctx, &pb.FenceRequest{Sessions: open})
			if err != nil {
				t.Fatal(err)
			}
			if r.Results[0].Agreed {
				t.Fatalf("%s agreed in its quiet time", name)
			}
			if p, _ := q.nodes[name].Probe(q.ctx, &pb.ProbeRequest{Sessions: open}); p.Results[0].Lapsed {
				t.Fatalf("%s says lapsed in its quiet time", name)
			}
		}
		q.pass(lease.DefaultParams().Promise(time.Second))
		r, _ := q.nodes["c2"].Fence(q.ctx, &pb.FenceRequest{Sessions: open})
		if len(r.Results) == 1 && !r.Results[0].Agreed && r.Results[0].Refusal != "not open here" {
			t.Fatalf("c2 still refuses: %s", r.Results[0].Refusal)
		}
	})
}

func TestMarksStayUntilBothSnapshotsHaveTheEnd(t *testing.T) {
	inBubble(t, func(t *testing.T, q *quorum) {
		h1 := q.open("h1")
		q.renewFor(time.Second, h1)
		q.pass(3 * time.Second)
		if n := len(q.changesOf("expire")); n != 1 {
			t.Fatalf("%d sessions expired, want 1", n)
		}
		end := q.changesOf("expire")[0].Index
		// A majority was enough to end it: the third may not have marked it.
		marks := func() (n int) {
			synctest.Wait()
			for _, s := range q.stores {
				n += len(s.Marks())
			}
			return n
		}
		persisted := func(index uint64) {
			for _, c := range q.nodes {
				c.Machine().Persisted(index)
			}
		}
		before := marks()
		if before < 2 {
			t.Fatalf("%d marks: they are gone, but a restart without a snapshot sees the session open again", before)
		}
		persisted(end - 1)
		persisted(end)
		if marks() != before {
			t.Fatal("marks are gone, but the older of two snapshots still has the session open")
		}
		persisted(end + 1)
		if n := marks(); n != 0 {
			t.Fatalf("%d marks stay that are needed no more", n)
		}
	})
}

func TestFailedMarkIsNoAgreement(t *testing.T) {
	inBubble(t, func(t *testing.T, q *quorum) {
		h1 := q.open("h1")
		q.renewFor(time.Second, h1)
		for _, s := range q.stores {
			s.mu.Lock()
			s.fail = errors.New("disk full")
			s.mu.Unlock()
		}
		q.pass(3 * time.Second)
		if n := len(q.changesOf("expire")); n != 0 {
			t.Fatal("a session was expired without one durable mark")
		}
		before := h1.Deadline()
		h1.renew()
		if h1.Deadline() != before {
			t.Fatal("a session whose mark may be on disk was answered")
		}
	})
}

// Coordinator rule 4: the quiet time of the next start must cover a promise, so the
// TTL is on disk before the first one is made for it.
func TestLongestTTLIsOnDiskFirst(t *testing.T) {
	inBubble(t, func(t *testing.T, q *quorum) {
		raised := 0
		for name, s := range q.stores {
			c := q.nodes[name]
			s.raising = func(d time.Duration) {
				c.voterMu.Lock()
				defer c.voterMu.Unlock()
				raised++
				if c.ledger.LongestTTL() >= d {
					t.Errorf("%s promises for %v, which is not on its disk yet", name, d)
				}
			}
		}
		q.open("h1").renew()
		q.pass(time.Second)
		if raised == 0 {
			t.Error("no TTL was written")
		}
	})
}

func TestReleaseCarriesTheNextGrant(t *testing.T) {
	inBubble(t, func(t *testing.T, q *quorum) {
		h1, h2 := q.open("h1"), q.open("h2")
		h1.renew()
		h2.renew()
		q.put(web())
		v := q.node().View("h1")
		if len(v.Held) != 1 || v.Held[0].Session != h1.id {
			t.Fatalf("view of h1: %v", v)
		}
		reply, err := q.node().Release(q.ctx, &pb.ReleaseRequest{
			Session: h1.id, Cause: "check haproxy is bad",
			Releases:   []*pb.Release{{Set: "web", Epoch: v.Held[0].Epoch}},
			Conditions: []*pb.Condition{{Set: "web", Veto: true, Reason: "haproxy is dead"}},
		})
		if err != nil {
			t.Fatal(err)
		}
		grants := q.changesOf("grant")
		last := grants[len(grants)-1]
		if last.Index != reply.Index || last.Host != "h2" {
			t.Fatalf("next grant %+v, want h2 at index %d", last, reply.Index)
		}
		// The answer was lost and the agent asks again: no harm.
		if _, err := q.node().Release(q.ctx, &pb.ReleaseRequest{Session: h1.id, Releases: []*pb.Release{{Set: "web", Epoch: v.Held[0].Epoch}}}); err != nil {
			t.Fatalf("repeated release: %v", err)
		}
		if got := q.holderOf("web"); got != "h2" {
			t.Fatalf("holder %q after a repeated release, want h2", got)
		}
	})
}

func TestMoveRecallsAndComesBackOnlyWhenAsked(t *testing.T) {
	inBubble(t, func(t *testing.T, q *quorum) {
		h1, h2 := q.open("h1"), q.open("h2")
		h1.renew()
		h2.renew()
		q.put(web())
		if _, err := q.node().Move(q.ctx, "op", &pb.MoveRequest{Set: "web", To: "h9"}); err == nil {
			t.Fatal("moved to a host that is no candidate")
		}
		if _, err := q.node().Move(q.ctx, "op", &pb.MoveRequest{Set: "web", To: "h2"}); err != nil {
			t.Fatal(err)
		}
		q.pass(10 * time.Millisecond)
		held := q.node().View("h1").Held
		if len(held) != 1 || held[0].Recall.GetTo() != "h2" {
			t.Fatalf("h1 is not asked to release: %v", held)
		}
		if _, err := q.node().Release(q.ctx, &pb.ReleaseRequest{Session: h1.id, Releases: []*pb.Release{{Set: "web", Epoch: held[0].Epoch}}}); err != nil {
			t.Fatal(err)
		}
		q.renewFor(3*time.Second, h1, h2)
		if got := q.holderOf("web"); got != "h2" {
			t.Fatalf("holder %q, want h2", got)
		}
	})
}

func TestRenewalsThatGetNoAnswer(t *testing.T) {
	inBubble(t, func(t *testing.T, q *quorum) {
		h := q.open("h1")
		good := lease.Renewal{Session: h.id, Round: h.Begin(q.now()), Configuration: 1}
		other := [32]byte{1}
		unknown := good
		unknown.Session = 999
		stale := good
		stale.Configuration = 9
		for name, d := range map[string][]byte{
			"empty": {}, "garbage": []byte("hello"), "cut": good.Marshal(&h.secret)[:20],
			"wrong secret": good.Marshal(&other), "unknown session": unknown.Marshal(&h.secret),
			"another configuration": stale.Marshal(&h.secret),
		} {
			q.nodes["c1"].HandleDatagram("agent/h1", d)
			if n := len(q.inbox["agent/h1"]); n != 0 {
				t.Errorf("%s: answered", name)
			}
		}
		q.nodes["c1"].HandleDatagram("agent/h1", good.Marshal(&h.secret))
		if n := len(q.inbox["agent/h1"]); n != 1 {
			t.Errorf("a good renewal got %d answers", n)
		}
	})
}

func TestWatchSendsOnlyNews(t *testing.T) {
	inBubble(t, func(t *testing.T, q *quorum) {
		h1 := q.open("h1")
		h1.renew()
		ctx, stop := context.WithCancel(q.ctx)
		defer stop()
		var views []*pb.View
		go func() {
			_ = q.node().Watch(ctx, &pb.WatchRequest{Host: "h1"}, func(v *pb.View) error { views = append(views, v); return nil })
		}()
		synctest.Wait()
		if len(views) != 1 {
			t.Fatalf("%d views at first, want 1", len(views))
		}
		q.open("stranger") // concerns another host
		if len(views) != 1 {
			t.Fatalf("a change of another host was sent: %v", views[len(views)-1])
		}
		q.put(web())
		q.pass(10 * time.Millisecond)
		last := views[len(views)-1]
		if len(last.Held) != 1 || last.Held[0].Set.Name != "web" {
			t.Fatalf("grant not seen: %v", last)
		}
	})
}

func TestFoundingsThatShareAMemberCannotBothSucceed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQuorum(t, "a", "b", "c", "d")
		q.setCut("a", "d", true) // a sees a, b, c
		q.setCut("b", "a", true) // b sees b, c, d
		type result struct {
			by      string
			servers []Server
		}
		results := make(chan result, 4)
		ctx, cancel := context.WithTimeout(q.ctx, 5*time.Second)
		defer cancel()
		for _, name := range q.names {
			go func() {
				servers, _ := q.nodes[name].Found(ctx, 3)
				results <- result{name, servers}
			}()
		}
		founded := 0
		for range q.names {
			if r := <-results; r.servers != nil {
				founded++
				t.Logf("%s founds with %v", r.by, r.servers)
			}
		}
		if founded > 1 {
			t.Fatalf("%d foundings", founded)
		}
	})
}

func TestFounderIsTheLowestNameOfExactlyTheExpected(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQuorum(t, "a", "b", "c")
		ctx, cancel := context.WithTimeout(q.ctx, time.Second)
		defer cancel()
		servers, err := q.nodes["a"].Found(ctx, 3)
		if err != nil || len(servers) != 3 {
			t.Fatalf("a founds with %v, %v", servers, err)
		}
		if servers, err := q.nodes["b"].Found(ctx, 3); servers != nil || err == nil {
			t.Fatalf("b founds with %v, %v", servers, err)
		}
	})
}

func TestApplyIsAllOrNone(t *testing.T) {
	inBubble(t, func(t *testing.T, q *quorum) {
		clash := web()
		clash.Name = "other"
		_, err := q.node().Apply(q.ctx, "op", &pb.ApplyRequest{Sets: []*pb.VIPSet{web(), clash}})
		var refusal *fsm.Refusal
		if !errors.As(err, &refusal) {
			t.Fatalf("two sets with one address: %v", err)
		}
		if l, _ := q.node().ListSets(&pb.ListSetsRequest{}); len(l.Sets) != 0 {
			t.Fatalf("half applied: %v", l.Sets)
		}
		r, err := q.node().Apply(q.ctx, "op", &pb.ApplyRequest{Sets: []*pb.VIPSet{web()}, DryRun: true})
		if err != nil || r.Index != 0 {
			t.Fatalf("dry run: %v, %v", r, err)
		}
		if l, _ := q.node().ListSets(&pb.ListSetsRequest{}); len(l.Sets) != 0 {
			t.Fatal("a dry run changed something")
		}
	})
}

func TestSnapshotRestoresSetsAndNeverGrants(t *testing.T) {
	inBubble(t, func(t *testing.T, q *quorum) {
		h1, h2 := q.open("h1"), q.open("h2")
		h1.renew()
		h2.renew()
		q.put(web())
		saved, err := q.node().SaveSnapshot()
		if err != nil {
			t.Fatal(err)
		}
		epoch := q.node().View("h1").Held[0].Epoch
		if _, err := q.node().Delete(q.ctx, "op", &pb.DeleteRequest{Set: "web"}); err != nil {
			t.Fatal(err)
		}
		if r := q.node().View("h1").Retiring; len(r) != 1 {
			t.Fatalf("retiring: %v", r)
		}
		// Its address is still up on h1: the set cannot come back yet.
		if _, err := q.node().RestoreSnapshot(q.ctx, "op", saved); err == nil {
			t.Fatal("restored an address that is not confirmed down")
		}
		ret := q.node().View("h1").Retiring[0]
		if _, err := q.node().ConfirmRemoval(q.ctx, &pb.ConfirmRemovalRequest{Session: h1.id, Removed: []*pb.Retiring{ret}}); err != nil {
			t.Fatal(err)
		}
		if _, err := q.node().RestoreSnapshot(q.ctx, "op", saved); err != nil {
			t.Fatal(err)
		}
		q.pass(10 * time.Millisecond)
		held := q.node().View("h1").Held
		if len(held) != 1 || held[0].Epoch <= epoch {
			t.Fatalf("held after the restore: %v, want an epoch above %d", held, epoch)
		}
		if _, err := q.node().RestoreSnapshot(q.ctx, "op", saved[:len(saved)-3]); err == nil {
			t.Fatal("restored a snapshot that is cut short")
		}
	})
}

func TestOneUndecidedSessionDelaysNoOther(t *testing.T) {
	for phase := range 10 {
		inBubble(t, func(t *testing.T, q *quorum) {
			h1, h2, odd := q.open("h1"), q.open("h2"), q.open("odd")
			q.setCut("odd", "c1", true) // healthy, but silent to the leader
			h1.renew()
			h2.renew()
			q.put(web())
			q.renewFor(3*time.Second+time.Duration(phase)*100*time.Millisecond, h1, h2, odd)
			last := q.now()
			h1.renew()
			for q.holderOf("web") != "h2" {
				if took := q.now().Sub(last); took > 1100*time.Millisecond {
					t.Fatalf("phase %d: not taken over after %v", phase, took)
				}
				q.renewFor(10*time.Millisecond, h2, odd)
			}
		})
	}
}

// The leader's promise lapses a moment before that of the only other coordinator
// that can answer: the third one, which cannot, must not hold the takeover up.
func TestMuteCoordinatorDelaysNoTakeover(t *testing.T) {
	inBubble(t, func(t *testing.T, q *quorum) {
		h1, h2 := q.open("h1"), q.open("h2")
		h1.renew()
		h2.renew()
		q.put(web())
		q.renewFor(3*time.Second, h1, h2)
		q.setCut("h1", "c2", true)
		h1.renew()
		q.pass(8 * time.Millisecond)
		q.setCut("h1", "c2", false)
		q.setCut("h1", "c1", true)
		q.setCut("h1", "c3", true)
		h1.renew()
		last := q.now()
		q.mute["c3"] = true
		for q.holderOf("web") != "h2" {
			if took := q.now().Sub(last); took > 1100*time.Millisecond {
				t.Fatalf("not taken over after %v", took)
			}
			q.renewFor(10*time.Millisecond, h2)
		}
	})
}

func TestPreemptDelayBeginsAgainWithALeader(t *testing.T) {
	inBubble(t, func(t *testing.T, q *quorum) {
		h1, h2 := q.open("h1"), q.open("h2")
		h2.renew()
		set := web()
		set.Preempt, set.PreemptDelayMs = true, 30_000
		q.put(set)
		q.renewFor(500*time.Millisecond, h2)
		if got := q.holderOf("web"); got != "h2" {
			t.Fatalf("holder %q, want h2: h1 has not renewed yet", got)
		}
		q.renewFor(time.Second, h1, h2) // c1 has seen h1 fit
		q.lead("c2")
		q.renewFor(40*time.Second, h2) // h1 is gone meanwhile
		h1 = q.open("h1")
		q.renewFor(time.Second, h1, h2)
		q.lead("c1")
		q.renewFor(10*time.Second, h1, h2)
		for _, ch := range q.changesOf("recall") {
			t.Fatalf("recalled 11 s after h1 came back, the delay is 30 s: %+v", ch)
		}
		q.renewFor(25*time.Second, h1, h2)
		if n := len(q.changesOf("recall")); n != 1 {
			t.Fatalf("%d recalls after the delay, want 1", n)
		}
	})
}

func TestWipedMemberIsRefused(t *testing.T) {
	inBubble(t, func(t *testing.T, q *quorum) {
		q.wiped["c3"] = true
		q.start("c3") // a new process: it has agreed to no founding
		ctx, cancel := context.WithTimeout(q.ctx, 3*time.Second)
		defer cancel()
		q.setCut("c3", "c1", true) // the first that is asked is dead
		if _, err := q.nodes["c3"].Found(ctx, 3); !errors.Is(err, ErrWiped) {
			t.Fatalf("a member with an empty directory: %v, want ErrWiped", err)
		}
		q.mute["c2"] = true // nobody who knows answers: it must wait
		if _, err := q.nodes["c3"].Found(ctx, 3); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("nobody answers: %v, want to wait", err)
		}
	})
}

func TestFoundingGoesOnWithAnotherMember(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQuorum(t, "a", "b", "c", "x")
		q.mute["x"] = true
		for _, n := range []string{"a", "b"} {
			q.setCut(n, "c", true) // c is not there yet
		}
		ctx, cancel := context.WithTimeout(q.ctx, 20*time.Second)
		defer cancel()
		result := make(chan []Server, 1)
		go func() { servers, _ := q.nodes["a"].Found(ctx, 3); result <- servers }()
		q.pass(5 * time.Second)
		for _, n := range []string{"a", "b"} {
			q.setCut(n, "x", true) // x was a mistake: c takes its place
			q.setCut(n, "c", false)
		}
		if servers := <-result; len(servers) != 3 || servers[2].Name != "c" {
			t.Fatalf("founded with %v, want a, b, c", servers)
		}
	})
}

func TestFollowerThatIsBehindDoesNotRefuse(t *testing.T) {
	inBubble(t, func(t *testing.T, q *quorum) {
		q.put(web())
		q.behind["c2"] = true
		if _, err := q.node().Delete(q.ctx, "op", &pb.DeleteRequest{Set: "web"}); err != nil {
			t.Fatal(err)
		}
		other := web()
		other.Name = "other"
		_, err := q.nodes["c2"].Apply(q.ctx, "op", &pb.ApplyRequest{Sets: []*pb.VIPSet{other}})
		var elsewhere *NotLeaderError
		if !errors.As(err, &elsewhere) || elsewhere.Leader != "c1" {
			t.Fatalf("a follower that is behind says %v, want that c1 leads", err)
		}
	})
}

func TestNumbersThatDoNotFit(t *testing.T) {
	inBubble(t, func(t *testing.T, q *quorum) {
		for _, ms := range []int64{-1, 3_600_001, 18446744073710} {
			set := web()
			set.PreemptDelayMs = ms
			if _, err := q.node().Apply(q.ctx, "op", &pb.ApplyRequest{Sets: []*pb.VIPSet{set}}); err == nil {
				t.Errorf("preempt delay of %d ms accepted", ms)
			}
		}
		for _, ms := range []int64{-1, 0, 199, 10_001, 18446744073710} {
			if _, err := q.node().Open(q.ctx, &pb.OpenRequest{Host: "h", TtlMs: ms, Secret: make([]byte, 32)}); err == nil {
				t.Errorf("ttl of %d ms accepted", ms)
			}
		}
		if _, err := q.node().Open(q.ctx, &pb.OpenRequest{Host: "h", TtlMs: 1000, Secret: []byte("short")}); err == nil {
			t.Error("short secret accepted")
		}
		if _, err := q.node().Probe(q.ctx, &pb.ProbeRequest{Sessions: make([]uint64, maxAsked+1)}); err == nil {
			t.Error("endless question accepted")
		}
	})
}

// A holder that too few coordinators hear, or that does not hear their answers,
// has no lease. Those who do hear it must not keep everybody else from it.
func TestHolderWithoutALeaseIsReplaced(t *testing.T) {
	for name, cuts := range map[string][]string{
		"only the leader hears it":      {"h1>c2", "h1>c3"},
		"only a follower hears it":      {"h1>c1", "h1>c3"},
		"it hears only the leader":      {"c2>agent/h1", "c3>agent/h1"},
		"it hears nobody":               {"c1>agent/h1", "c2>agent/h1", "c3>agent/h1"},
		"one hears it, it hears nobody": {"h1>c2", "h1>c3", "c1>agent/h1"},
		"nobody hears it":               {"h1>c1", "h1>c2", "h1>c3"},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, q *quorum) {
				h1, h2 := q.open("h1"), q.open("h2")
				h1.renew()
				h2.renew()
				q.put(web())
				q.renewFor(3*time.Second, h1, h2)
				fault := q.now()
				for _, c := range cuts {
					from, to, _ := strings.Cut(c, ">")
					q.setCut(from, to, true)
				}
				next := fault
				for q.holderOf("web") != "h2" {
					if q.now() >= next {
						h1.renew()
						h2.renew()
						next = next.Add(150 * time.Millisecond)
					}
					q.pass(10 * time.Millisecond)
					if q.now().Sub(fault) > 10*time.Second {
						t.Fatal("never taken over")
					}
				}
				if !h1.Lapsed(q.now()) {
					t.Error("taken over from a holder that has a lease")
				}
				// One promise after the last round that could be answered, and
				// that can begin one interval into the fault.
				if took := q.now().Sub(fault); took > 1200*time.Millisecond {
					t.Errorf("taken over after %v", took)
				}
			})
		})
	}
}

// Its session ended, such a host opens another one over the calls that still
// work, and the leader hears that one too.
func TestHostWithoutALeaseIsGivenNothing(t *testing.T) {
	for name, preempt := range map[string]bool{"preempting": true, "not preempting": false} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, q *quorum) {
				h1, h2 := q.open("h1"), q.open("h2")
				h1.renew()
				h2.renew()
				set := web()
				set.Preempt = preempt
				q.put(set)
				q.renewFor(2*time.Second, h1, h2)
				q.setCut("h1", "c2", true)
				q.setCut("h1", "c3", true)
				q.renewFor(1500*time.Millisecond, h1, h2)
				if got := q.holderOf("web"); got != "h2" {
					t.Fatalf("holder %q, want h2", got)
				}
				granted := len(q.changesOf("grant"))
				for end := q.now().Add(20 * time.Second); q.now() < end; {
					if open := q.node().View("h1").Sessions; len(open) == 0 {
						h1 = q.open("h1")
					}
					q.renewFor(300*time.Millisecond, h1, h2)
				}
				if n := len(q.changesOf("grant")); n != granted {
					t.Errorf("%d grants while h1 had no lease", n-granted)
				}
				if n := len(q.changesOf("recall")); n != 0 {
					t.Errorf("%d recalls in favour of h1, which had no lease", n)
				}
				q.setCut("h1", "c2", false)
				if len(q.node().View("h1").Sessions) == 0 {
					h1 = q.open("h1")
				}
				q.renewFor(2*time.Second, h1, h2)
				if h1.Lapsed(q.now()) {
					t.Fatal("heard by a majority again, and no lease")
				}
				if n := len(q.changesOf("recall")); preempt != (n == 1) {
					t.Errorf("%d recalls in favour of h1 after it came back, preempt is %t", n, preempt)
				}
			})
		})
	}
}

func TestStatusOfAHolderWithoutALease(t *testing.T) {
	inBubble(t, func(t *testing.T, q *quorum) {
		h1 := q.open("h1")
		h1.renew()
		q.put(web())
		q.renewFor(2*time.Second, h1)
		expect := func(name, verdict, reason string) {
			t.Helper()
			v := q.nodes[name].Status(q.ctx).Vips[0]
			if v.Verdict != verdict || !strings.Contains(v.Reason, reason) || verdict == "lapsing" && v.LeaseLeftMs > 0 {
				t.Errorf("%s says %s, %d ms left: %q", name, v.Verdict, v.LeaseLeftMs, v.Reason)
			}
		}
		expect("c2", "held", "")
		for _, name := range q.names {
			q.setCut(name, "agent/h1", true)
		}
		q.setCut("c1", "c2", true) // the session cannot be ended
		q.setCut("c1", "c3", true)
		q.renewFor(1500*time.Millisecond, h1)
		expect("c1", "lapsing", "no new renewal from its holder for 1.")
		q.start("c2") // it has forgotten that it heard the round before
		expect("c2", "lapsing", "has not heard its holder yet")
		h1.renew()
		expect("c2", "lapsing", "which has no lease")
		q.setCut("c2", "agent/h1", false)
		q.setCut("c3", "agent/h1", false)
		q.renewFor(300*time.Millisecond, h1)
		expect("c2", "held", "")
	})
}

// The leader's own promise is one of three: that it hears a holder which has
// lapsed must not make it wait.
func TestLeaderThatHearsAHolderWithoutALeaseDoesNotWait(t *testing.T) {
	inBubble(t, func(t *testing.T, q *quorum) {
		h1, h2 := q.open("h1"), q.open("h2")
		h1.renew()
		h2.renew()
		q.put(web())
		q.renewFor(3*time.Second, h1, h2)
		h1.renew()
		for _, name := range q.names {
			q.setCut("h1", name, true)
		}
		q.renewFor(900*time.Millisecond, h1, h2)
		q.pass(h1.Deadline().Sub(q.now()) + time.Millisecond)
		q.setCut("h1", "c1", false)
		h1.renew() // the round that nobody has heard yet
		q.pass(20 * time.Millisecond)
		if got := q.holderOf("web"); got != "h2" {
			t.Errorf("holder %q 20 ms after its lease, want h2: a majority can end it", got)
		}
	})
}
