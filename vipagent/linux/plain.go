package linux

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// PlainProtocol is the address protocol number (IFA_PROTO) that marks the addresses
// of plain mode. It differs from [Protocol], so that neither mode touches what the
// other made, and from Keepalived's 18.
const PlainProtocol = 0x49

// PlainAddress is an address of plain mode: no lease ends it, and it is exactly as
// configured.
type PlainAddress struct {
	Prefix    netip.Prefix // the address and its length; with a Peer, the peer's length
	Interface string
	Label     string     // IPv4; "" = the interface's name
	Scope     string     // IPv4: global, site, link, host, nowhere or a number; "" = global
	Broadcast netip.Addr // IPv4; zero = none
	Peer      netip.Prefix
	// Options are words of ip(8): home, mngtmpaddr, nodad, -nodad, noprefixroute,
	// autojoin, preferred_lft SECONDS (or forever). An IPv6 address is not probed
	// (nodad) unless -nodad is there, and with a length of 128 its preferred lifetime
	// is 0, unless another one is there: see doc.go. "use_vmac" says nothing here:
	// Interface is the one that is meant.
	Options []string
}

// String returns "10.0.0.5/24 on eth0".
func (a PlainAddress) String() string { return fmt.Sprintf("%s on %s", a.Prefix, a.Interface) }

// plainPlace is where an address is.
type plainPlace struct {
	index int
	ip    netip.Addr
	bits  int
}

func (r record) place() plainPlace { return plainPlace{r.index, r.ip, r.bits} }

func (a PlainAddress) place(index int) plainPlace {
	return plainPlace{index, plain(a.Prefix.Addr()), a.bits()}
}

func (a PlainAddress) bits() int {
	if a.Peer.IsValid() {
		return a.Peer.Bits()
	}
	return a.Prefix.Bits()
}

// AddPlain brings the addresses up. One that is up is taken as it is, whoever made
// it. The error joins one for each address that failed; all else was added.
func (k *Kernel) AddPlain(addresses []PlainAddress) error {
	k.change.Lock()
	defer k.change.Unlock()
	indexes := k.indexes(addresses)
	mark := byte(PlainProtocol)
	if k.mark == 0 {
		mark = 0
	}
	var errs []error
	var requests []message
	var of []PlainAddress
	for _, a := range addresses {
		index, ok := indexes[a.Interface]
		if !ok {
			errs = append(errs, fmt.Errorf("add %s: %w", a, ErrNoInterface))
			continue
		}
		m, err := encodePlain(a, index, mark)
		if err != nil {
			errs = append(errs, fmt.Errorf("add %s: %w", a, err))
			continue
		}
		requests, of = append(requests, m), append(of, a)
	}
	var added []plainPlace
	for i, err := range k.writes.do(requests, batchSize) {
		switch {
		case err == nil:
			added = append(added, of[i].place(indexes[of[i].Interface]))
		case errors.Is(err, unix.EEXIST):
		case errors.Is(err, unix.EACCES) && of[i].Prefix.Addr().Is6():
			errs = append(errs, fmt.Errorf("add %s: %w (net.ipv6.conf.%s.disable_ipv6): %w", of[i], ErrIPv6Off, of[i].Interface, err))
		default:
			errs = append(errs, fmt.Errorf("add %s: %w", of[i], err))
		}
	}
	return errors.Join(append(errs, k.noteUnmarked(added))...)
}

// noteUnmarked remembers added addresses whose mark the kernel does not keep (before
// Linux 5.18): this process alone knows them.
func (k *Kernel) noteUnmarked(added []plainPlace) error {
	if k.marking || len(added) == 0 {
		return nil
	}
	records, err := dumpAddresses(k.writes)
	if err != nil {
		return err
	}
	marked := make(map[plainPlace]byte, len(records))
	for _, r := range records {
		marked[r.place()] = r.protocol
	}
	for _, p := range added {
		switch protocol, there := marked[p]; {
		case there && protocol == PlainProtocol:
			k.marking = true
		case there && protocol == 0:
			if k.unmarked == nil {
				k.unmarked = make(map[plainPlace]bool)
			}
			k.unmarked[p] = true
		}
	}
	return nil
}

// RemovePlain takes the addresses down. One that is not there, whose interface is not
// there, or that others made is passed over. Other addresses of the same subnets stay
// up, whether secondaries are promoted on this host or not. The error joins one for
// each address that failed.
func (k *Kernel) RemovePlain(addresses []PlainAddress) error {
	return k.removePlain(addresses, func(r record) bool {
		return r.protocol == PlainProtocol || r.protocol == 0 && k.unmarked[r.place()]
	})
}

// ClearPlain takes the addresses down whoever made them, as long as length and
// interface are the same: a Keepalived that was killed leaves them without a mark. Those
// that hang on a lease ([Protocol]) stay.
func (k *Kernel) ClearPlain(addresses []PlainAddress) error {
	return k.removePlain(addresses, func(r record) bool { return !r.ours() })
}

func (k *Kernel) removePlain(addresses []PlainAddress, mine func(record) bool) error {
	k.change.Lock()
	defer k.change.Unlock()
	records, err := dumpAddresses(k.writes)
	if err != nil {
		return fmt.Errorf("remove addresses: %w", err)
	}
	indexes := k.indexes(addresses)
	names := make(map[int]string)
	wanted := make(map[plainPlace]bool)
	for _, a := range addresses {
		if index, ok := indexes[a.Interface]; ok {
			wanted[a.place(index)], names[index] = true, a.Interface
		}
	}
	var doomed, others []record
	for _, r := range records {
		if wanted[r.place()] && mine(r) {
			doomed = append(doomed, r)
		} else {
			others = append(others, r)
		}
	}
	var errs []error
	for index := range dependent(doomed, others) {
		restore, err := promoteSecondaries(names[index])
		if err != nil {
			errs = append(errs, fmt.Errorf("keep the other addresses on %s: %w", names[index], err))
			continue
		}
		defer restore()
	}
	messages := make([]message, len(doomed))
	for i, r := range doomed {
		messages[i] = encodeRemovePlain(r)
	}
	for i, err := range k.writes.do(messages, batchSize) {
		switch {
		case err == nil, errors.Is(err, unix.EADDRNOTAVAIL), errors.Is(err, unix.ENODEV):
			delete(k.unmarked, doomed[i].place())
		default:
			errs = append(errs, fmt.Errorf("remove %s on %s: %w", doomed[i].prefix(), names[doomed[i].index], err))
		}
	}
	return errors.Join(errs...)
}

// PlainAddresses returns the addresses that bear the mark of plain mode, on kernels
// that keep it: at the start, those that a killed process left. Prefix and Interface
// are filled in; that is enough for [Kernel.RemovePlain].
func (k *Kernel) PlainAddresses() ([]PlainAddress, error) {
	records, err := dumpAddresses(k.reads)
	if err != nil {
		return nil, err
	}
	names, err := k.names()
	if err != nil {
		return nil, err
	}
	var out []PlainAddress
	for _, r := range records {
		if name, ok := names[r.index]; ok && r.protocol == PlainProtocol {
			out = append(out, PlainAddress{Prefix: r.prefix(), Interface: name})
		}
	}
	return out, nil
}

// indexes finds the interfaces that are there.
func (k *Kernel) indexes(addresses []PlainAddress) map[string]int {
	out := make(map[string]int)
	for _, a := range addresses {
		if _, ok := out[a.Interface]; ok {
			continue
		}
		if link, err := k.links.LinkByName(a.Interface); err == nil {
			out[a.Interface] = link.Attrs().Index
		}
	}
	return out
}

// dependent returns the interfaces on which others of the same subnet, which stay,
// would go with a primary IPv4 address that is removed.
func dependent(doomed, others []record) map[int]bool {
	out := make(map[int]bool)
	for _, d := range doomed {
		if d.ip.Is6() || d.flags&unix.IFA_F_SECONDARY != 0 {
			continue
		}
		for _, o := range others {
			if o.index == d.index && o.ip.Is4() && o.flags&unix.IFA_F_SECONDARY != 0 && o.subnet == d.subnet {
				out[d.index] = true
			}
		}
	}
	return out
}

// promoteSecondaries makes the kernel keep the secondaries of a primary that goes,
// until restore is called.
func promoteSecondaries(name string) (restore func(), err error) {
	path := "/proc/sys/net/ipv4/conf/" + name + "/promote_secondaries"
	before, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	if strings.TrimSpace(string(before)) != "0" {
		return func() {}, nil
	}
	if err := os.WriteFile(path, []byte("1"), 0); err != nil {
		return nil, err
	}
	return func() { _ = os.WriteFile(path, before, 0) }, nil
}

// PromoteSecondaries sets what happens to the secondary IPv4 addresses of an interface
// when somebody removes their primary: with on, one of them becomes primary; else they
// all go. It returns how it was.
func (k *Kernel) PromoteSecondaries(iface string, on bool) (was bool, err error) {
	path := "/proc/sys/net/ipv4/conf/" + iface + "/promote_secondaries"
	before, err := os.ReadFile(path)
	if err != nil {
		return false, fmt.Errorf("promote secondaries on %s: %w", iface, err)
	}
	was = strings.TrimSpace(string(before)) != "0"
	value := "0"
	if on {
		value = "1"
	}
	if was != on {
		if err := os.WriteFile(path, []byte(value), 0); err != nil {
			return was, fmt.Errorf("promote secondaries on %s: %w", iface, err)
		}
	}
	return was, nil
}
