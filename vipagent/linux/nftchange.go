package linux

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"holdfast/vipagent/vip"
)

// change makes passes wanted, and forgets addresses. If the kernel refuses,
// because it does not hold what we believe, what it holds is read and repaired.
// f.mu is held.
func (f *NFTFence) change(what string, passes []vip.Pass, forget []netip.Addr) error {
	if f.closed {
		return errNFTClosed
	}
	had := map[netip.Addr][]placed{}
	note := func(a netip.Addr) {
		if p, ok := f.passes[a]; ok && had[a] == nil {
			had[a] = f.place(p)
		}
	}
	var changed []netip.Addr
	for _, p := range passes {
		p.Address = plain(p.Address)
		if !p.Address.IsValid() {
			return fmt.Errorf("%s: not an address", what)
		}
		if before, ok := f.passes[p.Address]; ok && before == p {
			continue
		}
		note(p.Address)
		f.passes[p.Address] = p
		changed = append(changed, p.Address)
	}
	for _, a := range forget {
		a = plain(a)
		note(a)
		delete(f.passes, a)
		changed = append(changed, a)
	}
	if f.replace(changed, had) == nil {
		return nil
	}
	why, err := f.check()
	if why != "" {
		f.noted = why
	}
	if err != nil {
		return fmt.Errorf("%s %d addresses: %w", what, len(changed), err)
	}
	return nil
}

func plain(a netip.Addr) netip.Addr { return a.Unmap().WithZone("") }

// replace brings the elements of the addresses from what the kernel had to what
// is wanted.
func (f *NFTFence) replace(addresses []netip.Addr, had map[netip.Addr][]placed) error {
	slices.SortFunc(addresses, netip.Addr.Compare)
	addresses = slices.Compact(addresses)
	for chunk := range slices.Chunk(addresses, addressesPerTransaction) {
		dels, adds := make([][]nftElement, len(f.sets)), make([][]nftElement, len(f.sets))
		for _, a := range chunk {
			before, after := had[a], f.wanted(a)
			for _, e := range missingFrom(after, before) {
				dels[e.set] = append(dels[e.set], nftElement{key: e.key})
			}
			for _, e := range missingFrom(before, after) {
				adds[e.set] = append(adds[e.set], e.nftElement)
			}
		}
		var msgs []message
		for i, set := range f.sets {
			msgs = append(msgs, set.elements(unix.NFT_MSG_DELSETELEM, dels[i])...)
			msgs = append(msgs, set.elements(unix.NFT_MSG_NEWSETELEM, adds[i])...)
		}
		if len(msgs) == 0 {
			continue
		}
		if err := f.conn.transact(msgs); err != nil {
			return err
		}
	}
	return nil
}

func (f *NFTFence) wanted(a netip.Addr) []placed {
	if p, ok := f.passes[a]; ok {
		return f.place(p)
	}
	return nil
}

// missingFrom returns the elements of list that have is without.
func missingFrom(have, list []placed) []placed {
	var out []placed
	for _, e := range list {
		if !slices.ContainsFunc(have, func(h placed) bool {
			return h.set == e.set && h.key == e.key && h.data == e.data && h.comment == e.comment
		}) {
			out = append(out, e)
		}
	}
	return out
}

// check makes the kernel hold what is wanted and says what was wrong, empty if
// nothing was. f.mu is held.
func (f *NFTFence) check() (why string, err error) {
	state, err := f.conn.readNFT(f.sets)
	if err != nil {
		return "", err
	}
	if why = state.damage(); why != "" {
		if err := f.rebuild(state.tables); err != nil {
			return "", fmt.Errorf("%s: rebuild: %w", why, err)
		}
		state.elements = make([][]nftElement, len(f.sets))
	}
	had := state.byAddress(f.sets)
	var wrong []netip.Addr
	for a := range had {
		if _, ok := f.passes[a]; !ok {
			wrong = append(wrong, a)
		}
	}
	for a := range f.passes {
		if want := f.wanted(a); len(missingFrom(had[a], want)) > 0 || len(missingFrom(want, had[a])) > 0 {
			wrong = append(wrong, a)
		}
	}
	if len(wrong) > 0 {
		if why == "" {
			why = fmt.Sprintf("%d addresses were not guarded as they must be", len(wrong))
		}
		if err := f.replace(wrong, had); err != nil {
			return "", fmt.Errorf("%s: %w", why, err)
		}
	}
	return f.restore(state, why)
}

// rebuild makes the tables anew, without elements.
func (f *NFTFence) rebuild(tables map[byte]uint32) error {
	skeleton, err := nftSkeleton(f.flags)
	if err != nil {
		return err
	}
	return f.conn.transact(append(deleteTables(tables), skeleton...))
}

func deleteTables(tables map[byte]uint32) []message {
	var out []message
	for _, family := range slices.Sorted(maps.Keys(tables)) {
		out = append(out, tableMessage(unix.NFT_MSG_DELTABLE, 0, family, 0))
	}
	return out
}

// restore writes the deadlines that lie ahead and are not in the kernel.
func (f *NFTFence) restore(state nftState, why string) (string, error) {
	there := map[string]int{}
	timed := 0
	for i, set := range f.sets {
		if set.timed {
			timed++
			for _, e := range state.elements[i] {
				there[e.key]++
			}
		}
	}
	for _, session := range slices.Sorted(maps.Keys(f.slots)) {
		s := f.slots[session]
		if there[slotKey(s.number)] == timed && s.failure() == nil {
			continue
		}
		if err := s.restore(); err != nil {
			return why, fmt.Errorf("restore the deadline of session %d: %w", session, err)
		}
	}
	return why, nil
}
