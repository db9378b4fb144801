package vipagent

import (
	"fmt"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	pb "holdfast/coordinator/api/holdfastpb"
	"holdfast/vipagent/vrrp"
)

// worldWire is the VRRP of a host: what it sends is noted among the events.
type worldWire struct {
	source netip.Addr
	err    error
	asked  int // how often for the source
}

const ownSource = "10.0.0.1"

// wireOf is one process's way to it.
type wireOf struct {
	*agent
	*worldWire
}

func (w wireOf) Listen(ports []AdvertPort) {
	for _, p := range ports {
		w.w.note("listen on %s", p.Interface)
	}
}

func (w wireOf) Source(AdvertPort) (netip.Addr, error) {
	w.w.mu.Lock()
	defer w.w.mu.Unlock()
	w.asked++
	return w.source, w.err
}

func (w wireOf) Send(_ AdvertPort, x Advert) error {
	if w.isDead() {
		return nil
	}
	a, _, err := vrrp.Parse(x.Message, x.Source, x.Destination)
	if err != nil {
		return err
	}
	w.w.note("advertise %d to %s", a.Priority, x.Destination)
	return nil
}

// sharedWorld is a world with a wire, in which web is shared.
func sharedWorld(t *testing.T, script func(w *world)) {
	t.Helper()
	run(t, func(w *world) {
		w.wire = &worldWire{source: netip.MustParseAddr(ownSource)}
		script(w)
	})
}

// share is the set of the tests; change alters its VRRP.
func webShared(change func(*pb.Shared)) *pb.Shared {
	s := &pb.Shared{Set: held("web", 0, 0, "10.0.0.5/24@7").Set, Sources: []string{"10.0.0.3"}}
	s.Set.Vrrp = &pb.VRRP{Vrid: 51, Version: 2, Priority: 100, IntervalMs: 1000, Password: "secret"}
	if change != nil {
		change(s)
	}
	return s
}

// tellShared shows a view with the shared set, held or not.
func (a *agent) tellShared(index uint64, s *pb.Shared, hs ...*pb.Held) {
	a.show(&pb.View{Coordinator: "a", Index: index, Held: hs, Shared: []*pb.Shared{s}})
}

// hear lets an advertisement of a stranger come.
func (a *agent) hear(source string, priority uint8) {
	from, group := netip.MustParseAddr(source), netip.MustParseAddr("224.0.0.18")
	m, err := vrrp.Advertisement{Version: 2, VRID: 51, Priority: priority, Interval: time.Second,
		Addresses: []netip.Addr{netip.MustParseAddr("10.0.0.5")}, Password: []byte("secret")}.Append(nil, vrrp.Plain, from, group)
	if err != nil {
		a.w.t.Fatal(err)
	}
	a.Advertised(Advert{Interface: "eth0", Source: from, Destination: group, TTL: 255, Message: m})
	synctest.Wait()
}

// listening starts an agent that has listened for long.
func listening(w *world, s *pb.Shared) *agent {
	a := w.ready()
	a.tellShared(40, s)
	time.Sleep(5 * time.Second)
	w.take()
	return a
}

var webHeld = func() *pb.Held { return held("web", session1, 41, "10.0.0.5/24@7") }

func TestSharedHolderSpeaksAtOnce(t *testing.T) {
	sharedWorld(t, func(w *world) {
		a := listening(w, webShared(nil))
		a.tellShared(41, webShared(nil), webHeld())
		w.expect("add 10.0.0.5", "announce 10.0.0.5", "advertise 100 to 224.0.0.18", "routers 101: web active")
		time.Sleep(950 * time.Millisecond)
		w.expect()
		time.Sleep(2100 * time.Millisecond)
		w.expect("advertise 100 to 224.0.0.18", "announce 10.0.0.5", "advertise 100 to 224.0.0.18", "advertise 100 to 224.0.0.18")
		if err := a.end(); err != nil {
			t.Error(err)
		}
		w.expect("advertise 0 to 224.0.0.18", "remove 10.0.0.5", "close 101")
	})
}

func TestSharedHolderIsBackupBehindAStranger(t *testing.T) {
	sharedWorld(t, func(w *world) {
		a := listening(w, webShared(nil))
		a.hear("10.0.0.9", 150)
		time.Sleep(time.Second)
		w.expect("routers 101: web listening 10.0.0.9")
		a.hear("10.0.0.9", 150)
		a.tellShared(41, webShared(nil), webHeld())
		time.Sleep(500 * time.Millisecond)
		w.expect("routers 101: web backup 10.0.0.9")
		a.hear("10.0.0.9", 0) // it stops
		time.Sleep(620 * time.Millisecond)
		w.expect("routers 101: web backup", "add 10.0.0.5", "announce 10.0.0.5", "advertise 100 to 224.0.0.18")
		time.Sleep(900 * time.Millisecond)
		w.expect("routers 101: web active")
		a.hear("10.0.0.9", 150) // and is back: the lease is kept
		w.expect("remove 10.0.0.5")
		time.Sleep(2 * time.Second)
		w.expect("routers 101: web backup 10.0.0.9")
		a.end()
		w.expect("close 101")
	})
}

// A stranger that was never heard may still be there: the host has not listened for
// long enough.
func TestSharedHolderWaitsAfterItsStart(t *testing.T) {
	sharedWorld(t, func(w *world) {
		a := w.ready()
		a.tellShared(41, webShared(nil), webHeld())
		time.Sleep(3 * time.Second)
		w.expect("listen on eth0", "routers 101: web backup")
		time.Sleep(700 * time.Millisecond)
		w.expect("add 10.0.0.5", "announce 10.0.0.5", "advertise 100 to 224.0.0.18", "routers 101: web active")
		a.end()
	})
}

func TestSharedFellowsDoNotHoldBack(t *testing.T) {
	sharedWorld(t, func(w *world) {
		a := listening(w, webShared(nil))
		a.hear("10.0.0.3", 100) // our former holder, an instant before it died
		a.tellShared(41, webShared(nil), webHeld())
		w.expect("add 10.0.0.5", "announce 10.0.0.5", "advertise 100 to 224.0.0.18", "routers 101: web active")
		a.hear("10.0.0.3", 200) // late
		w.expect()
		time.Sleep(1100 * time.Millisecond)
		w.take()
		a.hear("10.0.0.3", 200) // it cannot be that holder: a Keepalived on its host
		w.expect("remove 10.0.0.5", "routers 101: web backup 10.0.0.3")
		a.end()
	})
}

// What is recalled goes to a fellow, who follows at once: no priority 0, which would
// call strangers.
func TestSharedRecallIsSilent(t *testing.T) {
	sharedWorld(t, func(w *world) {
		a := listening(w, webShared(nil))
		a.tellShared(41, webShared(nil), webHeld())
		w.take()
		a.tellShared(42, webShared(nil), recalled(webHeld(), "moved"))
		w.expect("remove 10.0.0.5", "release 101: web/41 because moved")
		time.Sleep(5 * time.Second)
		w.take()
		a.end()
	})
}

// Nothing is said after the deadline, not even by a process that was paused before
// it sent.
func TestSharedLapseIsSilent(t *testing.T) {
	sharedWorld(t, func(w *world) {
		a := listening(w, webShared(nil))
		a.tellShared(41, webShared(nil), webHeld())
		w.take()
		w.set(func() { w.silent["a"], w.silent["b"] = true, true })
		time.Sleep(testTTL)
		events := w.take()
		for i, e := range events {
			if e == "remove 10.0.0.5" {
				for _, later := range events[i:] {
					if later == "advertise 100 to 224.0.0.18" {
						t.Errorf("spoke after it was down: %q", events)
					}
				}
			}
		}
		w.expectUp("")
		time.Sleep(3 * time.Second)
		for _, e := range w.take() {
			if e != "" && e[0] == 'a' {
				t.Errorf("without a lease: %q", e)
			}
		}
		a.end()
	})
}

// A set that becomes shared while it is held stays up, and one that ceases to be.
func TestSharedWhileHeld(t *testing.T) {
	sharedWorld(t, func(w *world) {
		a := w.ready()
		a.tell("a", 41, webHeld())
		w.take()
		a.tellShared(42, webShared(nil), webHeld())
		w.expect("listen on eth0", "advertise 100 to 224.0.0.18", "routers 101: web active")
		a.tell("a", 43, webHeld())
		time.Sleep(5 * time.Second)
		w.expect("announce 10.0.0.5", "routers 101: web")
		w.expectUp("10.0.0.5")
		a.end()
	})
}

func TestSharedObserverGivesWay(t *testing.T) {
	sharedWorld(t, func(w *world) {
		a := listening(w, webShared(nil))
		a.tellShared(41, webShared(nil), webHeld())
		w.take()
		a.tellShared(42, webShared(func(s *pb.Shared) { s.Set.Vrrp.Mode = modeObserve }), webHeld())
		w.expect("advertise 0 to 224.0.0.18", "remove 10.0.0.5")
		time.Sleep(5 * time.Second)
		w.expect("routers 101: web listening")
		a.tellShared(43, webShared(nil), webHeld()) // nobody took over: back
		w.expect("add 10.0.0.5", "announce 10.0.0.5", "advertise 100 to 224.0.0.18", "routers 101: web active")
		a.end()
	})
}

// A priority above the stranger's makes the holder take over after the time that
// VRRP has for it.
func TestSharedPriorityTakesOver(t *testing.T) {
	sharedWorld(t, func(w *world) {
		a := listening(w, webShared(nil))
		a.hear("10.0.0.9", 150)
		a.tellShared(41, webShared(nil), webHeld())
		w.take()
		higher := webShared(func(s *pb.Shared) { s.Set.Vrrp.Priority = 151 })
		a.tellShared(42, higher, webHeld())
		for range 5 {
			a.hear("10.0.0.9", 150)
			time.Sleep(time.Second)
		}
		up := false
		for _, e := range w.take() {
			up = up || e == "advertise 151 to 224.0.0.18"
		}
		if !up {
			t.Error("it did not take over")
		}
		w.expectUp("10.0.0.5")
		a.end()
	})
}

func TestSharedRestartGoesOn(t *testing.T) {
	sharedWorld(t, func(w *world) {
		a := listening(w, webShared(nil))
		a.tellShared(41, webShared(nil), webHeld())
		w.take()
		a.kill()
		b := w.start()
		b.tellShared(41, webShared(nil), webHeld())
		time.Sleep(100 * time.Millisecond)
		w.expectUp("10.0.0.5")
		for _, e := range w.take() {
			if e == "remove 10.0.0.5" {
				t.Error("the restart took the address down")
			}
		}
		b.end()
		for range 3 {
			synctest.Wait()
		}
	})
}

// Whatever odd comes along changes nothing.
func TestSharedOddAdvertisements(t *testing.T) {
	sharedWorld(t, func(w *world) {
		a := listening(w, webShared(nil))
		a.tellShared(41, webShared(nil), webHeld())
		w.take()
		from, group := netip.MustParseAddr("10.0.0.9"), netip.MustParseAddr("224.0.0.18")
		good := vrrp.Advertisement{Version: 2, VRID: 51, Priority: 200, Interval: time.Second, Password: []byte("secret"),
			Addresses: []netip.Addr{netip.MustParseAddr("10.0.0.5")}}
		for name, change := range map[string]func(*vrrp.Advertisement, *Advert){
			"another router":    func(v *vrrp.Advertisement, _ *Advert) { v.VRID = 52 },
			"another password":  func(v *vrrp.Advertisement, _ *Advert) { v.Password = []byte("guess") },
			"no password":       func(v *vrrp.Advertisement, _ *Advert) { v.Password = nil },
			"another interval":  func(v *vrrp.Advertisement, _ *Advert) { v.Interval = 2 * time.Second },
			"another interface": func(_ *vrrp.Advertisement, x *Advert) { x.Interface = "eth1" },
			"from far away":     func(_ *vrrp.Advertisement, x *Advert) { x.TTL = 254 },
		} {
			v, x := good, Advert{Interface: "eth0", Source: from, Destination: group, TTL: 255}
			change(&v, &x)
			m, err := v.Append(nil, vrrp.Plain, from, group)
			if err != nil {
				t.Fatal(err)
			}
			x.Message = m
			a.Advertised(x)
			if w.expectUp("10.0.0.5"); t.Failed() {
				t.Fatalf("%s took the address down", name)
			}
		}
		for n := range 64 {
			a.Advertised(Advert{Interface: "eth0", Source: from, Destination: group, TTL: 255, Message: make([]byte, n)})
		}
		w.expectUp("10.0.0.5")
		a.end()
	})
}

func TestSharedWithoutAPlace(t *testing.T) {
	sharedWorld(t, func(w *world) {
		w.wire.err = fmt.Errorf("no address there")
		a := w.ready()
		a.tellShared(41, webShared(nil), webHeld())
		w.expectUp("")
		w.set(func() { w.wire.err = nil })
		time.Sleep(6 * time.Second)
		w.expectUp("10.0.0.5")
		a.end()
	})
}

// Where nobody listened, nothing is known of who is Active.
func TestSharedListensAnewInANewPlace(t *testing.T) {
	sharedWorld(t, func(w *world) {
		w.wire.err = fmt.Errorf("no address there")
		a := w.ready()
		a.tellShared(41, webShared(nil), webHeld())
		time.Sleep(time.Minute)
		w.expectUp("")
		w.set(func() { w.wire.err = nil })
		time.Sleep(3 * time.Second)
		w.expectUp("")
		time.Sleep(2 * time.Second)
		w.expectUp("10.0.0.5")
		a.end()
	})
}

// A VRRP that this agent cannot read keeps the addresses down; the others go on.
func TestSharedUnreadable(t *testing.T) {
	sharedWorld(t, func(w *world) {
		a := listening(w, webShared(nil))
		index := uint64(41)
		for name, change := range map[string]func(*pb.VRRP){
			"peers":    func(v *pb.VRRP) { v.Peers = []string{"nonsense"} },
			"interval": func(v *pb.VRRP) { v.IntervalMs = 0 },
			"VRID":     func(v *pb.VRRP) { v.Vrid = 256 + 52 },
			"version":  func(v *pb.VRRP) { v.Version = 4 },
			"priority": func(v *pb.VRRP) { v.Priority = 255 },
			"family":   func(v *pb.VRRP) { v.Ipv6, v.Version = true, 3 },
		} {
			bad := &pb.Shared{Set: held("db", 0, 0, "10.0.0.6/24@7").Set}
			bad.Set.Vrrp = &pb.VRRP{Vrid: 52, Version: 2, Priority: 100, IntervalMs: 1000}
			change(bad.Set.Vrrp)
			a.show(&pb.View{Coordinator: "a", Index: index, Shared: []*pb.Shared{bad, webShared(nil)},
				Held: []*pb.Held{webHeld(), held("db", session1, 41, "10.0.0.6/24@7")}})
			time.Sleep(5 * time.Second)
			if w.expectUp("10.0.0.5"); t.Failed() {
				t.Fatal(name)
			}
			index++
		}
		a.end()
	})
}

// Hundreds of sets are placed with a few questions to the kernel, not some for each.
func TestSharedManyArePlacedTogether(t *testing.T) {
	sharedWorld(t, func(w *world) {
		a := w.ready()
		v := &pb.View{Coordinator: "a", Index: 41}
		for n := range 200 {
			s := &pb.Shared{Set: held(fmt.Sprintf("set%d", n), 0, 0, fmt.Sprintf("10.0.0.%d/24@7", n+20)).Set}
			s.Set.Vrrp = &pb.VRRP{Vrid: uint32(n + 1), Version: 2, Priority: 100, IntervalMs: 1000}
			v.Shared = append(v.Shared, s)
		}
		a.show(v)
		w.set(func() { w.wire.asked, w.interfaces = 0, 0 })
		time.Sleep(10 * time.Second)
		w.set(func() {
			if w.wire.asked > 40 || w.interfaces > 40 {
				t.Errorf("in ten seconds %d questions for a source and %d for interfaces", w.wire.asked, w.interfaces)
			}
		})
		a.end()
	})
}

// A stranger that is odd each second does not fill the log.
func TestSharedNotesAreFew(t *testing.T) {
	sharedWorld(t, func(w *world) {
		a := listening(w, webShared(nil))
		a.tellShared(41, webShared(nil), webHeld())
		before := w.log.count("VRRP: ")
		for range 50 {
			a.hear("10.0.0.9", 50)
			time.Sleep(time.Second)
		}
		if n := w.log.count("VRRP: ") - before; n == 0 || n > 3 {
			t.Errorf("%d lines", n)
		}
		a.end()
	})
}

// A reading that fails now and then takes nothing down; a place that stays away does.
func TestSharedPlaceLostForAMoment(t *testing.T) {
	sharedWorld(t, func(w *world) {
		a := listening(w, webShared(nil))
		a.tellShared(41, webShared(nil), webHeld())
		w.take()
		w.set(func() { w.wire.err = fmt.Errorf("cannot be read") })
		time.Sleep(1500 * time.Millisecond)
		w.set(func() { w.wire.err = nil })
		time.Sleep(1500 * time.Millisecond)
		for _, e := range w.take() {
			if e == "remove 10.0.0.5" {
				t.Error("a reading that failed took the address down")
			}
		}
		w.set(func() { w.wire.err = fmt.Errorf("no address there") })
		time.Sleep(6 * time.Second)
		w.expectUp("")
		a.end()
	})
}
