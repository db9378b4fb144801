package e2e

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	pb "holdfast/coordinator/api/holdfastpb"
	"holdfast/test/lab"
)

// sharedInterval is the Advertisement_Interval of these tests, version 3.
const sharedInterval = 100 * time.Millisecond

// sharedStage is a cluster of three hosts whose set is shared with Keepalived on a
// fourth one.
type sharedStage struct {
	*lab.Network
	cluster  *lab.Cluster
	recorder *lab.Recorder
	peer     *lab.Host
	daemon   lab.Router
}

func startSharedStage(t *testing.T) (*sharedStage, context.Context) {
	t.Helper()
	layout := lab.Standard()
	layout.Hosts = append(layout.Hosts, lab.SegmentA)
	n, _ := ownNetwork(t, layout)
	ctx, cancel := context.WithTimeout(context.Background(), 4*time.Minute)
	t.Cleanup(cancel)
	s := &sharedStage{Network: n, peer: n.Hosts[3]}
	s.cluster = n.NewCluster(lab.ClusterConfig{Bin: os.Getenv(lab.BinVariable), TTL: 500 * time.Millisecond, Agents: n.Hosts[:3]})
	check(t, s.cluster.Start(ctx))
	var err error
	s.recorder, err = n.StartRecorder(0, vip4)
	check(t, err)
	t.Cleanup(func() { check(t, s.recorder.Close()) })
	return s, ctx
}

// startPeer runs Keepalived on the fourth host.
func (s *sharedStage) startPeer(t *testing.T, priority int) {
	t.Helper()
	s.daemon = startRouter(t, s.peer, fmt.Sprintf(`global_defs {
    vrrp_version 3
}
vrrp_instance web {
    state BACKUP
    interface %s
    virtual_router_id 51
    priority %d
    advert_int %g
    virtual_ipaddress {
        %s/32
    }
}
`, lab.Interface, priority, sharedInterval.Seconds(), vip4))
}

// stopPeer ends it, and checks that it had nothing to say of what it has heard.
func (s *sharedStage) stopPeer(ctx context.Context, t *testing.T) {
	t.Helper()
	check(t, s.daemon.Stop(ctx))
	if text, err := s.daemon.Log(); err != nil || strings.Contains(text, "bad") || strings.Contains(text, "nvalid") {
		t.Errorf("Keepalived complains (%v):\n%s", err, text)
	}
}

// apply shares the set, with a priority of all of our hosts.
func (s *sharedStage) apply(ctx context.Context, t *testing.T, priority int) {
	t.Helper()
	check(t, s.cluster.Apply(ctx, "vips:\n"+setEntry(s.cluster, setName, vip4.String()+"/32 dev "+lab.Interface)+
		fmt.Sprintf("    vrrp: {vrid: 51, version: 3, interval: %s, priority: %d}\n", sharedInterval, priority)))
}

// awaitRouter waits until the holder stands like this in VRRP, and returns it.
func (s *sharedStage) awaitRouter(ctx context.Context, t *testing.T, state string) (holder string) {
	t.Helper()
	eventually(ctx, t, 15*time.Second, func() error {
		status, err := s.cluster.Status(ctx)
		if err != nil {
			return err
		}
		i := slices.IndexFunc(status.GetVips(), func(v *pb.VIPStatus) bool { return v.GetSet().GetName() == setName })
		if i < 0 || status.Vips[i].GetRouter().GetState() != state {
			return fmt.Errorf("not yet %s: %v", state, status.GetVips())
		}
		holder = status.Vips[i].GetHolder()
		return nil
	})
	return holder
}

// run is a time in which one host advertises without a pause.
type advertRun struct {
	host     string
	from, to lab.Time
	count    int
}

// runs returns who advertised when, in order of the beginnings.
func (s *sharedStage) runs(from, to lab.Time) []advertRun {
	var out []advertRun
	last := make(map[string]int)
	for _, c := range s.recorder.Claims(from, to) {
		if c.Kind != lab.VRRPAdvert {
			continue
		}
		i, ok := last[c.Host]
		if ok && c.At.Sub(out[i].to) < 3*sharedInterval {
			out[i].to = max(out[i].to, c.At)
			out[i].count++
			continue
		}
		last[c.Host] = len(out)
		out = append(out, advertRun{c.Host, c.At, c.At, 1})
	}
	return out
}

// oneSpeaks checks, by the sniffers on both segments, that no two of our hosts ever
// advertised at one time, and that the set never had two of our hosts.
func (s *sharedStage) oneSpeaks(t *testing.T, from, to lab.Time) {
	t.Helper()
	runs := s.runs(from, to)
	ours := slices.DeleteFunc(slices.Clone(runs), func(r advertRun) bool { return r.host == s.peer.Name })
	for i, a := range ours {
		for _, b := range ours[i+1:] {
			if a.host != b.host && b.from < a.to {
				t.Errorf("%s and %s advertise at one time, for %v", a.host, b.host, a.to.Sub(b.from))
			}
		}
	}
	if len(ours) == 0 {
		t.Error("none of our hosts was heard: the check would pass with a deaf sniffer")
	}
	var words []string
	for _, r := range runs {
		words = append(words, fmt.Sprintf("%s %d", r.host, r.count))
	}
	t.Logf("advertisements: %s", strings.Join(words, ", "))
}

// Three of our hosts and one Keepalived peer, parted in every way: of ours only the
// holder of the lease ever speaks.
func TestSharedWithKeepalived(t *testing.T) {
	s, ctx := startSharedStage(t)
	began := lab.Now()
	s.startPeer(t, 90)
	eventually(ctx, t, 5*time.Second, func() error { return heldBy(s.recorder, s.peer.Name) })
	s.apply(ctx, t, 100) // takes over, as its priority is higher
	s.awaitRouter(ctx, t, "active")
	eventually(ctx, t, 5*time.Second, func() error { return notHeldBy(s.recorder, s.peer.Name) })
	ours := s.Hosts[:3]
	for _, f := range s.partitions() {
		check(t, f.make())
		pause(ctx, 1500*time.Millisecond)
		check(t, s.Repair())
		s.awaitRouter(ctx, t, "active")
		eventually(ctx, t, 10*time.Second, func() error { return notHeldBy(s.recorder, s.peer.Name) })
		t.Logf("%s: healed", f.name)
	}
	s.oneSpeaks(t, began, lab.Now())

	// A stranger of higher priority wins; the holder keeps its lease, as Backup.
	began = lab.Now()
	s.stopPeer(ctx, t)
	s.startPeer(t, 150)
	holder := s.awaitRouter(ctx, t, "backup")
	eventually(ctx, t, 10*time.Second, func() error {
		if err := heldBy(s.recorder, s.peer.Name); err != nil {
			return err
		}
		for _, h := range ours {
			if err := notHeldBy(s.recorder, h.Name); err != nil {
				return err
			}
		}
		return nil
	})
	check(t, s.CutPair(s.Host(holder), s.peer)) // then the holder hears nothing of it
	pause(ctx, 1500*time.Millisecond)
	check(t, s.Repair())
	s.awaitRouter(ctx, t, "backup")
	out, err := s.cluster.MustCtl(ctx, "events")
	check(t, err)
	if want := s.peer.IPv4.Addr().String() + " is Active with priority 150"; !strings.Contains(out, want) {
		t.Errorf("no event says %q:\n%s", want, out)
	}
	s.oneSpeaks(t, began, lab.Now())
	s.stopPeer(ctx, t)
}

// parting is one way to part the network.
type parting struct {
	name string
	make func() error
}

func (s *sharedStage) partitions() []parting {
	out := []parting{{"segments apart", s.Partition}}
	for i, h := range s.Hosts {
		out = append(out,
			parting{h.Name + " alone", func() error { return s.Isolate(h) }},
			parting{h.Name + " hears nothing", func() error { return s.CutIn(h) }},
			parting{h.Name + " is not heard", func() error { return s.CutOut(h) }})
		for _, other := range s.Hosts[i+1:] {
			out = append(out, parting{h.Name + " and " + other.Name + " apart", func() error { return s.CutPair(h, other) }})
		}
	}
	return out
}

func heldBy(r *lab.Recorder, host string) error {
	if got := r.Holders(vip4); !slices.Contains(got, host) {
		return fmt.Errorf("%s is with %v, not %s", vip4, got, host)
	}
	return nil
}

func notHeldBy(r *lab.Recorder, host string) error {
	if got := r.Holders(vip4); slices.Contains(got, host) {
		return fmt.Errorf("%s is still with %v", vip4, got)
	}
	return nil
}

func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
