package linux

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/vipagent/fault"
	"holdfast/vipagent/vip"
)

// Add brings the VIPs up with the given lifetime, rounded up to whole seconds.
// One that is already up as ours only gets the lifetime; one that another
// program holds is a [ConflictError], and its address is not touched. Whatever
// failed is in a [BatchError]; all else was added.
func (k *Kernel) Add(addresses []vip.Address, lifetime time.Duration) error {
	return k.raise("add", addresses, lifetime)
}

// Refresh gives VIPs that are up a new lifetime, rounded up to whole seconds.
// It brings none up: one that is not there is an [ErrNotUp]. The error is a
// [BatchError].
func (k *Kernel) Refresh(addresses []vip.Address, lifetime time.Duration) error {
	return k.raise("refresh", addresses, lifetime)
}

func (k *Kernel) raise(verb string, addresses []vip.Address, lifetime time.Duration) error {
	if len(addresses) == 0 {
		return nil
	}
	seconds, err := wholeSeconds(lifetime)
	if err != nil {
		return fmt.Errorf("%s addresses: %w", verb, err)
	}
	k.change.Lock()
	defer k.change.Unlock()
	records, err := dumpAddresses(k.writes)
	if err != nil {
		return fmt.Errorf("%s addresses: %w", verb, err)
	}
	there := byIP(records)
	failed := failures{verb: verb}
	indexes := k.resolve(addresses)
	var v4, v6 []request
	for _, a := range addresses {
		p, flags, err := decide(a, verb, indexes, there)
		switch {
		case err != nil:
			failed.add(a, k.named(err))
		case p.ip.Is4():
			v4 = append(v4, request{a, encodeAdd(p, k.mark, seconds, flags)})
		default:
			v6 = append(v6, request{a, encodeAdd(p, k.mark, seconds, flags)})
		}
		// The same address twice in one call is one address.
		there[p.ip] = append(there[p.ip], record{index: p.index, ip: p.ip, bits: p.ip.BitLen(), protocol: Protocol})
	}
	if verb == "refresh" {
		fault.Point(fault.Refresh)
	} else {
		fault.Point(fault.Add)
	}
	// IPv6 one by one: the kernel takes several times as long for a batch.
	k.execute(v4, batchSize, &failed)
	k.execute(v6, 1, &failed)
	if err := k.checkMark(v4, v6, &failed); err != nil {
		return err
	}
	return failed.err()
}

// request is a message about one address.
type request struct {
	address vip.Address
	message message
}

// execute sends the requests and notes those that failed.
func (k *Kernel) execute(requests []request, per int, failed *failures) {
	msgs := make([]message, len(requests))
	for i, r := range requests {
		msgs[i] = r.message
	}
	for i, err := range k.writes.do(msgs, per) {
		if err != nil {
			failed.add(requests[i].address, explain(requests[i].address, err))
		}
	}
}

// decide finds out whether and how one VIP can be raised.
func decide(a vip.Address, verb string, indexes map[string]int, there map[netip.Addr][]record) (place, uint16, error) {
	index, ok := indexes[a.Interface]
	if !ok {
		return place{}, 0, fmt.Errorf("interface %s: %w", a.Interface, ErrNoInterface)
	}
	p := place{a.IP().Unmap().WithZone(""), index}
	up := false
	for _, r := range there[p.ip] {
		if onOtherLink(r, index) {
			continue
		}
		if !r.ours() {
			return p, 0, &ConflictError{VIP: p.ip, found: r}
		}
		up = up || r.index == index
	}
	switch {
	case up:
		return p, unix.NLM_F_REPLACE, nil
	case verb == "refresh":
		return p, 0, ErrNotUp
	}
	// EXCL: what appeared since the look above is not ours to replace.
	return p, unix.NLM_F_CREATE | unix.NLM_F_EXCL, nil
}

// onOtherLink reports whether the record has nothing to do with the same
// address on the interface: link-local addresses are unique on one link only.
func onOtherLink(r record, index int) bool {
	return r.ip.Is6() && r.ip.IsLinkLocalUnicast() && r.index != index
}

// checkMark reads back, once in the life of k, that the kernel keeps our mark;
// if it does not, what was added is taken away again.
func (k *Kernel) checkMark(v4, v6 []request, failed *failures) error {
	added := slices.DeleteFunc(slices.Concat(v4, v6), func(r request) bool { return failed.has(r.address) })
	if k.marking || len(added) == 0 {
		return nil
	}
	records, err := dumpAddresses(k.writes)
	if err != nil {
		return err
	}
	there := byIP(records)
	for _, r := range added {
		for _, rec := range there[r.address.IP().Unmap()] {
			if rec.ours() {
				k.marking = true
				return nil
			}
		}
	}
	var undo []message
	for _, r := range added {
		for _, rec := range there[r.address.IP().Unmap()] {
			if rec.protocol == 0 && rec.bits == rec.ip.BitLen() {
				undo = append(undo, encodeRemove(rec))
			}
		}
	}
	if len(undo) == 0 {
		return nil // somebody was quicker to remove them; the next call looks again
	}
	return errors.Join(append(k.writes.do(undo, batchSize), ErrNoMark)...)
}

// removeRounds bounds how often Remove takes away what has come back.
const removeRounds = 3

// Remove takes the VIPs down, on whatever interface they are, and returns nil
// only after it has read back that the host holds none of them any more. VIPs
// that are not there are fine. One that another program holds is a
// [ConflictError]: its address is left alone, but the host still answers for
// it. The error is a [BatchError].
func (k *Kernel) Remove(addresses []vip.Address) error {
	if len(addresses) == 0 {
		return nil
	}
	k.change.Lock()
	defer k.change.Unlock()
	indexes := k.resolve(addresses)
	var causes []error
	for round := 0; ; round++ {
		records, err := dumpAddresses(k.writes)
		if err != nil {
			return fmt.Errorf("remove addresses: %w", err)
		}
		there := byIP(records)
		failed := failures{verb: "remove"}
		var doomed []message
		for _, a := range addresses {
			for _, r := range there[a.IP().Unmap().WithZone("")] {
				switch {
				case onOtherLink(r, indexes[a.Interface]):
				case r.ours():
					doomed = append(doomed, encodeRemove(r))
					failed.add(a, stillThere(errors.Join(causes...)))
				default:
					failed.add(a, k.named(&ConflictError{VIP: r.ip, found: r}))
				}
			}
		}
		if len(doomed) == 0 || round == removeRounds {
			return failed.err()
		}
		fault.Point(fault.Remove)
		causes = k.writes.do(doomed, batchSize) // judged by what the next round reads
	}
}

// stillThere is the error for an address that its removal did not remove.
func stillThere(cause error) error {
	if cause == nil {
		return errors.New("it came back")
	}
	return fmt.Errorf("it is still there: %w", cause)
}

// resolve finds the indexes of the interfaces; missing ones are left out.
func (k *Kernel) resolve(addresses []vip.Address) map[string]int {
	out := make(map[string]int)
	tried := make(map[string]bool)
	for _, a := range addresses {
		if tried[a.Interface] {
			continue
		}
		tried[a.Interface] = true
		if link, err := k.links.LinkByName(a.Interface); err == nil {
			out[a.Interface] = link.Attrs().Index
		}
	}
	return out
}

// named gives a conflict the name of its interface.
func (k *Kernel) named(err error) error {
	var conflict *ConflictError
	if errors.As(err, &conflict) {
		conflict.Found = vip.Address{Prefix: conflict.found.prefix(), Interface: fmt.Sprintf("index %d", conflict.found.index)}
		if link, err := k.links.LinkByIndex(conflict.found.index); err == nil {
			conflict.Found.Interface = link.Attrs().Name
		}
	}
	return err
}

func byIP(records []record) map[netip.Addr][]record {
	out := make(map[netip.Addr][]record, len(records))
	for _, r := range records {
		out[r.ip] = append(out[r.ip], r)
	}
	return out
}

// wholeSeconds rounds a lifetime up to what the kernel counts in.
func wholeSeconds(d time.Duration) (uint32, error) {
	if d <= 0 {
		return 0, fmt.Errorf("lifetime %v is not positive", d)
	}
	seconds := int64(d / time.Second)
	if d%time.Second != 0 {
		seconds++
	}
	return uint32(min(seconds, foreverSeconds-1)), nil
}
