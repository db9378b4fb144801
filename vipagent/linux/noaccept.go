package linux

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

const (
	noAcceptTable = "holdfast_no_accept"
	// noAcceptPriority is before the host's own filter rules.
	noAcceptPriority = -1
	nftTableOwner    = 0x2 // NFT_TABLE_F_OWNER
)

// NoAccept makes the host drop all packets that it would take as their destination, or
// send, with an address of a list: those of virtual routers with Accept_Mode off (RFC
// 9568, section 6.1), which only forward. It forwards to and through them, and answers
// ARP and neighbour discovery for them, as before. The rules are in a table of their own
// ("nft list table inet holdfast_no_accept").
type NoAccept struct {
	c *conn
	// The kernel deletes the table when the socket is closed, however the process ends
	// (since Linux 5.12): it must not drop packets for whoever has the addresses next.
	flags uint32
	there bool // the table is this one's
}

// OpenNoAccept opens the socket. keep: the table stays when the process ends.
func OpenNoAccept(keep bool) (*NoAccept, error) {
	c, err := dialNetlink(unix.NETLINK_NETFILTER)
	if errors.Is(err, unix.EPROTONOSUPPORT) {
		return &NoAccept{}, nil // a kernel without netfilter
	}
	if err != nil {
		return nil, err
	}
	n := &NoAccept{c: c, flags: nftTableOwner}
	if keep {
		n.flags = 0
	}
	return n, nil
}

// Close closes the socket; without keep no rule is left.
func (n *NoAccept) Close() error {
	if n.c == nil {
		return nil
	}
	return n.c.close()
}

// Set replaces the list at once; with an empty one nothing is left.
func (n *NoAccept) Set(addresses []netip.Addr) error {
	if err := n.set(addresses); err != nil {
		return fmt.Errorf("drop packets to addresses that are not accepted: %w", err)
	}
	return nil
}

func (n *NoAccept) set(addresses []netip.Addr) error {
	switch {
	case n.c == nil && len(addresses) == 0:
		return nil
	case n.c == nil:
		return unix.EPROTONOSUPPORT
	case len(addresses) == 0:
		return n.drop()
	}
	content, err := noAcceptContent(addresses)
	if err != nil {
		return err
	}
	if n.there {
		if err := n.replace([]message{dropNoAccept()}, content); !errors.Is(err, unix.ENOENT) {
			return err
		}
		// Somebody has deleted it.
	}
	// One that a former process has left cannot become ours, and one cannot delete in a
	// transaction what may not be there.
	if err := n.drop(); err != nil {
		return err
	}
	err = n.replace(nil, content)
	if n.flags != 0 && (errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EINVAL)) {
		n.flags = 0 // an older kernel
		err = n.replace(nil, content)
	}
	return err
}

func (n *NoAccept) replace(first, content []message) error {
	create := namedTableMessage(noAcceptTable, unix.NFT_MSG_NEWTABLE, unix.NLM_F_CREATE, nftInet, n.flags)
	if err := n.c.transact(slices.Concat(first, []message{create}, content)); err != nil {
		return err
	}
	n.there = true
	return nil
}

func (n *NoAccept) drop() error {
	n.there = false
	err := n.c.transact([]message{dropNoAccept()})
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EOPNOTSUPP) {
		return nil
	}
	return err
}

func dropNoAccept() message {
	return namedTableMessage(noAcceptTable, unix.NFT_MSG_DELTABLE, 0, nftInet, 0)
}

// noAcceptContent makes the sets, chains and rules.
func noAcceptContent(addresses []netip.Addr) (out []message, err error) {
	sets := noAcceptSets()
	elements := make([][]nftElement, len(sets))
	for _, a := range addresses {
		a = plain(a)
		i := 0
		if a.Is6() {
			i = 1
		}
		e := nftElement{key: string(a.AsSlice())}
		if !slices.Contains(elements[i], e) {
			elements[i] = append(elements[i], e)
		}
	}
	for i, s := range sets {
		out = append(out, s.message(uint32(i+1)))
	}
	for _, c := range []nftChain{
		{table: noAcceptTable, family: nftInet, name: "in", hooked: true, hook: unix.NF_INET_LOCAL_IN, priority: noAcceptPriority},
		{table: noAcceptTable, family: nftInet, name: "out", hooked: true, hook: unix.NF_INET_LOCAL_OUT, priority: noAcceptPriority},
	} {
		out = append(out, c.message())
	}
	for _, r := range noAcceptRules() {
		m, err := r.message()
		if err != nil {
			return nil, err
		}
		out = append(out, m)
	}
	for i, s := range sets {
		out = append(out, s.elements(unix.NFT_MSG_NEWSETELEM, elements[i])...)
	}
	return out, nil
}

func noAcceptSets() []nftSet {
	return []nftSet{
		{table: noAcceptTable, family: nftInet, name: "vips4", keyType: nftTypeIPv4, keyLen: 4},
		{table: noAcceptTable, family: nftInet, name: "vips6", keyType: nftTypeIPv6, keyLen: 16},
	}
}

// noAcceptRules let neighbour discovery pass, which for IPv4 is ARP and does not come
// here, and drop the rest.
func noAcceptRules() (out []nftRule) {
	add := func(chain, comment string, exprs ...[]expr.Any) {
		out = append(out, nftRule{table: noAcceptTable, family: nftInet, chain: chain, comment: comment, exprs: joinExprs(exprs...)})
	}
	verdict := func(kind expr.VerdictKind) []expr.Any { return []expr.Any{&expr.Verdict{Kind: kind}} }
	ipv4 := nftMeta(expr.MetaKeyNFPROTO, unix.NFPROTO_IPV4)
	ipv6 := nftMeta(expr.MetaKeyNFPROTO, unix.NFPROTO_IPV6)
	for _, c := range []struct {
		chain  string
		v4, v6 nftField
	}{{"in", destination4(), destination6()}, {"out", source4(), source6()}} {
		for _, kind := range []neighbourType{solicitation, advertisement} {
			add(c.chain, "neighbour discovery", ipv6, nftMeta(expr.MetaKeyL4PROTO, nextHeaderICMPv6),
				nftField{expr.PayloadBaseTransportHeader, 0, 1}.equals(byte(kind)), verdict(expr.VerdictAccept))
		}
		add(c.chain, "not accepted", ipv4, within(c.v4, "vips4"), verdict(expr.VerdictDrop))
		add(c.chain, "not accepted", ipv6, within(c.v6, "vips6"), verdict(expr.VerdictDrop))
	}
	return out
}
