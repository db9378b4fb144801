package e2e

import (
	"bufio"
	"bytes"
	"encoding/json"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	pb "holdfast/coordinator/api/holdfastpb"
	"holdfast/test/lab"
	"holdfast/test/lab/drill"
)

// minutesVariable is how long the random drill of `make campaign` goes on.
const minutesVariable = "HOLDFAST_MINUTES"

// startDrill starts a cluster with two sets of three hosts, as a user might have
// them. more are lines for every vipagent.yaml.
func startDrill(t *testing.T, more string) (*drill.Ground, *drill.Plan) {
	t.Helper()
	candidates := []*pb.Candidate{{Host: "lb1", Priority: 150}, {Host: "lb2", Priority: 100}, {Host: "db1", Priority: 50}}
	plan, err := drill.MakePlan([]*pb.VIPSet{
		{Name: "front", Addresses: []*pb.Address{{Prefix: "192.0.2.50/24"}, {Prefix: "2001:db8::50/64"}}, Candidates: candidates, Preempt: true},
		{Name: "db", Addresses: []*pb.Address{{Prefix: "192.0.2.60/24"}}, Candidates: candidates[1:]},
	}, "")
	check(t, err)
	g, err := drill.Start(t.Context(), drill.Config{Bin: os.Getenv(lab.BinVariable), Dir: t.TempDir(), TTL: time.Second, Plan: plan, More: more})
	check(t, err)
	t.Cleanup(func() { check(t, g.Close()) })
	return g, plan
}

// Random faults, several at a time: in the whole time no two hosts answer for an
// address or claim it on the wire.
func TestRandomDrill(t *testing.T) {
	length, seed := 45*time.Second, uint64(1)
	if minutes, err := strconv.ParseFloat(os.Getenv(minutesVariable), 64); err == nil {
		length, seed = time.Duration(minutes*float64(time.Minute)), uint64(time.Now().UnixNano())
	}
	g, plan := startDrill(t, "")
	file := filepath.Join(t.TempDir(), "history")
	out, err := os.Create(file)
	check(t, err)
	o, err := g.Random(t.Context(), seed, length, drill.NewHistory(out, seed, plan, g.Weak))
	check(t, err)
	check(t, out.Close())
	if o.NotCalm > 0 {
		t.Errorf("seed %d: after %d of %d steps the cluster did not come to rest although every fault had been mended", seed, o.NotCalm, o.Steps)
	}
	for _, v := range o.Violations {
		t.Errorf("seed %d: %s", seed, v)
	}
	if o.Steps < 3 {
		t.Errorf("only %d steps in %v", o.Steps, o.Ran)
	}
	t.Logf("seed %d: %d steps in %.0f s, faults %v; longest without an answer %v, in two tables %v, not at rest after %d",
		seed, o.Steps, o.Ran.Seconds(), o.Blows, o.Longest, o.Table, o.NotCalm)
	checkHistory(t, file, seed)
}

// checkHistory reads the history back: it begins with the seed, every line is
// JSON, and what fell is in it.
func checkHistory(t *testing.T, file string, seed uint64) {
	t.Helper()
	b, err := os.ReadFile(file)
	check(t, err)
	seen := make(map[string]int)
	for lines := bufio.NewScanner(bytes.NewReader(b)); lines.Scan(); {
		var line struct {
			Event string `json:"event"`
			Seed  uint64 `json:"seed"`
		}
		check(t, json.Unmarshal(lines.Bytes(), &line))
		if line.Event == "begin" && line.Seed != seed {
			t.Errorf("the history is of seed %d", line.Seed)
		}
		seen[line.Event]++
	}
	for _, event := range []string{"begin", "step", "fault", "mended", "verdict", "end"} {
		if seen[event] == 0 {
			t.Errorf("no %q in the history: %v", event, seen)
		}
	}
}

// The drill finds an overlap, tells what it was and stops: here somebody gives
// the address to a second host by hand, and no fence keeps that host silent.
func TestRandomDrillFindsOverlap(t *testing.T) {
	g, plan := startDrill(t, "fence: none\n")
	g.Weak = "" // nothing is allowed
	vip := g.Stage.VIPs[0]
	var history bytes.Buffer
	ended := make(chan drill.Outcome, 1)
	go func() {
		o, err := g.Random(t.Context(), 2, 2*time.Minute, drill.NewHistory(&history, 2, plan, ""))
		if err != nil {
			t.Error(err)
		}
		ended <- o
	}()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case o := <-ended:
			if len(o.Violations) == 0 || !bytes.Contains(history.Bytes(), []byte(`"event":"violation"`)) {
				t.Errorf("%d steps, and no overlap was found", o.Steps)
			}
			t.Logf("found in step %d after %v: %v", o.Steps, o.Ran, o.Violations)
			return
		case <-tick.C:
			for _, h := range g.Stage.Cluster.Network.Hosts {
				if !slices.Contains(g.Stage.Recorder.Holders(vip), h.Name) && !h.IsOff() {
					// It may be without a link just now.
					_ = h.AddAddress(netip.PrefixFrom(vip, vip.BitLen()))
					_ = h.ClaimAddress(vip)
				}
			}
		}
	}
}
