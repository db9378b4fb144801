package linux

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// rulePriority is the priority of a rule whose words name none: before the kernel's
// own rules. Keepalived counts down from here; that the number stays the same makes a
// rule found again.
const rulePriority = 16383

// AddRule adds a rule of policy routing in the words of ip(8): from, to, table,
// priority, fwmark, iif and so on. It bears [PlainProtocol] as its protocol unless the
// words name another. A rule without a priority gets 16383. One that is there already
// is fine. The error about a word is a [WordError].
func (k *Kernel) AddRule(words []string) error {
	err := k.rule(words, unix.RTM_NEWRULE, unix.NLM_F_CREATE|unix.NLM_F_EXCL)
	if err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("add rule %q: %w", strings.Join(words, " "), err)
	}
	return nil
}

// RemoveRule removes a rule that [Kernel.AddRule] added with the same words. One that is
// not there is fine.
func (k *Kernel) RemoveRule(words []string) error {
	err := k.rule(words, unix.RTM_DELRULE, 0)
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("remove rule %q: %w", strings.Join(words, " "), err)
	}
	return nil
}

func (k *Kernel) rule(words []string, kind, flags uint16) error {
	r, err := readRule(words, iproute2)
	if err != nil {
		return err
	}
	k.change.Lock()
	defer k.change.Unlock()
	return k.one(message{kind: kind, flags: flags, body: r.encode()})
}

// rule is a rule as its words have it.
type rule struct {
	family        family
	from, to      netip.Prefix
	action        byte // FR_ACT_*
	table         uint32
	target        uint32 // of goto
	invert        bool
	tos           byte
	priority      uint32
	prioritised   bool
	attributes    []byte // those that need no more thought
	l3mdev        bool
	ofTable       bool // a word that goes with table alone was there
	protocol      byte
	input, output string
}

// readRule reads a rule in the words of ip(8).
func readRule(list []string, lookup numbers) (rule, error) {
	w := &words{list: list, numbers: lookup}
	r := rule{protocol: PlainProtocol, priority: rulePriority}
	for w.more() {
		word, _ := w.next()
		read, ok := ruleWords()[word]
		if !ok {
			return rule{}, w.wrong("not a word of a rule")
		}
		if err := read(w, &r); err != nil {
			return rule{}, err
		}
	}
	if r.family == 0 {
		r.family = unix.AF_INET
	}
	reason := ""
	switch {
	case r.action == unix.FR_ACT_UNSPEC:
		reason = "a rule needs table, l3mdev, goto, nop, blackhole, unreachable or prohibit"
	case r.ofTable && r.action != unix.FR_ACT_TO_TBL:
		reason = "realms and suppress_ words go with table alone"
	case r.action == unix.FR_ACT_GOTO && (!r.prioritised || r.priority >= r.target):
		reason = "goto leads to a rule further down: its number is to be higher than the priority"
	default:
		return r, nil
	}
	return rule{}, &WordError{Place: len(list) + 1, Reason: reason}
}

func ruleWords() map[string]func(*words, *rule) error {
	action := func(a byte) func(*words, *rule) error {
		return func(w *words, r *rule) error { return r.act(w, a) }
	}
	return map[string]func(*words, *rule) error{
		"inet":  func(w *words, r *rule) error { return w.fixFamily(&r.family, unix.AF_INET) },
		"inet6": func(w *words, r *rule) error { return w.fixFamily(&r.family, unix.AF_INET6) },
		"from":  func(w *words, r *rule) (err error) { r.from, err = w.prefix(&r.family); return err },
		"to":    func(w *words, r *rule) (err error) { r.to, err = w.prefix(&r.family); return err },
		"table": ruleTable, "lookup": ruleTable,
		"not":        func(_ *words, r *rule) error { r.invert = true; return nil },
		"preference": rulePreference, "pref": rulePreference, "order": rulePreference, "priority": rulePreference,
		"tos": ruleTOS, "dsfield": ruleTOS,
		"fwmark":                ruleMark,
		"realms":                ruleRealms,
		"suppress_prefixlength": ruleSuppressLength, "sup_pl": ruleSuppressLength,
		"suppress_ifgroup": ruleSuppressGroup, "sup_group": ruleSuppressGroup,
		"dev": ruleInput, "iif": ruleInput,
		"oif":       func(w *words, r *rule) (err error) { r.output, err = w.name(); return err },
		"tunnel-id": ruleTunnel,
		"uidrange":  ruleUsers,
		"l3mdev":    func(w *words, r *rule) error { r.l3mdev = true; return r.act(w, unix.FR_ACT_TO_TBL) },
		"protocol":  ruleProtocol, "proto": ruleProtocol,
		"ipproto": ruleIPProtocol,
		"sport":   func(w *words, r *rule) error { return r.ports(w, unix.FRA_SPORT_RANGE) },
		"dport":   func(w *words, r *rule) error { return r.ports(w, unix.FRA_DPORT_RANGE) },
		"type": func(w *words, _ *rule) error {
			if w.more() {
				return nil // the next word is one of the actions
			}
			_, err := w.value()
			return err
		},
		"goto":      ruleGoto,
		"nop":       action(unix.FR_ACT_NOP),
		"blackhole": action(unix.FR_ACT_BLACKHOLE), "unreachable": action(unix.FR_ACT_UNREACHABLE),
		"prohibit": action(unix.FR_ACT_PROHIBIT),
	}
}

func (r *rule) act(w *words, action byte) error {
	if r.action != unix.FR_ACT_UNSPEC {
		return w.wrong("a rule has one action")
	}
	r.action = action
	return nil
}

func ruleTable(w *words, r *rule) error {
	if err := r.act(w, unix.FR_ACT_TO_TBL); err != nil {
		return err
	}
	n, err := w.named("rt_tables", 32)
	if err == nil && n == 0 {
		err = w.wrong("there is no table 0")
	}
	r.table = n
	return err
}

func rulePreference(w *words, r *rule) (err error) {
	r.prioritised = true
	r.priority, err = w.number(32)
	return err
}

func ruleTOS(w *words, r *rule) (err error) { r.tos, err = w.hexByte("rt_dsfield"); return err }

// ruleMark reads MARK[/MASK].
func ruleMark(w *words, r *rule) error {
	s, err := w.value()
	if err != nil {
		return err
	}
	mark, mask, masked := strings.Cut(s, "/")
	n, err := strconv.ParseUint(mark, 0, 32)
	if err != nil {
		return w.wrong("not a mark")
	}
	r.attributes = appendNative(r.attributes, unix.FRA_FWMARK, uint32(n))
	if masked {
		if n, err = strconv.ParseUint(mask, 0, 32); err != nil {
			return w.wrong("not a mark with a mask")
		}
		r.attributes = appendNative(r.attributes, unix.FRA_FWMASK, uint32(n))
	}
	return nil
}

func ruleRealms(w *words, r *rule) error {
	n, err := w.realms()
	if err != nil {
		return err
	}
	r.ofTable = true
	r.attributes = appendNative(r.attributes, unix.FRA_FLOW, n)
	return w.fixFamily(&r.family, unix.AF_INET)
}

func ruleSuppressLength(w *words, r *rule) error {
	n, err := w.number(31)
	r.ofTable = true
	r.attributes = appendNative(r.attributes, unix.FRA_SUPPRESS_PREFIXLEN, n)
	return err
}

func ruleSuppressGroup(w *words, r *rule) error {
	n, err := w.named("group", 32)
	r.ofTable = true
	r.attributes = appendNative(r.attributes, unix.FRA_SUPPRESS_IFGROUP, n)
	return err
}

func ruleInput(w *words, r *rule) (err error) { r.input, err = w.name(); return err }

func ruleTunnel(w *words, r *rule) error {
	s, err := w.value()
	if err != nil {
		return err
	}
	n, err := strconv.ParseUint(s, 0, 64)
	if err != nil {
		return w.wrong("not a number of a tunnel")
	}
	r.attributes = appendAttr(r.attributes, unix.FRA_TUN_ID, binary.BigEndian.AppendUint64(nil, n))
	return nil
}

// span reads FIRST[-LAST].
func (w *words) span(bits int, single bool) (first, last uint32, err error) {
	s, err := w.value()
	if err != nil {
		return 0, 0, err
	}
	a, b, two := strings.Cut(s, "-")
	if !two {
		b = a
	}
	from, err := strconv.ParseUint(a, 10, bits)
	if err != nil {
		return 0, 0, w.wrong("not a range")
	}
	to, err := strconv.ParseUint(b, 10, bits)
	if err != nil || from > to || !two && !single {
		return 0, 0, w.wrong("not a range")
	}
	return uint32(from), uint32(to), nil
}

func ruleUsers(w *words, r *rule) error {
	first, last, err := w.span(32, false)
	b := binary.NativeEndian.AppendUint32(nil, first)
	r.attributes = appendAttr(r.attributes, unix.FRA_UID_RANGE, binary.NativeEndian.AppendUint32(b, last))
	return err
}

func (r *rule) ports(w *words, kind uint16) error {
	first, last, err := w.span(16, true)
	b := binary.NativeEndian.AppendUint16(nil, uint16(first))
	r.attributes = appendAttr(r.attributes, kind, binary.NativeEndian.AppendUint16(b, uint16(last)))
	return err
}

func ruleProtocol(w *words, r *rule) error {
	n, err := w.named("rt_protos", 8)
	r.protocol = byte(n)
	return err
}

func ruleIPProtocol(w *words, r *rule) error {
	s, err := w.value()
	if err != nil {
		return err
	}
	known := map[string]byte{"icmp": 1, "tcp": 6, "udp": 17, "gre": 47, "esp": 50, "ah": 51, "ipv6-icmp": 58, "vrrp": 112, "sctp": 132}
	n, ok := known[s]
	if !ok {
		v, err := strconv.ParseUint(s, 0, 8)
		if err != nil || v == 0 {
			return w.wrong("not an IP protocol")
		}
		n = byte(v)
	}
	r.attributes = appendAttr(r.attributes, unix.FRA_IP_PROTO, []byte{n})
	return nil
}

func ruleGoto(w *words, r *rule) (err error) {
	if err := r.act(w, unix.FR_ACT_GOTO); err != nil {
		return err
	}
	r.target, err = w.number(32)
	return err
}

// encode makes the body of a message about the rule:
//
//	struct fib_rule_hdr  family, lengths of destination and source, tos, table (8 bits),
//	                     2 reserved bytes, action (8 bits), flags (32 bits)
//	FRA_*                attributes
func (r *rule) encode() []byte {
	var flags uint32
	if r.invert {
		flags |= unix.FIB_RULE_INVERT
	}
	b := []byte{byte(r.family), bitsOf(r.to), bitsOf(r.from), r.tos, tableByte(r.table), 0, 0, r.action}
	b = binary.NativeEndian.AppendUint32(b, flags)
	if r.table > math.MaxUint8 {
		b = appendNative(b, unix.FRA_TABLE, r.table)
	}
	if r.to.Bits() > 0 {
		b = appendAttr(b, unix.FRA_DST, r.to.Addr().AsSlice())
	}
	if r.from.Bits() > 0 {
		b = appendAttr(b, unix.FRA_SRC, r.from.Addr().AsSlice())
	}
	b = appendNative(b, unix.FRA_PRIORITY, r.priority)
	if r.action == unix.FR_ACT_GOTO {
		b = appendNative(b, unix.FRA_GOTO, r.target)
	}
	if r.input != "" {
		b = appendString(b, unix.FRA_IIFNAME, r.input)
	}
	if r.output != "" {
		b = appendString(b, unix.FRA_OIFNAME, r.output)
	}
	if r.l3mdev {
		b = appendAttr(b, unix.FRA_L3MDEV, []byte{1})
	}
	b = append(b, r.attributes...)
	return appendAttr(b, unix.FRA_PROTOCOL, []byte{r.protocol})
}
