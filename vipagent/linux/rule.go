package linux

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// AddRule adds a rule in the words of ip(8), in the forms that keepalived.conf has. A
// word that it does not know is an error that names it. It has [PlainProtocol] unless
// "protocol" says otherwise. One that is there is fine.
func (k *Kernel) AddRule(text []string) error {
	r, err := parsePolicyRule(k.words(text))
	if err == nil {
		err = k.one(message{kind: unix.RTM_NEWRULE, flags: unix.NLM_F_CREATE | unix.NLM_F_EXCL, body: r.encode()})
	}
	if err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("add rule %s: %w", strings.Join(text, " "), err)
	}
	return nil
}

// RemoveRule removes the rule that [Kernel.AddRule] adds for the same words. One that is
// not there is fine.
func (k *Kernel) RemoveRule(text []string) error {
	r, err := parsePolicyRule(k.words(text))
	if err == nil {
		err = k.one(message{kind: unix.RTM_DELRULE, body: r.encode()})
	}
	if err != nil && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("remove rule %s: %w", strings.Join(text, " "), err)
	}
	return nil
}

// What a rule does (FR_ACT_*), and a flag of it.
const (
	ruleToTable     = 1
	ruleGoto        = 2
	ruleNop         = 3
	ruleBlackhole   = 6
	ruleUnreachable = 7
	ruleProhibit    = 8

	ruleInvert = 2 // FIB_RULE_INVERT
)

// policyRule is a rule as the kernel takes it.
type policyRule struct {
	family     family
	to, from   netip.Prefix // zero = all
	tos        byte
	action     byte // 0 = not given
	table      uint32
	flags      uint32
	protocol   byte
	tableOnly  string           // a word that needs a table
	attributes []routeAttribute // of 32 bits
	others     []byte           // other attributes, encoded
}

// encode makes the body of RTM_NEWRULE and RTM_DELRULE.
//
//	struct fib_rule_hdr   family, length of destination and source, tos,
//	                      table, 2 reserved, action (8 bits each), flags (32 bits)
func (r *policyRule) encode() []byte {
	table := byte(unix.RT_TABLE_UNSPEC)
	if r.table < 256 {
		table = byte(r.table)
	}
	b := make([]byte, 0, 128)
	b = append(b, r.family.orIPv4(), bitsOf(r.to), bitsOf(r.from), r.tos, table, 0, 0, r.action)
	b = binary.NativeEndian.AppendUint32(b, r.flags)
	if r.to.IsValid() {
		b = appendAttr(b, unix.FRA_DST, r.to.Addr().AsSlice())
	}
	if r.from.IsValid() {
		b = appendAttr(b, unix.FRA_SRC, r.from.Addr().AsSlice())
	}
	if r.table > 255 {
		b = appendNative32(b, unix.FRA_TABLE, r.table)
	}
	for _, a := range r.attributes {
		b = appendNative32(b, a.kind, a.value)
	}
	b = append(b, r.others...)
	return appendAttr(b, unix.FRA_PROTOCOL, []byte{r.protocol})
}

// parsePolicyRule makes sense of the words of a rule.
func parsePolicyRule(w *words) (*policyRule, error) {
	r := &policyRule{protocol: PlainProtocol}
	for {
		word, ok := w.next()
		if !ok {
			break
		}
		known := false
		var err error
		for _, f := range []func(*words, string) (bool, error){r.takeSelector, r.takeMatch, r.takeAction} {
			if known, err = f(w, word); known || err != nil {
				break
			}
		}
		if err != nil {
			return nil, err
		}
		if !known {
			return nil, fmt.Errorf("unknown word %q", word)
		}
	}
	switch {
	case r.action == 0:
		return nil, errors.New("nothing says what it does: table, goto, nop, blackhole, unreachable, prohibit or l3mdev")
	case r.tableOnly != "" && r.action != ruleToTable:
		return nil, fmt.Errorf("%s without table", r.tableOnly)
	}
	return r, nil
}

// takeSelector reads words that say which packets, by address and interface.
func (r *policyRule) takeSelector(w *words, word string) (known bool, err error) {
	switch word {
	case "from":
		if r.from, err = w.network(word); err == nil && r.from.IsValid() {
			err = r.family.agree(familyOf(r.from.Addr()), word)
		}
	case "to":
		if r.to, err = w.network(word); err == nil && r.to.IsValid() {
			err = r.family.agree(familyOf(r.to.Addr()), word)
		}
	case "inet", "inet6":
		err = r.family.agree(familyNamed(word), word)
	case "not":
		r.flags |= ruleInvert
	case "iif", "dev":
		err = r.takeInterface(w, word, unix.FRA_IIFNAME)
	case "oif":
		err = r.takeInterface(w, word, unix.FRA_OIFNAME)
	default:
		return false, nil
	}
	return true, err
}

// takeInterface reads the name of an interface, which need not be there.
func (r *policyRule) takeInterface(w *words, word string, kind uint16) error {
	name, err := w.value(word)
	if err == nil && len(name) >= unix.IFNAMSIZ {
		err = fmt.Errorf("%s %q is longer than %d bytes", word, name, unix.IFNAMSIZ-1)
	}
	r.others = appendAttr(r.others, kind, append([]byte(name), 0))
	return err
}

// takeMatch reads the other words that say which packets, and in what order.
func (r *policyRule) takeMatch(w *words, word string) (known bool, err error) {
	var n uint32
	switch word {
	case "priority", "preference", "pref", "order":
		n, err = w.number(word, 32)
		r.add(unix.FRA_PRIORITY, n)
	case "tos", "dsfield":
		n, err = w.named(word, nameTOS)
		r.tos = byte(n)
	case "fwmark":
		err = r.takeMark(w)
	case "realms":
		n, err = w.realms()
		r.add(unix.FRA_FLOW, n)
		r.tableOnly = word
	case "suppress_prefixlength", "sup_pl":
		n, err = w.number(word, 31)
		r.add(unix.FRA_SUPPRESS_PREFIXLEN, n)
		r.tableOnly = word
	case "suppress_ifgroup", "sup_group":
		n, err = w.named(word, nameGroup)
		r.add(unix.FRA_SUPPRESS_IFGROUP, n)
		r.tableOnly = word
	case "protocol", "proto":
		n, err = w.named(word, nameProtocol)
		r.protocol = byte(n)
	case "ipproto":
		n, err = w.transport(word)
		r.others = appendAttr(r.others, unix.FRA_IP_PROTO, []byte{byte(n)})
	case "sport":
		err = r.takeRange(w, word, unix.FRA_SPORT_RANGE, 16)
	case "dport":
		err = r.takeRange(w, word, unix.FRA_DPORT_RANGE, 16)
	case "uidrange":
		err = r.takeRange(w, word, unix.FRA_UID_RANGE, 32)
	case "tunnel-id":
		err = r.takeTunnel(w)
	default:
		return false, nil
	}
	return true, err
}

func (r *policyRule) add(kind uint16, value uint32) {
	r.attributes = append(r.attributes, routeAttribute{kind, value})
}

// takeMark reads MARK[/MASK].
func (r *policyRule) takeMark(w *words) error {
	text, err := w.value("fwmark")
	if err != nil {
		return err
	}
	mark, mask, masked := strings.Cut(text, "/")
	n, err := strconv.ParseUint(mark, 0, 32)
	if err != nil {
		return fmt.Errorf("fwmark %q is no number", text)
	}
	r.add(unix.FRA_FWMARK, uint32(n))
	if !masked {
		return nil
	}
	if n, err = strconv.ParseUint(mask, 0, 32); err != nil {
		return fmt.Errorf("fwmark %q: the mask is no number", text)
	}
	r.add(unix.FRA_FWMASK, uint32(n))
	return nil
}

// takeRange reads FIRST[-LAST].
func (r *policyRule) takeRange(w *words, word string, kind uint16, bits int) error {
	text, err := w.value(word)
	if err != nil {
		return err
	}
	low, high, two := strings.Cut(text, "-")
	if !two {
		high = low
	}
	first, err := strconv.ParseUint(low, 10, bits)
	last, err2 := strconv.ParseUint(high, 10, bits)
	if err != nil || err2 != nil || first > last {
		return fmt.Errorf("%s %q is neither a number nor a range", word, text)
	}
	var b []byte
	for _, n := range []uint64{first, last} {
		if bits == 16 {
			b = binary.NativeEndian.AppendUint16(b, uint16(n))
		} else {
			b = binary.NativeEndian.AppendUint32(b, uint32(n))
		}
	}
	r.others = appendAttr(r.others, kind, b)
	return nil
}

func (r *policyRule) takeTunnel(w *words) error {
	text, err := w.value("tunnel-id")
	if err != nil {
		return err
	}
	n, err := strconv.ParseUint(text, 0, 64)
	if err != nil {
		return fmt.Errorf("tunnel-id %q is no number", text)
	}
	r.others = appendUint64(r.others, unix.FRA_TUN_ID, n)
	return nil
}

// transport reads a protocol on top of IP.
func (w *words) transport(of string) (uint32, error) {
	text, err := w.value(of)
	if err != nil {
		return 0, err
	}
	n, ok := map[string]uint32{
		"icmp": unix.IPPROTO_ICMP, "tcp": unix.IPPROTO_TCP, "udp": unix.IPPROTO_UDP, "ipv6-icmp": unix.IPPROTO_ICMPV6, "sctp": unix.IPPROTO_SCTP,
		"dccp": unix.IPPROTO_DCCP, "gre": unix.IPPROTO_GRE, "esp": unix.IPPROTO_ESP, "ah": unix.IPPROTO_AH, "udplite": unix.IPPROTO_UDPLITE,
	}[text]
	if ok {
		return n, nil
	}
	v, err := strconv.ParseUint(text, 10, 8)
	if err != nil {
		return 0, fmt.Errorf("unknown %s %q", of, text)
	}
	return uint32(v), nil
}

// takeAction reads what is done with the packets.
func (r *policyRule) takeAction(w *words, word string) (known bool, err error) {
	if word == "type" {
		if word, err = w.value(word); err != nil {
			return false, err
		}
	}
	actions := map[string]byte{
		"table": ruleToTable, "lookup": ruleToTable, "l3mdev": ruleToTable, "goto": ruleGoto, "nop": ruleNop,
		"blackhole": ruleBlackhole, "unreachable": ruleUnreachable, "prohibit": ruleProhibit,
	}
	action, ok := actions[word]
	switch {
	case !ok:
		return false, nil
	case r.action != 0:
		return true, fmt.Errorf("%s: it does something else already", word)
	}
	r.action = action
	var n uint32
	switch word {
	case "table", "lookup":
		r.table, err = w.named(word, nameTable)
	case "l3mdev":
		r.others = appendAttr(r.others, unix.FRA_L3MDEV, []byte{1})
	case "goto":
		n, err = w.number(word, 32)
		r.add(unix.FRA_GOTO, n)
	}
	return true, err
}
