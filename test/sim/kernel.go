package sim

import (
	"net/netip"

	"holdfast/coordinator/lease"
	"holdfast/vipagent/vip"
)

const (
	maxAddresses = 6 // VIPs in play
	maxSlots     = 4 // sessions with a deadline in one kernel
)

// prefixes are the VIPs. An address is known by its place here.
var prefixes = func() (out [maxAddresses]netip.Prefix) {
	for i := range out {
		out[i] = netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(i + 1)}), 24)
	}
	return out
}()

// place is the inverse of prefixes.
func place(a netip.Addr) int { b := a.As4(); return int(b[3]) - 1 }

// kernel is what a host goes on doing whatever becomes of its processes: its
// addresses, and the fence that judges each packet by an absolute deadline. It is a
// value: copying it copies all.
type kernel struct {
	bare    bool // there is no fence: whatever is there answers
	shared  bool // fault: all sessions have one deadline
	present [maxAddresses]bool
	fence   [maxAddresses]pass
	slots   [maxSlots]slot
}

// pass is the fence's row of one address. Without guarded every packet passes.
type pass struct {
	guarded, open bool
	epoch         uint64
	session, also uint64
}

// slot is the deadline of one session.
type slot struct {
	session  uint64
	deadline lease.Time
}

// acts says whether the host answers for an address: it is there, and the fence lets
// packets pass.
func (k *kernel) acts(a int, now lease.Time) bool {
	p := &k.fence[a]
	if !k.present[a] {
		return false
	}
	if !p.guarded || k.bare {
		return true
	}
	return p.open && now < k.deadline(p.session) && (p.also == 0 || now < k.deadline(p.also))
}

func (k *kernel) deadline(session uint64) lease.Time {
	latest := lease.Time(0)
	for i := range k.slots {
		if k.slots[i].session == session && session != 0 && !k.shared {
			return k.slots[i].deadline
		}
		latest = max(latest, k.slots[i].deadline)
	}
	if k.shared {
		return latest
	}
	return 0
}

// slot makes room for a session's deadline.
func (k *kernel) slot(session uint64) {
	free := -1
	for i := range k.slots {
		switch k.slots[i].session {
		case session:
			return
		case 0:
			free = i
		}
	}
	k.slots[free] = slot{session: session}
}

// store is the renewal: one store. The deadline of a session without a slot is lost.
func (k *kernel) store(session uint64, deadline lease.Time) {
	for i := range k.slots {
		if k.slots[i].session == session {
			k.slots[i].deadline = deadline
		}
	}
}

// keep closes and frees the slots of all other sessions.
func (k *kernel) keep(sessions ...uint64) {
	for i := range k.slots {
		kept := false
		for _, id := range sessions {
			kept = kept || id == k.slots[i].session
		}
		if !kept {
			k.slots[i] = slot{}
		}
	}
}

// guard closes the fence for an address, forget takes it away, let opens it.
func (k *kernel) guard(a int)       { k.fence[a] = pass{guarded: true} }
func (k *kernel) forget(a int)      { k.fence[a] = pass{} }
func (k *kernel) let(a int, p pass) { p.guarded, p.open = true, true; k.fence[a] = p }

// addresses is what a reading of the kernel gives.
func (k *kernel) addresses() []vip.Actual {
	var out []vip.Actual
	for a, there := range k.present {
		if there {
			at := vip.Address{Prefix: prefixes[a], Interface: "eth0"}
			out = append(out, vip.Actual{Address: at.Host(), Ours: true, ValidLeft: 1 << 40})
		}
	}
	return out
}
