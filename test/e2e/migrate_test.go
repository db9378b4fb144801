package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	pb "holdfast/coordinator/api/holdfastpb"
	"holdfast/test/lab"
)

// A pair of hosts with Keepalived and a witness: from Keepalived to the quorum and
// back, with the tool's own word for what the clients lost.
func TestLiveMigration(t *testing.T) {
	n, ctx := startPair(t)
	r, first, second := n.recorder, n.first, n.second
	c := n.NewCluster(lab.ClusterConfig{Bin: os.Getenv(lab.BinVariable), Agents: n.Hosts[:2]})
	check(t, c.Start(ctx))
	check(t, c.Apply(ctx, "vips:\n"+setEntry(c, setName, vip4.String()+"/32 dev "+lab.Interface)+
		"    paused: true\n    vrrp: {vrid: 51, priority: 90, password: secret, mode: off}\n"))
	known(ctx, t, c, setName)
	began, probed := lab.Now(), startProbe(t, c)
	lost := 0.0
	step := func(args ...string) { t.Helper(); lost += migrate(ctx, t, c, args...) }
	step("observe", setName)
	check(t, n.backup.Stop(ctx)) // the Backup: nobody notices
	step("join", setName)
	step("takeover", setName)
	eventually(ctx, t, 5*time.Second, func() error { return heldBy(r, second.Name) })
	check(t, n.active.Stop(ctx))
	step("quorum", setName, "--keepalived-stopped")
	if status, err := c.Holder(ctx, setName); err != nil || status != second.Name {
		t.Errorf("the quorum has %s with %q (%v)", setName, status, err)
	}
	// And back.
	_, err := c.MustCtl(ctx, "migrate", "back", setName)
	check(t, err)
	startKeepalived(t, first, 150)
	step("back", setName, "--keepalived-started")
	eventually(ctx, t, 10*time.Second, func() error { return heldBy(r, first.Name) })
	startKeepalived(t, second, 100) // it would not hear the holder on its own host
	pause(ctx, time.Second)
	ended, whole := lab.Now(), probed(ctx)

	// The machine's own stalls lose answers, too.
	stall := r.Stall(began, ended)
	most := 200 + float64(stall.Max.Milliseconds())
	if lost > most || whole > most {
		t.Errorf("the tool counts %.0f ms without an answer within the steps, %.0f ms from the first to the last; the longest stall was %v", lost, whole, stall.Max)
	}
	pause(ctx, 100*time.Millisecond)
	for _, client := range n.Clients {
		gap := r.Observe(vip4, began, ended).LongestGap(client.Name)
		t.Logf("%s: lost %d answers of one each %v, longest gap %v", client.Name, r.Lost(client.Name, vip4, began, ended), lab.ProbeEvery, gap.Length())
	}
	t.Logf("the tool counts %.0f ms within the steps, %.0f ms from the first to the last; longest stall %v", lost, whole, stall.Max)
}

// startProbe asks the address all the time; what it returns ends that, and says how
// long nobody answered, in ms.
func startProbe(t *testing.T, c *lab.Cluster) (stop func(context.Context) float64) {
	t.Helper()
	p, err := c.Config().Operator.Start(lab.Command{Name: "probe", Path: program("coordctl"), Args: []string{"probe", "-o", "json", vip4.String()}})
	check(t, err)
	return func(ctx context.Context) float64 {
		t.Helper()
		check(t, p.Signal(unix.SIGINT))
		select {
		case <-p.Done():
		case <-ctx.Done():
			t.Fatal("the probe does not end")
		}
		b, err := os.ReadFile(p.Log)
		check(t, err)
		var report struct {
			Addresses []struct {
				TotalMS float64 `json:"total_ms"`
			}
		}
		_, text, _ := strings.Cut(string(b), "{")
		if err := json.NewDecoder(strings.NewReader("{" + text)).Decode(&report); err != nil || len(report.Addresses) != 1 {
			t.Fatalf("the probe's report (%v): %s", err, b)
		}
		return report.Addresses[0].TotalMS
	}
}

// activeOn says whether a host holds the set and is its Active router.
func activeOn(s *pb.StatusReply, host string) error {
	for _, v := range s.GetVips() {
		if v.GetHolder() == host && v.GetRouter().GetState() == "active" {
			return nil
		}
	}
	return fmt.Errorf("%s is not the Active router", host)
}

// known waits until the coordinator that is asked knows a set that was just created.
func known(ctx context.Context, t *testing.T, c *lab.Cluster, set string) {
	t.Helper()
	eventually(ctx, t, 5*time.Second, func() error {
		_, err := c.MustCtl(ctx, "migrate", "status", set)
		return err
	})
}

// migrate makes one step and returns how long nobody answered meanwhile, by the tool's
// own word, in ms.
func migrate(ctx context.Context, t *testing.T, c *lab.Cluster, args ...string) (lost float64) {
	t.Helper()
	out, err := c.MustCtl(ctx, append([]string{"migrate", "-o", "json"}, args...)...)
	check(t, err)
	var report struct {
		Step, Seen string
		Addresses  []struct {
			Lost      int
			TotalMS   float64 `json:"total_ms"`
			LongestMS float64 `json:"longest_ms"`
		}
	}
	for dec := json.NewDecoder(strings.NewReader(out)); dec.More(); {
		check(t, dec.Decode(&report))
		if len(report.Addresses) != 1 {
			t.Fatalf("%v: no measurement in %s", args, out)
		}
		lost += report.Addresses[0].TotalMS
		t.Logf("%v: %s; lost %d answers, %.0f ms", args, report.Seen, report.Addresses[0].Lost, report.Addresses[0].TotalMS)
	}
	return lost
}

// TestImportedMigration takes the VIP set from the files of the pair, so that it has preempt as
// they do: the takeover follows the stop of Keepalived, and the quorum then moves the
// set to the better host. On the way back Keepalived starts on the holder's host last.
func TestImportedMigration(t *testing.T) {
	n, ctx := startPair(t)
	r, first, second := n.recorder, n.first, n.second
	active, backup := n.active, n.backup
	c := n.NewCluster(lab.ClusterConfig{Bin: os.Getenv(lab.BinVariable), Agents: n.Hosts[:2]})
	check(t, c.Start(ctx))
	_, err := c.MustCtl(ctx, "import", "--apply", first.Name+"="+keepalivedFile(first), second.Name+"="+keepalivedFile(second))
	check(t, err)

	known(ctx, t, c, setName)
	began := lab.Now()
	lost := migrate(ctx, t, c, "observe", setName)
	check(t, backup.Stop(ctx))
	lost += migrate(ctx, t, c, "join", setName)
	if refused, err := c.Ctl(ctx, "migrate", "takeover", setName); err != nil || refused.Code != 1 || !strings.Contains(refused.Stderr, "has preempt") {
		t.Errorf("a takeover by priority ended with code %d: %s (%v)", refused.Code, refused.Stderr, err)
	}
	stopped := make(chan error, 1)
	go func() {
		pause(ctx, 500*time.Millisecond) // the tool asks for it first
		stopped <- active.Stop(ctx)
	}()
	lost += migrate(ctx, t, c, "takeover", setName, "--stop")
	check(t, <-stopped)
	check(t, c.Await(ctx, func(s *pb.StatusReply) error { return activeOn(s, first.Name) }))
	lost += migrate(ctx, t, c, "quorum", setName, "--keepalived-stopped")

	_, err = c.MustCtl(ctx, "migrate", "back", setName)
	check(t, err)
	backup = startKeepalived(t, second, 100)
	lost += migrate(ctx, t, c, "back", setName, "--keepalived-started")
	eventually(ctx, t, 10*time.Second, func() error { return heldBy(r, second.Name) })
	active = startKeepalived(t, first, 150)
	eventually(ctx, t, 10*time.Second, func() error { return heldBy(r, first.Name) })
	// What the machine held itself up is nobody's loss.
	if stall := r.Stall(began, lab.Now()).Sum; lost > 200+float64(stall.Microseconds())/1000 {
		t.Errorf("the tool counts %.0f ms without an answer over all steps, stall %v", lost, stall)
	}
	t.Logf("total lost by the tool's word: %.0f ms", lost)
	check(t, backup.Stop(ctx))
	check(t, active.Stop(ctx))
}
