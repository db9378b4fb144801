package linux

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"holdfast/coordinator/lease"
	"holdfast/vipagent/vip"
)

// nftState is what the kernel holds of the fence.
type nftState struct {
	tables   map[byte]uint32 // flags by family
	parts    []string        // chains and rules, one line for each
	elements [][]nftElement  // for each set of nftSets
	missing  string          // a set that is not there
}

// placed is an element with the index of its set.
type placed struct {
	set int
	nftElement
}

// readNFT reads all that there is.
func (c *conn) readNFT(sets []nftSet) (nftState, error) {
	state := nftState{elements: make([][]nftElement, len(sets))}
	var err error
	if state.tables, err = c.nftTables(); err != nil || len(state.tables) == 0 {
		return state, err
	}
	if state.parts, err = c.nftParts(); err != nil {
		return state, err
	}
	for i, s := range sets {
		list, err := c.dumpElements(s)
		switch {
		case errors.Is(err, unix.ENOENT):
			state.missing = s.name
		case err != nil:
			return state, err
		}
		state.elements[i] = list
	}
	return state, nil
}

// nftTables returns the flags of our tables by family.
func (c *conn) nftTables() (map[byte]uint32, error) {
	tables := map[byte]uint32{}
	err := c.dump(nftMessage(unix.NFT_MSG_GETTABLE, 0, unix.AF_UNSPEC, nil), func() { clear(tables) }, func(_ uint16, body []byte) error {
		var name string
		var flags uint32
		err := nftAttributes(body, func(kind uint16, v []byte) {
			switch {
			case kind == unix.NFTA_TABLE_NAME:
				name = cString(v)
			case kind == unix.NFTA_TABLE_FLAGS && len(v) == 4:
				flags = binary.BigEndian.Uint32(v)
			}
		})
		if name == nftTable && (body[0] == nftInet || body[0] == nftARP) {
			tables[body[0]] = flags
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read tables: %w", err)
	}
	return tables, nil
}

func cString(b []byte) string { return strings.TrimRight(string(b), "\x00") }

func (c nftChain) part() string {
	if !c.hooked {
		return fmt.Sprintf("%d chain %s", c.family, c.name)
	}
	return fmt.Sprintf("%d chain %s at hook %d, priority %d", c.family, c.name, c.hook, c.priority)
}

func (r nftRule) part() string { return fmt.Sprintf("%d rule in %s: %s", r.family, r.chain, r.comment) }

// nftWanted are the parts that there must be, each chain's rules in their order.
func nftWanted() []string {
	var out []string
	for _, c := range nftChains() {
		out = append(out, c.part())
	}
	for _, r := range nftRules() {
		out = append(out, r.part())
	}
	return orderParts(out)
}

// orderParts orders the parts, but leaves the rules of a chain in their order.
func orderParts(parts []string) []string {
	slices.SortStableFunc(parts, func(a, b string) int {
		before := func(s string) string { return strings.SplitN(s, ":", 2)[0] }
		return strings.Compare(before(a), before(b))
	})
	return parts
}

func (c *conn) nftParts() ([]string, error) {
	var parts []string
	start := 0
	reset := func() { parts = parts[:start] }
	err := c.dump(nftMessage(unix.NFT_MSG_GETCHAIN, 0, unix.AF_UNSPEC, nil), reset, func(_ uint16, body []byte) error {
		chain, ours, err := parseChain(body)
		if ours {
			parts = append(parts, chain.part())
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read chains: %w", err)
	}
	of := appendString(nil, unix.NFTA_RULE_TABLE, nftTable)
	for _, family := range []byte{nftInet, nftARP} {
		start = len(parts)
		err = c.dump(nftMessage(unix.NFT_MSG_GETRULE, 0, family, of), reset, func(_ uint16, body []byte) error {
			rule, ours, err := parseRule(body)
			if ours {
				parts = append(parts, rule.part())
			}
			return err
		})
		if err != nil && !errors.Is(err, unix.ENOENT) {
			return nil, fmt.Errorf("read rules: %w", err)
		}
	}
	return orderParts(parts), nil
}

func parseChain(body []byte) (c nftChain, ours bool, err error) {
	var table string
	var bad error
	err = nftAttributes(body, func(kind uint16, v []byte) {
		switch kind {
		case unix.NFTA_CHAIN_TABLE:
			table = cString(v)
		case unix.NFTA_CHAIN_NAME:
			c.name = cString(v)
		case unix.NFTA_CHAIN_HOOK:
			c.hooked = true
			bad = attributes(v, func(kind uint16, v []byte) {
				switch {
				case kind == unix.NFTA_HOOK_HOOKNUM && len(v) == 4:
					c.hook = binary.BigEndian.Uint32(v)
				case kind == unix.NFTA_HOOK_PRIORITY && len(v) == 4:
					c.priority = int32(binary.BigEndian.Uint32(v))
				}
			})
		}
	})
	if err := errors.Join(err, bad); err != nil {
		return c, false, err
	}
	c.family = body[0]
	return c, table == nftTable && (c.family == nftInet || c.family == nftARP), nil
}

func parseRule(body []byte) (r nftRule, ours bool, err error) {
	var table string
	err = nftAttributes(body, func(kind uint16, v []byte) {
		switch kind {
		case unix.NFTA_RULE_TABLE:
			table = cString(v)
		case unix.NFTA_RULE_CHAIN:
			r.chain = cString(v)
		case unix.NFTA_RULE_USERDATA:
			r.comment = parseUserdata(v)
		}
	})
	if err != nil {
		return r, false, err
	}
	r.family = body[0]
	return r, table == nftTable && (r.family == nftInet || r.family == nftARP), nil
}

// damage says what of the frame is not as it must be; empty if all is.
func (s nftState) damage() string {
	for _, family := range []byte{nftInet, nftARP} {
		switch flags, ok := s.tables[family]; {
		case !ok:
			return "a table is gone"
		case flags&unix.NFT_TABLE_F_DORMANT != 0:
			return "a table is dormant"
		}
	}
	if s.missing != "" {
		return "set " + s.missing + " is gone"
	}
	if !slices.Equal(s.parts, nftWanted()) {
		return "chains or rules differ"
	}
	return ""
}

// address returns the address to which an element belongs.
func (e placed) address() (netip.Addr, bool) {
	if len(e.key) == 8 { // twice the same
		return netip.AddrFromSlice([]byte(e.key[:4]))
	}
	return netip.AddrFromSlice([]byte(e.key))
}

// byAddress returns the elements that belong to addresses.
func (s nftState) byAddress(sets []nftSet) map[netip.Addr][]placed {
	out := map[netip.Addr][]placed{}
	for i, list := range s.elements {
		for _, e := range list {
			p := placed{i, e}
			if a, ok := p.address(); ok && !sets[i].timed {
				out[a] = append(out[a], p)
			}
		}
	}
	return out
}

// place returns the elements of an address.
func (f *NFTFence) place(p vip.Pass) []placed {
	slot := f.number(p.Session)
	also := slot
	if p.Also != 0 {
		also = f.number(p.Also)
	}
	key := string(p.Address.AsSlice())
	var out []placed
	for i, set := range f.sets {
		e := nftElement{key: key}
		switch {
		case set.timed, int(set.keyLen) != len(key)*(1+twice(set)):
			continue
		case twice(set) == 1:
			e.key += key
		case strings.HasPrefix(set.name, "also"):
			e.data = slotKey(also)
		case set.isMap:
			e.data, e.comment = slotKey(slot), passComment(p)
		}
		out = append(out, placed{i, e})
	}
	return out
}

// number returns a session's slot, 0 if it has none.
func (f *NFTFence) number(session uint64) uint32 {
	if s := f.slots[session]; s != nil {
		return s.number
	}
	return 0
}

// twice is 1 for the set that holds each address twice.
func twice(s nftSet) int {
	if s.name == "same" {
		return 1
	}
	return 0
}

// The comments of elements.
const (
	passFormat    = "epoch %d session %d also %d"
	sessionFormat = "session %d"
)

// passComment is how the kernel remembers a pass, for the next process and for
// everybody who lists the rules.
func passComment(p vip.Pass) string {
	if p.Session == 0 {
		return "closed"
	}
	return fmt.Sprintf(passFormat, p.Epoch, p.Session, p.Also)
}

// table translates what the kernel holds.
func (s nftState) table(sets []nftSet) FenceTable {
	now := Boottime()
	sessions := map[uint64]FenceSession{}
	note := func(session uint64, key string, deadline lease.Time) {
		if number, ok := keySlot(key); ok && number != 0 && session != 0 {
			sessions[session] = FenceSession{Session: session, Slot: int(number), Deadline: deadline}
		}
	}
	out := FenceTable{Kind: "nft"}
	elements := s.byAddress(sets)
	for _, a := range slices.SortedFunc(maps.Keys(elements), netip.Addr.Compare) {
		if shown, slot, also, ok := showAddress(sets, elements[a]); ok {
			shown.Address = a
			out.Addresses = append(out.Addresses, shown)
			note(shown.Session, slot, 0)
			note(shown.Also, also, 0)
		}
	}
	for i, list := range s.elements {
		if !sets[i].timed || sets[i].family != nftInet {
			continue
		}
		for _, e := range list {
			var session uint64
			if n, _ := fmt.Sscanf(e.comment, sessionFormat, &session); n == 1 {
				note(session, e.key, now.Add(e.left))
			}
		}
	}
	for _, session := range slices.Sorted(maps.Keys(sessions)) {
		out.Sessions = append(out.Sessions, sessions[session])
	}
	return out
}

// showAddress translates the elements of an address; slot and also are raw. Not
// ok: it is not guarded.
func showAddress(sets []nftSet, list []placed) (a FenceAddress, slot, also string, ok bool) {
	for _, e := range list {
		set := sets[e.set]
		switch name := strings.TrimRight(set.name, "46"); {
		case name == "slot" && set.family == nftInet:
			n, _ := fmt.Sscanf(e.comment, passFormat, &a.Epoch, &a.Session, &a.Also)
			a.Open, slot, ok = n == 3, e.data, true
		case name == "also" && set.family == nftInet:
			also = e.data
		case name == "refused_in":
			a.RefusedIn += e.packets
		case name == "refused_out":
			a.RefusedOut += e.packets
		}
	}
	return a, slot, also, ok
}

func keySlot(key string) (uint32, bool) {
	if len(key) != 4 {
		return 0, false
	}
	return binary.BigEndian.Uint32([]byte(key)), true
}
