package linux

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"holdfast/coordinator/lease"
	"holdfast/vipagent/vip"
)

func TestNFTFence(t *testing.T) {
	p := newNFTPair(t, nftOwner|nftPersist)
	p.want("not guarded", true)
	p.h.must(p.fence.Guard(p.vips))
	p.want("guarded", false)
	one, two := p.slot(1), p.slot(2)
	p.pass(1, 0)
	p.want("no deadline", false)
	two(time.Minute)
	p.want("another session's deadline", false)
	one(time.Minute)
	p.want("open", true)
	one(-time.Millisecond)
	p.want("a deadline that has passed", false)
	one(time.Minute)
	two(0)
	p.pass(1, 2)
	p.want("the other deadline has passed", false)
	two(time.Minute)
	p.want("both deadlines ahead", true)
	one(0)
	p.want("the first deadline has passed", false)
	one(time.Minute)
	p.h.must(p.fence.Guard(p.vips))
	p.want("guarded again", false)
	p.pass(1, 0)
	p.want("opened again", true)
	p.h.must(p.fence.Keep([]uint64{2}))
	p.want("session not kept", false)
	one(time.Minute)
	p.want("renewal of a session that is not kept", false)
	if s := p.show().Sessions; len(s) != 1 || s[0].Session != 2 {
		t.Errorf("sessions in the kernel: %+v", s)
	}
	p.h.must(p.fence.Forget(p.vips))
	p.want("forgotten", true)
	if table := p.show(); len(table.Addresses) != 0 {
		t.Errorf("addresses after all are forgotten: %+v", table.Addresses)
	}
	p.h.must(p.fence.Check())
}

func TestNFTFenceRefusesMistakes(t *testing.T) {
	p := newNFTPair(t, nftOwner|nftPersist)
	if _, err := p.fence.Slot(0); err == nil {
		t.Error("a slot without session")
	}
	open := func(p *nftPair, session, also uint64) error {
		return p.fence.Open([]vip.Pass{{Address: p.vips[0], Session: session, Also: also}})
	}
	p.slot(1)
	if open(p, 1, 0) == nil {
		t.Error("opened an address that is not guarded")
	}
	p.h.must(p.fence.Guard(p.vips))
	for _, s := range [][2]uint64{{0, 0}, {0, 1}, {2, 0}, {1, 2}} {
		if open(p, s[0], s[1]) == nil {
			t.Errorf("opened under sessions %v", s)
		}
	}
	if p.fence.Guard([]netip.Addr{{}}) == nil {
		t.Error("guarded no address")
	}
}

// TestNFTFenceClosesOnTime: nothing that was asked at or after the deadline is
// answered, with one renewal on the way.
func TestNFTFenceClosesOnTime(t *testing.T) {
	for _, inPlace := range []bool{true, false} {
		t.Run(fmt.Sprintf("inPlace=%v", inPlace), func(t *testing.T) {
			p := newNFTPair(t, nftOwner|nftPersist)
			if !inPlace {
				p.fence.inPlace = false // as before Linux 6.12
			}
			p.h.must(p.fence.Guard(p.vips))
			store, err := p.fence.Slot(1)
			p.h.must(err)
			p.pass(1, 0)
			for name, ask := range p.questions() {
				first := Boottime().Add(150 * time.Millisecond)
				store(first)
				deadline := first
				var last lease.Time
				for at := Boottime(); at < deadline.Add(60*time.Millisecond); at = Boottime() {
					if deadline == first && at > first.Add(-75*time.Millisecond) {
						deadline = deadline.Add(200 * time.Millisecond)
						store(deadline)
					}
					if ask() {
						last = at
					}
				}
				early := deadline.Sub(last)
				t.Logf("%s: last answered question %v before the deadline", name, early)
				if early <= 0 || last <= first {
					t.Errorf("%s: the last answered question was not between the first deadline and the second", name)
				}
			}
		})
	}
}

func TestNFTFenceAfterClose(t *testing.T) {
	p := newNFTPair(t, nftOwner|nftPersist)
	renew := p.slot(1)
	p.h.must(p.fence.Guard(p.vips))
	p.fence.Close()
	renew(time.Minute)
	_, slot := p.fence.Slot(2)
	_, show := p.fence.Show()
	for i, err := range []error{slot, show, p.fence.Guard(p.vips), p.fence.Keep(nil), p.fence.Check()} {
		if !errors.Is(err, errNFTClosed) {
			t.Errorf("call %d: %v", i, err)
		}
	}
	p.want("a closed fence with addresses", false)
	p.fence = p.h.nft(nftOwner | nftPersist)
	if s := p.show().Sessions; len(s) != 0 {
		t.Errorf("the kernel has %+v", s)
	}
	p.h.must(p.fence.Forget(p.vips))
	p.fence.Close()
	var tables map[byte]uint32
	var err error
	p.h.do(func() {
		var c *conn
		if c, err = dialNetlink(unix.NETLINK_NETFILTER); err == nil {
			tables, err = c.nftTables()
			c.close()
		}
	})
	if err != nil || len(tables) != 0 {
		t.Errorf("a closed fence without addresses: %v, %v", tables, err)
	}
}

// TestNFTFenceAfterPause: whoever was stopped between reading the clock and the
// kernel's taking over the time, until after the deadline, closes.
func TestNFTFenceAfterPause(t *testing.T) {
	p := newNFTPair(t, nftOwner|nftPersist)
	p.h.must(p.fence.Guard(p.vips))
	store, err := p.fence.Slot(1)
	p.h.must(err)
	p.pass(1, 0)
	deadline := Boottime().Add(-time.Millisecond)
	stopped := true
	p.fence.clock = func() lease.Time {
		if stopped {
			stopped = false
			return deadline.Add(-time.Minute)
		}
		return Boottime()
	}
	store(deadline)
	if stopped {
		t.Fatal("nobody read the clock")
	}
	p.want("after the pause", false)
	if s := p.show().Sessions; s[0].Deadline != 0 {
		t.Errorf("sessions: %+v", s)
	}
}

// TestNFTFenceNeverRoundsUp: the kernel makes a jiffy of what is shorter.
func TestNFTFenceNeverRoundsUp(t *testing.T) {
	p := newNFTPair(t, nftOwner|nftPersist)
	p.h.must(p.fence.Guard(p.vips))
	store, err := p.fence.Slot(1)
	p.h.must(err)
	p.pass(1, 0)
	p.fence.clock = func() lease.Time { return 0 }
	store(lease.Time(time.Minute))
	p.want("open", true)
	store(lease.Time(shortestTimeout) - 1)
	if s := p.show().Sessions; s[0].Deadline != 0 {
		t.Errorf("sessions: %+v", s)
	}
}

// TestNFTFenceLetsOthersClaimsIn: a host behind the closed fence learns where
// the address went.
func TestNFTFenceLetsOthersClaimsIn(t *testing.T) {
	h, peer := pair(t)
	f := h.nft(nftOwner | nftPersist)
	set := vips(nftVIP4+"/16 eth0", nftVIP6+"/64 eth0")
	for _, a := range set {
		h.must(f.Guard([]netip.Addr{a.IP()}))
		h.believe("eth0", a.IP().String(), stranger)
	}
	peer.own("eth0", nftVIP4+"/32")
	peer.own("eth0", nftVIP6+"/128")
	k := peer.kernel()
	mac, _ := net.ParseMAC(peer.mac("eth0"))
	peer.transmit(k, "eth0", gratuitousRequest(mac, set[0].IP()).appendTo(nil)) // the form that looks like a question
	peer.transmit(k, "eth0", unsolicited(mac, set[1].IP(), false).appendTo(nil))
	for _, a := range set {
		waitFor(t, "the new neighbour entry of "+a.String(), func() bool { return h.neighbour("eth0", a.IP().String()) == peer.mac("eth0") })
	}
}

// TestNFTFenceSparesLoopback: local clients are not the fence's business.
func TestNFTFenceSparesLoopback(t *testing.T) {
	p := newNFTPair(t, nftOwner|nftPersist)
	p.h.must(p.fence.Guard(p.vips))
	p.want("guarded", false)
	for _, a := range p.vips {
		p.udp[a.String()].Close()
		var err error
		p.h.do(func() { p.udp[a.String()], err = net.DialUDP("udp", nil, &net.UDPAddr{IP: a.AsSlice(), Port: 7000}) })
		p.h.must(err)
		if !p.askUDP(a.String()) {
			t.Errorf("%v: no answer to a local client", a)
		}
	}
}

func TestNFTFenceIsRepaired(t *testing.T) {
	p := newNFTPair(t, 0) // nobody owns the tables
	p.h.must(p.fence.Guard(p.vips))
	other := netip.MustParseAddr("10.1.0.101")
	p.h.must(p.fence.Guard([]netip.Addr{other}))
	renew := p.slot(1)
	p.pass(1, 0)
	renew(time.Minute)
	p.h.must(p.fence.Check())
	before := p.show()
	sets := nftSets()
	slot4 := sets[slices.IndexFunc(sets, func(s nftSet) bool { return s.name == "slot4" && s.family == nftInet })]
	chain := func(name string) []byte {
		return appendString(appendString(nil, unix.NFTA_RULE_TABLE, nftTable), unix.NFTA_RULE_CHAIN, name)
	}
	accepting, err := nftRule{family: nftInet, chain: "to4", comment: "refuse"}.message()
	p.h.must(err)
	for name, damage := range map[string]message{
		"flush":       nftMessage(unix.NFT_MSG_DELTABLE, 0, unix.AF_UNSPEC, nil),
		"one table":   tableMessage(unix.NFT_MSG_DELTABLE, 0, nftARP, 0),
		"rules":       nftMessage(unix.NFT_MSG_DELRULE, 0, nftInet, chain("from6")),
		"a rule more": accepting,
		"dormant":     tableMessage(unix.NFT_MSG_NEWTABLE, 0, nftInet, unix.NFT_TABLE_F_DORMANT),
		"elements":    slot4.elements(unix.NFT_MSG_DELSETELEM, []nftElement{{key: string(other.AsSlice())}})[0],
		"deadline":    sets[0].elements(unix.NFT_MSG_DELSETELEM, []nftElement{{key: slotKey(1)}})[0],
	} {
		t.Run(name, func(t *testing.T) {
			p.t, p.h.t = t, t
			p.h.change(damage)
			switch err := p.fence.Check(); {
			case name == "deadline":
				p.h.must(err) // as one that is not renewed: nothing could pass
			case !errors.Is(err, ErrRebuilt):
				t.Errorf("the check says %v", err)
			}
			p.h.must(p.fence.Check())
			p.want("repaired", true)
			after := p.show()
			for _, table := range []*FenceTable{&before, &after} {
				for i := range table.Sessions {
					table.Sessions[i].Deadline = min(table.Sessions[i].Deadline, 1)
				}
				for i := range table.Addresses {
					table.Addresses[i].RefusedIn, table.Addresses[i].RefusedOut = 0, 0
				}
			}
			if diff := cmp.Diff(before, after, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
				t.Error(diff)
			}
		})
	}
	p.t, p.h.t = t, t
}

// TestNFTFenceWithoutTables: all that finds the tables gone repairs them or says
// so.
func TestNFTFenceWithoutTables(t *testing.T) {
	p := newNFTPair(t, 0)
	p.h.must(p.fence.Guard(p.vips))
	renew := p.slot(1)
	p.pass(1, 0)
	p.h.flush()
	renew(time.Minute)
	select {
	case <-p.fence.Lost():
	default:
		t.Error("a renewal was lost and nobody knows")
	}
	if err := p.fence.Check(); !errors.Is(err, ErrRebuilt) {
		t.Errorf("the check says %v", err)
	}
	p.want("the renewal after the check", true)
	p.h.flush()
	p.h.must(p.fence.Guard(p.vips))
	p.want("guarded without tables", false)
	if err := p.fence.Check(); !errors.Is(err, ErrRebuilt) {
		t.Errorf("the check says %v", err)
	}
	p.h.flush()
	p.h.must(p.fence.Keep(nil))
	if err := p.fence.Check(); !errors.Is(err, ErrRebuilt) {
		t.Errorf("the check says %v", err)
	}
	p.want("nothing kept", false)
}

// TestNFTFenceIsOwned: while its process lives nobody else changes the fence;
// the next one takes it over.
func TestNFTFenceIsOwned(t *testing.T) {
	p := newNFTPair(t, nftOwner|nftPersist)
	if p.fence.flags == 0 {
		t.Fatal("this kernel has no tables that outlive their owner (Linux 6.9)")
	}
	p.h.must(p.fence.Guard(p.vips))
	renew := p.slot(7)
	p.slot(8)
	p.pass(7, 8)
	p.pass(7, 0)
	renew(time.Minute)
	p.h.flush()
	p.h.must(p.fence.Check())
	var err error
	if p.h.do(func() { err = RemoveNFT() }); !errors.Is(err, unix.EPERM) {
		t.Errorf("remove a fence in use: %v", err)
	}
	if _, err := p.h.tryNFT(nftOwner | nftPersist); !errors.Is(err, unix.EPERM) {
		t.Errorf("a second process: %v", err)
	}
	before := p.show()
	var seen FenceTable
	p.h.do(func() { seen, err = ShowNFT() })
	p.h.must(err)
	p.fence.Close()
	p.want("the process is dead", true)
	p.fence = p.h.nft(nftOwner | nftPersist)
	p.want("taken over", true)
	after := p.show()
	p.slot(99)(0)
	p.want("a new session's slot is closed", true)
	for _, table := range []FenceTable{seen, after} {
		if d := table.Sessions[0].Deadline.Sub(before.Sessions[0].Deadline).Abs(); d > 100*time.Millisecond {
			t.Errorf("the deadline moved by %v", d)
		}
		table.Sessions[0].Deadline = before.Sessions[0].Deadline
		if diff := cmp.Diff(before, table, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
			t.Error(diff)
		}
	}
	renew = p.slot(7)
	renew(0)
	p.want("closed by the next process", false)
	p.fence.Close()
	p.h.do(func() { err = errors.Join(RemoveNFT(), RemoveNFT()) })
	p.h.must(err)
	p.want("removed", true)

	// Tables that nobody can own any more serve as they are.
	p.h.nft(0)
	if p.fence = p.h.nft(nftOwner | nftPersist); p.fence.flags != 0 {
		t.Errorf("flags %d", p.fence.flags)
	}
	p.h.must(p.fence.Guard(p.vips))
	p.want("guarded in tables without owner", false)
}

func TestNFTFenceShow(t *testing.T) {
	p := newNFTPair(t, nftOwner|nftPersist)
	p.h.must(p.fence.Guard(p.vips))
	p.want("guarded", false)
	one := p.slot(1)
	p.slot(9)
	two := p.slot(2)
	one(time.Minute)
	two(0)
	p.h.must(p.fence.Open([]vip.Pass{{Address: p.vips[1], Epoch: 5, Session: 1, Also: 2}}))
	table := p.show()
	left := table.Sessions[0].Deadline.Sub(Boottime())
	if left > time.Minute || left < 50*time.Second {
		t.Errorf("%v left", left)
	}
	table.Sessions[0].Deadline = 0
	want := FenceTable{
		Kind:     "nft",
		Sessions: []FenceSession{{Session: 1, Slot: 1}, {Session: 2, Slot: 3}},
		Addresses: []FenceAddress{
			{Address: p.vips[0], RefusedIn: 2}, // ARP and UDP
			{Address: p.vips[1], RefusedIn: 2, Open: true, Epoch: 5, Session: 1, Also: 2},
		},
	}
	if diff := cmp.Diff(want, table, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
		t.Error(diff)
	}
	for _, a := range p.vips {
		var err error
		p.h.do(func() {
			var c *net.UDPConn
			peer := map[bool]string{true: "10.1.255.2", false: "2001:db8:1::ffff:2"}[a.Is4()]
			if c, err = net.DialUDP("udp", &net.UDPAddr{IP: a.AsSlice()}, &net.UDPAddr{IP: net.ParseIP(peer), Port: 7}); err == nil {
				_, err = c.Write([]byte("x"))
				c.Close()
			}
		})
		if !errors.Is(err, unix.EPERM) {
			t.Errorf("sent from %v: %v", a, err)
		}
	}
	for _, a := range p.show().Addresses {
		if a.RefusedOut != 1 {
			t.Errorf("%v: %d packets refused on the way out", a.Address, a.RefusedOut)
		}
	}
}

// TestNFTFenceRefusesClaims: what claims an address without coming from it is
// refused as well.
func TestNFTFenceRefusesClaims(t *testing.T) {
	p := newNFTPair(t, nftOwner|nftPersist)
	p.h.must(p.fence.Guard(p.vips))
	message := make([]byte, neighbourLength)
	message[0], message[4] = byte(advertisement), flagOverride
	copy(message[8:], p.vips[1].AsSlice())
	var err error
	p.h.do(func() {
		var c net.PacketConn
		if c, err = net.ListenPacket("ip6:ipv6-icmp", "2001:db8:1::1"); err == nil {
			_, err = c.WriteTo(message, &net.IPAddr{IP: net.ParseIP("2001:db8:1::ffff:2")})
			c.Close()
		}
	})
	if !errors.Is(err, unix.EPERM) {
		t.Errorf("an advertisement by another program: %v", err)
	}
	p.h.sysctl("ipv4/conf/eth0/arp_notify", "1")
	p.h.link("eth0", false)
	p.h.link("eth0", true)
	waitFor(t, "the kernel's own gratuitous ARP to be refused", func() bool { return p.show().Addresses[0].RefusedOut > 0 })
}
