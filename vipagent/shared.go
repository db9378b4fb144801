package vipagent

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"reflect"
	"slices"
	"time"

	pb "holdfast/coordinator/api/holdfastpb"
	"holdfast/vipagent/vrrp"
)

// AdvertPort is where VRRP advertisements are heard and sent.
type AdvertPort struct {
	Interface string
	IPv6      bool
	Unicast   bool // the multicast group is not joined
}

// Compare orders ports.
func (p AdvertPort) Compare(q AdvertPort) int {
	flag := func(b bool) int {
		if b {
			return 1
		}
		return 0
	}
	return cmp.Or(cmp.Compare(p.Interface, q.Interface), flag(p.IPv6)-flag(q.IPv6), flag(p.Unicast)-flag(q.Unicast))
}

// Advert is a VRRP advertisement on the wire.
type Advert struct {
	Interface           string
	Source, Destination netip.Addr
	TTL                 int    // hop limit as it arrived; 255 is sent
	Message             []byte // without the IP header
}

// Adverts sends and receives VRRP advertisements. Its calls are short.
type Adverts interface {
	// Listen makes the advertisements of these ports, and of no others, come by
	// [Agent.Advertised].
	Listen(ports []AdvertPort)
	// Source returns the address from which this host sends on a port.
	Source(p AdvertPort) (netip.Addr, error)
	// Send hands an advertisement to the kernel and waits for nothing.
	Send(p AdvertPort, a Advert) error
}

// sharedSet is a VIP set that is shared with routers outside of the quorum, as a
// view says.
type sharedSet struct {
	name      string
	config    vrrp.Config
	iface     string       // "" = where first belongs
	first     netip.Prefix // of the advertised addresses
	ipv6      bool
	peers     []netip.Addr
	observe   bool
	fellows   []netip.Addr // sources of the other hosts of the quorum, and of this one
	addresses []netip.Addr // all of the set
	unread    error        // why its VRRP cannot be made out; then only the name counts
}

// equal says whether nothing has changed.
func (s *sharedSet) equal(t *sharedSet) bool { return reflect.DeepEqual(s, t) }

// modeObserve is the mode of a VRRP in which nobody of the quorum speaks.
const modeObserve = "observe"

// parseShared reads the sets of a view that have a VRRP, in the order of names. One
// that cannot be made out is among them: its addresses have to stay down.
func parseShared(v *pb.View) []sharedSet {
	var out []sharedSet
	for _, s := range v.GetShared() {
		set, err := parseSharedSet(s)
		if err != nil {
			set = sharedSet{name: s.GetSet().GetName(), unread: fmt.Errorf("read view %d of %s: %w", v.GetIndex(), v.GetCoordinator(), err)}
		}
		out = append(out, set)
	}
	slices.SortFunc(out, func(a, b sharedSet) int { return cmp.Compare(a.name, b.name) })
	return out
}

// checkNumbers refuses what a virtual router cannot run with. The quorum lets no such
// thing through; a number that is cut off would be another one.
func checkNumbers(v *pb.VRRP) error {
	switch {
	case v.GetVersion() != 2 && v.GetVersion() != 3:
		return fmt.Errorf("version %d", v.GetVersion())
	case v.GetVrid() < 1 || v.GetVrid() > math.MaxUint8:
		return fmt.Errorf("VRID %d", v.GetVrid())
	case v.GetPriority() < 1 || v.GetPriority() >= vrrp.PriorityOwner:
		return fmt.Errorf("priority %d", v.GetPriority())
	case v.GetIntervalMs() < 1 || v.GetIntervalMs() > time.Hour.Milliseconds():
		return fmt.Errorf("interval of %d ms", v.GetIntervalMs())
	}
	return nil
}

func parseSharedSet(s *pb.Shared) (sharedSet, error) {
	v := s.GetSet().GetVrrp()
	if err := checkNumbers(v); err != nil {
		return sharedSet{}, err
	}
	out := sharedSet{
		name: s.GetSet().GetName(), iface: v.GetInterface(), ipv6: v.GetIpv6(), observe: v.GetMode() == modeObserve,
		config: vrrp.Config{
			Version: uint8(v.GetVersion()), VRID: uint8(v.GetVrid()), Priority: uint8(v.GetPriority()),
			Interval: time.Duration(v.GetIntervalMs()) * time.Millisecond, Preempt: !v.GetNoPreempt(),
		},
	}
	if v.GetPassword() != "" {
		out.config.Password = []byte(v.GetPassword())
	}
	if v.GetPlainChecksum() {
		out.config.Checksum = vrrp.Plain
	}
	for _, a := range s.GetSet().GetAddresses() {
		p, err := netip.ParsePrefix(a.GetPrefix())
		if err != nil {
			return out, err
		}
		out.addresses = append(out.addresses, p.Addr())
		if p.Addr().Is6() != out.ipv6 {
			continue
		}
		if len(out.config.Addresses) == 0 {
			out.first = p
			if out.iface == "" {
				out.iface = a.GetInterface()
			}
		}
		out.config.Addresses = append(out.config.Addresses, p.Addr())
	}
	if len(out.config.Addresses) == 0 {
		return out, errors.New("no address to advertise")
	}
	var err error
	if out.peers, err = parseAddrs(v.GetPeers()); err != nil {
		return out, fmt.Errorf("peers: %w", err)
	}
	if out.fellows, err = parseAddrs(s.GetSources()); err != nil {
		return out, fmt.Errorf("sources: %w", err)
	}
	return out, nil
}

func parseAddrs(texts []string) ([]netip.Addr, error) {
	var out []netip.Addr
	for _, text := range texts {
		a, err := netip.ParseAddr(text)
		if err != nil {
			return nil, err
		}
		out = append(out, a)
	}
	return out, nil
}
