package e2e

import (
	"encoding/json"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"holdfast/test/lab"
)

// What `coordctl probe` says of a takeover between two Keepalived is what an
// independent client saw: how long nobody answered, and who answered when.
func TestProbe(t *testing.T) {
	n, ctx := startPair(t)
	r, first, second := n.recorder, n.first, n.second
	check(t, second.AddAddress(netip.PrefixFrom(vip6, 64)))
	pause(ctx, time.Second) // Keepalived's own announcements

	type seen struct {
		MAC string `json:"mac"`
	}
	type answers struct {
		Address           string
		Asked, Lost, Gaps int
		Local             bool
		Longest           float64 `json:"longest_ms"`
		Pause             float64 `json:"longest_pause_ms"`
		Holders, Claims   []seen
	}
	began := lab.Now()
	result := make(chan []byte, 1)
	go func() {
		out, _, _, _ := n.Clients[1].Run(ctx, lab.Command{Name: "probe", Path: filepath.Join(os.Getenv(lab.BinVariable), "coordctl"),
			Args: []string{"probe", vip4.String(), vip6.String(), "--for", "5s", "-o", "json"}})
		result <- out
	}()
	pause(ctx, time.Second)
	check(t, n.active.Stop(ctx)) // priority 0: the Backup waits for its skew time, 0.6 s
	eventually(ctx, t, 10*time.Second, func() error { return heldBy(r, second.Name) })
	out := <-result
	ended := lab.Now()
	var report struct{ Addresses []answers }
	check(t, json.Unmarshal(out, &report))
	if len(report.Addresses) != 2 {
		t.Fatalf("two addresses were asked: %s", out)
	}
	v4, v6 := report.Addresses[0], report.Addresses[1]
	gap := r.Observe(vip4, began, ended).LongestGap("client2")
	t.Logf("tool: gap %.0f ms, pause %.0f ms; recorder: %v", v4.Longest, v4.Pause, gap.Length())
	if want := float64(gap.Length().Microseconds()) / 1000; v4.Gaps == 0 || v4.Longest < want-25-v4.Pause || v4.Longest > want+25+v4.Pause {
		t.Errorf("the tool saw %d gaps, the longest of %.0f ms; client2 saw %.0f ms", v4.Gaps, v4.Longest, want)
	}
	macs := func(list []seen) (out []string) {
		for _, s := range list {
			out = append(out, s.MAC)
		}
		return out
	}
	if got := macs(v4.Holders); len(got) != 2 || got[0] != first.MAC.String() || got[1] != second.MAC.String() {
		t.Errorf("%s was answered by %v, want %v then %v", vip4, got, first.MAC, second.MAC)
	}
	if got := macs(v4.Claims); len(got) == 0 || got[len(got)-1] != second.MAC.String() {
		t.Errorf("%s was claimed by %v, want %v at last", vip4, got, second.MAC)
	}
	if got := macs(v6.Holders); len(got) != 1 || got[0] != second.MAC.String() || v6.Lost > v6.Asked/10 {
		t.Errorf("%s was answered by %v, want %v; %d of %d lost", vip6, got, second.MAC, v6.Lost, v6.Asked)
	}
	if v4.Local || v6.Local {
		t.Error("the asking host seems to have had the addresses itself")
	}
}
