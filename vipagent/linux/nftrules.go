package linux

import (
	"cmp"
	"encoding/binary"
	"fmt"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

const (
	nftTable = "holdfast"
	// nftVersion is part of a rule's comment: another version of this program
	// finds other rules and writes its own.
	nftVersion = "holdfast fence 1"

	nftInet = unix.NFPROTO_INET
	nftARP  = unix.NFPROTO_ARP

	// Before connection tracking and address translation on the way in, after
	// them on the way out: the rules see what the wire sees.
	priorityIn  = -350
	priorityOut = 350

	// nft's numbers of data types, for what it prints.
	nftTypeIPv4 = 7
	nftTypeIPv6 = 8
	nftTypeMark = 19

	loopbackType = unix.ARPHRD_LOOPBACK
)

// The sets of a fence. guardedN are its addresses. The rules find the slot of one
// in slotN and look for it in lease, a set of the slots whose deadline lies ahead; the kernel
// takes a slot out when its time is up. The slot in alsoN must be in lease as
// well; it is that of the second session, or the same if there is none. Slot 0 is
// never in lease. same holds each IPv4 address twice: not every nf_tables can
// compare two fields of a packet with each other.
func nftSets() []nftSet {
	v4 := nftSet{keyType: nftTypeIPv4, keyLen: 4}
	v6 := nftSet{keyType: nftTypeIPv6, keyLen: 16}
	var out []nftSet
	add := func(s nftSet, family byte, name string) {
		s.family, s.name = family, name
		out = append(out, s)
	}
	for _, family := range []byte{nftInet, nftARP} {
		add(nftSet{keyType: nftTypeMark, keyLen: 4, timed: true}, family, "lease")
		for _, s := range []nftSet{v4, v6} {
			if family == nftARP && s == v6 {
				continue
			}
			version := "4"
			if s == v6 {
				version = "6"
			}
			guarded, slots, counters := s, s, s
			slots.isMap, counters.counting = true, true
			add(guarded, family, "guarded"+version)
			add(slots, family, "slot"+version)
			add(slots, family, "also"+version)
			add(counters, family, "refused_in"+version)
			add(counters, family, "refused_out"+version)
		}
	}
	add(nftSet{keyType: nftTypeIPv4<<6 | nftTypeIPv4, keyLen: 8}, nftARP, "same")
	return out
}

// nftChain is a chain: with a hook if the kernel calls it.
type nftChain struct {
	table    string // "" = nftTable
	family   byte
	name     string
	hooked   bool
	hook     uint32
	priority int32
}

func nftChains() []nftChain {
	return []nftChain{
		{family: nftInet, name: "to4"}, {family: nftInet, name: "to6"}, {family: nftInet, name: "asked6"},
		{family: nftInet, name: "from4"}, {family: nftInet, name: "from6"}, {family: nftInet, name: "claimed6"},
		{family: nftARP, name: "asked4"}, {family: nftARP, name: "claimed4"},
		{family: nftInet, name: "in", hooked: true, hook: unix.NF_INET_PRE_ROUTING, priority: priorityIn},
		{family: nftInet, name: "out", hooked: true, hook: unix.NF_INET_LOCAL_OUT, priority: priorityOut},
		{family: nftARP, name: "in", hooked: true, hook: 0, priority: priorityIn}, // NF_ARP_IN
		{family: nftARP, name: "out", hooked: true, hook: 1, priority: priorityOut},
	}
}

func (c nftChain) message() message {
	b := appendString(nil, unix.NFTA_CHAIN_TABLE, cmp.Or(c.table, nftTable))
	b = appendString(b, unix.NFTA_CHAIN_NAME, c.name)
	if c.hooked {
		hook := appendUint32(nil, unix.NFTA_HOOK_HOOKNUM, c.hook)
		hook = appendUint32(hook, unix.NFTA_HOOK_PRIORITY, uint32(c.priority))
		b = appendNest(b, unix.NFTA_CHAIN_HOOK, hook)
		b = appendUint32(b, unix.NFTA_CHAIN_POLICY, 1) // accept
		b = appendString(b, unix.NFTA_CHAIN_TYPE, "filter")
	}
	return nftMessage(unix.NFT_MSG_NEWCHAIN, unix.NLM_F_CREATE, c.family, b)
}

// nftRule is a rule; its comment says in words what it does.
type nftRule struct {
	table          string // "" = nftTable
	family         byte
	chain, comment string
	exprs          []expr.Any
}

func (r nftRule) message() (message, error) {
	var list []byte
	for _, e := range r.exprs {
		one, err := expr.Marshal(r.family, e)
		if err != nil {
			return message{}, fmt.Errorf("encode rule %q: %w", r.comment, err)
		}
		list = appendNest(list, unix.NFTA_LIST_ELEM, one)
	}
	b := appendString(nil, unix.NFTA_RULE_TABLE, cmp.Or(r.table, nftTable))
	b = appendString(b, unix.NFTA_RULE_CHAIN, r.chain)
	b = appendNest(b, unix.NFTA_RULE_EXPRESSIONS, list)
	b = appendAttr(b, unix.NFTA_RULE_USERDATA, userdata(r.comment))
	return nftMessage(unix.NFT_MSG_NEWRULE, unix.NLM_F_CREATE|unix.NLM_F_APPEND, r.family, b), nil
}

// nftField is where an address lies in a packet.
type nftField struct {
	base        expr.PayloadBase
	offset, len uint32
}

// The fields that say whom a packet is for, or from.
func source4() nftField      { return nftField{expr.PayloadBaseNetworkHeader, 12, 4} }
func destination4() nftField { return nftField{expr.PayloadBaseNetworkHeader, 16, 4} }
func source6() nftField      { return nftField{expr.PayloadBaseNetworkHeader, 8, 16} }
func destination6() nftField { return nftField{expr.PayloadBaseNetworkHeader, 24, 16} }
func target6() nftField      { return nftField{expr.PayloadBaseTransportHeader, 8, 16} }
func arpSender() nftField    { return nftField{expr.PayloadBaseNetworkHeader, 14, 4} }
func arpTarget() nftField    { return nftField{expr.PayloadBaseNetworkHeader, 24, 4} }

// into loads the field.
func (f nftField) into(register uint32) expr.Any {
	return &expr.Payload{DestRegister: register, Base: f.base, Offset: f.offset, Len: f.len}
}

// equals goes on only if the field holds these bytes.
func (f nftField) equals(b ...byte) []expr.Any {
	return []expr.Any{f.into(unix.NFT_REG_1), &expr.Cmp{Op: expr.CmpOpEq, Register: unix.NFT_REG_1, Data: b}}
}

func nftMeta(key expr.MetaKey, b ...byte) []expr.Any {
	return []expr.Any{&expr.Meta{Key: key, Register: unix.NFT_REG_1}, &expr.Cmp{Op: expr.CmpOpEq, Register: unix.NFT_REG_1, Data: b}}
}

// within goes on only if the set has the field.
func within(f nftField, set string) []expr.Any {
	return []expr.Any{f.into(unix.NFT_REG_1), inSet(unix.NFT_REG_1, set)}
}

// leased goes on only if the slot that the map has for the field is in lease. The
// slot takes a detour: nft ends with an assertion when it is to print a set that is
// searched for what a map holds.
func leased(f nftField, slots string) []expr.Any {
	return []expr.Any{
		f.into(unix.NFT_REG_1),
		&expr.Lookup{SourceRegister: unix.NFT_REG_1, DestRegister: unix.NFT_REG_1, IsDestRegSet: true, SetName: slots},
		setMark(unix.NFT_REG_1), getMark(unix.NFT_REG_1),
		inSet(unix.NFT_REG_1, "lease"),
	}
}

func getMark(register uint32) expr.Any { return &expr.Meta{Key: expr.MetaKeyMARK, Register: register} }
func setMark(register uint32) expr.Any {
	return &expr.Meta{Key: expr.MetaKeyMARK, SourceRegister: true, Register: register}
}

func inSet(register uint32, set string) expr.Any {
	return &expr.Lookup{SourceRegister: register, SetName: set}
}

func accept() expr.Any           { return &expr.Verdict{Kind: expr.VerdictAccept} }
func goTo(chain string) expr.Any { return &expr.Verdict{Kind: expr.VerdictGoto, Chain: chain} }
func joinExprs(l ...[]expr.Any) (out []expr.Any) {
	for _, e := range l {
		out = append(out, e...)
	}
	return out
}

// guardChain makes the rules of a chain to which only packets of guarded addresses go.
func guardChain(family byte, chain string, f nftField, version, refused string) []nftRule {
	rule := func(comment string, exprs ...[]expr.Any) nftRule {
		return nftRule{family: family, chain: chain, comment: comment, exprs: joinExprs(exprs...)}
	}
	one := func(e ...expr.Any) []expr.Any { return e }
	return []nftRule{
		// A packet that does not get to the end of this rule is dropped, so that its
		// mark no longer matters.
		rule("its leases run", one(getMark(unix.NFT_REG_2)), leased(f, "slot"+version), leased(f, "also"+version),
			one(setMark(unix.NFT_REG_2), accept())),
		rule("count what is refused", one(f.into(unix.NFT_REG_1), inSet(unix.NFT_REG_1, refused+version))),
		rule("refuse", one(&expr.Verdict{Kind: expr.VerdictDrop})),
	}
}

// nftRules are the rules of a fence. Incoming packets are refused if this host
// would answer them for the address: what other hosts say about the address,
// gratuitous ARP and advertisements, must get through, or this host would never
// learn where it went. Outgoing packets are refused if they claim the address.
func nftRules() []nftRule {
	var rules []nftRule
	add := func(family byte, chain, comment string, exprs ...[]expr.Any) {
		rules = append(rules, nftRule{family: family, chain: chain, comment: comment, exprs: joinExprs(exprs...)})
	}
	one := func(e ...expr.Any) []expr.Any { return e }
	loopback := binary.NativeEndian.AppendUint16(nil, loopbackType)
	ipv4 := nftMeta(expr.MetaKeyNFPROTO, unix.NFPROTO_IPV4)
	ipv6 := nftMeta(expr.MetaKeyNFPROTO, unix.NFPROTO_IPV6)
	neighbour := func(kind neighbourType) []expr.Any {
		return joinExprs(ipv6, nftMeta(expr.MetaKeyL4PROTO, nextHeaderICMPv6), nftField{expr.PayloadBaseTransportHeader, 0, 1}.equals(byte(kind)))
	}
	request := nftField{expr.PayloadBaseNetworkHeader, 6, 2}.equals(0, byte(arpRequest))

	add(nftInet, "in", nftVersion, nftMeta(expr.MetaKeyIIFTYPE, loopback...), one(accept()))
	add(nftInet, "in", "to a guarded address", ipv4, within(destination4(), "guarded4"), one(goTo("to4")))
	add(nftInet, "in", "to a guarded address", ipv6, within(destination6(), "guarded6"), one(goTo("to6")))
	add(nftInet, "in", "who has a guarded address", neighbour(solicitation), within(target6(), "guarded6"), one(goTo("asked6")))
	add(nftInet, "out", nftVersion, nftMeta(expr.MetaKeyOIFTYPE, loopback...), one(accept()))
	add(nftInet, "out", "from a guarded address", ipv4, within(source4(), "guarded4"), one(goTo("from4")))
	add(nftInet, "out", "from a guarded address", ipv6, within(source6(), "guarded6"), one(goTo("from6")))
	add(nftInet, "out", "claims a guarded address", neighbour(advertisement), within(target6(), "guarded6"), one(goTo("claimed6")))
	add(nftARP, "in", nftVersion+": others' gratuitous requests", request,
		one(arpSender().into(unix.NFT_REG32_00), arpTarget().into(unix.NFT_REG32_01), inSet(unix.NFT_REG32_00, "same"), accept()))
	add(nftARP, "in", "who has a guarded address", request, within(arpTarget(), "guarded4"), one(goTo("asked4")))
	add(nftARP, "out", nftVersion+": claims a guarded address", within(arpSender(), "guarded4"), one(goTo("claimed4")))

	rules = append(rules, guardChain(nftInet, "to4", destination4(), "4", "refused_in")...)
	rules = append(rules, guardChain(nftInet, "to6", destination6(), "6", "refused_in")...)
	rules = append(rules, guardChain(nftInet, "asked6", target6(), "6", "refused_in")...)
	rules = append(rules, guardChain(nftInet, "from4", source4(), "4", "refused_out")...)
	rules = append(rules, guardChain(nftInet, "from6", source6(), "6", "refused_out")...)
	rules = append(rules, guardChain(nftInet, "claimed6", target6(), "6", "refused_out")...)
	rules = append(rules, guardChain(nftARP, "asked4", arpTarget(), "4", "refused_in")...)
	return append(rules, guardChain(nftARP, "claimed4", arpSender(), "4", "refused_out")...)
}

// nftSkeleton makes the tables with everything but the elements.
func nftSkeleton(tableFlags uint32) ([]message, error) {
	var out []message
	for _, family := range []byte{nftInet, nftARP} {
		out = append(out, tableMessage(unix.NFT_MSG_NEWTABLE, unix.NLM_F_CREATE, family, tableFlags))
	}
	for i, s := range nftSets() {
		out = append(out, s.message(uint32(i+1)))
	}
	for _, c := range nftChains() {
		out = append(out, c.message())
	}
	for _, r := range nftRules() {
		m, err := r.message()
		if err != nil {
			return nil, err
		}
		out = append(out, m)
	}
	return out, nil
}
