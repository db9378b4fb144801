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
)

// SetNoAccept makes the host drop all packets that it would take as their destination,
// or send, with one of these addresses: those of virtual routers with Accept_Mode off
// (RFC 9568, section 6.1), which only forward. It forwards to and through them, and
// answers ARP and neighbour discovery for them, as before. The list replaces the former
// one at once; with an empty one nothing is left. The rules are in a table of their
// own ("nft list table inet holdfast_no_accept") and stay when the process ends.
func (k *Kernel) SetNoAccept(addresses []netip.Addr) error {
	if err := setNoAccept(addresses); err != nil {
		return fmt.Errorf("drop packets to addresses that are not accepted: %w", err)
	}
	return nil
}

func setNoAccept(addresses []netip.Addr) (err error) {
	c, err := dialNetlink(unix.NETLINK_NETFILTER)
	if errors.Is(err, unix.EPROTONOSUPPORT) && len(addresses) == 0 {
		return nil // a kernel without netfilter has no table
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.close()) }()
	drop := namedTableMessage(noAcceptTable, unix.NFT_MSG_DELTABLE, 0, nftInet, 0)
	if len(addresses) == 0 {
		err := c.transact([]message{drop})
		if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EOPNOTSUPP) {
			return nil
		}
		return err
	}
	// Made before it is deleted, so that it does not matter whether it was there.
	create := namedTableMessage(noAcceptTable, unix.NFT_MSG_NEWTABLE, unix.NLM_F_CREATE, nftInet, 0)
	msgs := []message{create, drop, create}
	content, err := noAcceptContent(addresses)
	if err != nil {
		return err
	}
	return c.transact(append(msgs, content...))
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
