package linux

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"golang.org/x/sys/unix"
)

// The fence is two programs, one for each direction of an interface, that the
// kernel runs for every packet:
//
//	ingress   IPv4, IPv6   the destination
//	          ARP          what a request asks for, unless it asks for its sender
//	          ND           the target of a neighbour solicitation
//	egress    IPv4, IPv6   the source
//	          ARP          the sender, whatever the operation
//	          ND           the target of a neighbour advertisement
//	          VRRP         each address of an advertisement
//
// An address found there that is guarded passes only while its deadlines lie
// ahead. On ingress just that is refused which would make this host answer:
// other hosts' gratuitous ARP, neighbour and VRRP advertisements get through, so
// that this host learns who has the address now. What is too short to say
// anything passes: nobody can take it for a claim.
//
// A claim that is cut to pieces cannot be read here. On egress the first
// fragment of such a packet is refused, whatever the address: neighbour
// advertisements must not be fragmented (RFC 6980), nor may the chain of
// headers (RFC 7112), and no VRRP router fragments advertisements. Without its
// first fragment a packet is nothing.
//
// Registers, all kept over calls: R6 the packet, R7 the offset of the header in
// hand, R8 what is at hand, R9 whether it is in a first fragment of several, then
// a loop's counter.

// Addresses of the stack, from the frame pointer.
const (
	keyAt      = -16 // 16 bytes: an address as the maps have it
	indexAt    = -20 // 4 bytes: index of a slot
	wordAt     = -32 // 8 bytes: what was last read from the packet
	sizeAt     = -40 // 8 bytes: of an address in a VRRP advertisement
	sessionAt  = -48 // 8 bytes: the session that a slot must have
	firstAt    = -56 // 8 bytes: the first session while the second is looked at
	deadlineAt = -64 // 8 bytes
)

// Verdicts. They mean the same to TCX and to a classifier of clsact in
// direct-action mode.
const (
	verdictNext = -1 // let later programs decide
	verdictDrop = 2
)

// A VIP's entry in the map of addresses: see encodeEntry.
const (
	entrySlot        = 0
	entryAlso        = 4
	entryEpoch       = 8
	entrySession     = 16
	entryAlsoSession = 24
	entryUntil       = 32
	entrySize        = 40
)

// A slot: see slots.
const (
	slotDeadline = 0
	slotSession  = 8
	slotSize     = 16
)

// extensionHeaders bounds how many IPv6 extension headers are looked behind: as
// many as RFC 8200 knows, each once and one twice. What has more does not leave.
// vrrpAddresses bounds how many addresses of an advertisement are looked at, as
// many as it can have, and vlanTags how many tags are looked behind.
const (
	extensionHeaders = 8
	vrrpAddresses    = 255
	vlanTags         = 4
)

const (
	nextHeaderVRRP = 112
	nextHeaderAH   = 51
	etherIPv4      = 0x0800
	etherVLAN      = 0x8100
	etherQinQ      = 0x88a8
)

// direction is one of the two programs.
type direction struct {
	name   string
	attach ebpf.AttachType
	out    bool
}

// directions returns both.
func directions() [2]direction {
	return [2]direction{{"in", ebpf.AttachTCXIngress, false}, {"out", ebpf.AttachTCXEgress, true}}
}

// framing is where a packet's network header begins.
type framing uint8

const (
	// ethernet: the frame's own type field counts and not what the kernel
	// believes, which a raw socket can set to anything.
	ethernet framing = iota
	// bare: an interface without a link-layer header, such as a tunnel.
	bare
)

func (f framing) String() string {
	if f == ethernet {
		return "ethernet"
	}
	return "bare"
}

// writer assembles one program.
type writer struct {
	out    bool
	framed framing
	maps   mapFDs
	code   asm.Instructions
	labels int    // made by fresh
	symbol string // of the next instruction
}

// mapFDs are the descriptors of the maps that a program uses.
type mapFDs struct{ addresses, slots, refused int }

// fenceProgram returns the program for one direction and framing.
func fenceProgram(d direction, f framing, m mapFDs) *ebpf.ProgramSpec {
	w := &writer{out: d.out, framed: f, maps: m}
	w.program()
	return &ebpf.ProgramSpec{
		Name: "holdfast_" + d.name, Type: ebpf.SchedCLS, License: "GPL", Instructions: w.code,
	}
}

func (w *writer) add(list ...asm.Instruction) {
	if w.symbol != "" {
		list[0], w.symbol = list[0].WithSymbol(w.symbol), ""
	}
	w.code = append(w.code, list...)
}

// label makes the next instruction the target of jumps to name.
func (w *writer) label(name string) { w.symbol = name }

func (w *writer) fresh(what string) string {
	w.labels++
	return fmt.Sprintf("%s_%d", what, w.labels)
}

// load copies bytes of the packet, from R7 on, onto the stack; what does not
// reach that far passes.
func (w *writer) load(offset, at, size int32) { w.loadOr(offset, at, size, "pass") }

// loadOr goes on at a label if the packet does not reach that far.
func (w *writer) loadOr(offset, at, size int32, short string) {
	w.add(
		asm.Mov.Reg(asm.R1, asm.R6),
		asm.Mov.Reg(asm.R2, asm.R7),
		asm.Add.Imm(asm.R2, offset),
		asm.Mov.Reg(asm.R3, asm.RFP),
		asm.Add.Imm(asm.R3, at),
		asm.Mov.Imm(asm.R4, size),
	)
	if w.framed == ethernet {
		w.add(asm.FnSkbLoadBytes.Call())
	} else {
		const fromNetworkHeader = 1 // BPF_HDR_START_NET
		w.add(asm.Mov.Imm(asm.R5, fromNetworkHeader), asm.FnSkbLoadBytesRelative.Call())
	}
	w.add(asm.JNE.Imm(asm.R0, 0, short))
}

func (w *writer) program() {
	w.add(asm.Mov.Reg(asm.R6, asm.R1))
	w.protocol()
	w.add(
		asm.JEq.Imm(asm.R8, etherIPv4, "ipv4"),
		asm.JEq.Imm(asm.R8, int32(etherIPv6), "ipv6"),
		asm.JNE.Imm(asm.R8, etherARP, "pass"),
	)
	w.arp()
	w.label("ipv4")
	w.ipv4()
	w.label("ipv6")
	w.ipv6()
	if w.out {
		w.label("vrrp")
		w.vrrp()
	}
	w.end()
}

// protocol puts the network protocol into R8 and the offset of its header into
// R7, behind its VLAN tags.
func (w *writer) protocol() {
	if w.framed == bare {
		w.bareProtocol()
		return
	}
	w.add(asm.Mov.Imm(asm.R7, 12))
	for range vlanTags + 1 {
		w.load(0, wordAt, 2)
		w.add(
			asm.LoadMem(asm.R8, asm.RFP, wordAt, asm.Half),
			asm.HostTo(asm.BE, asm.R8, asm.Half),
		)
		tagged := w.fresh("tagged")
		w.add(
			asm.JEq.Imm(asm.R8, etherVLAN, tagged),
			asm.JEq.Imm(asm.R8, etherQinQ, tagged),
			asm.Add.Imm(asm.R7, 2),
			asm.Ja.Label("network"),
		)
		w.label(tagged)
		w.add(asm.Add.Imm(asm.R7, 4))
	}
	w.add(asm.Ja.Label("pass"))
	w.label("network")
}

// bareProtocol goes by the version in the packet, as whoever reads the packets
// of a tunnel does. The protocol that the kernel has noted is what its sender
// said, and a raw socket can say anything.
func (w *writer) bareProtocol() {
	const skbProtocol = 16 // of struct __sk_buff, in network order
	w.add(asm.Mov.Imm(asm.R7, 0))
	w.load(0, wordAt, 1)
	w.add(
		asm.LoadMem(asm.R1, asm.RFP, wordAt, asm.Byte),
		asm.RSh.Imm(asm.R1, 4),
		asm.Mov.Imm(asm.R8, etherIPv4),
		asm.JEq.Imm(asm.R1, 4, "network"),
		asm.Mov.Imm(asm.R8, int32(etherIPv6)),
		asm.JEq.Imm(asm.R1, 6, "network"),
		asm.LoadMem(asm.R8, asm.R6, skbProtocol, asm.Word),
		asm.HostTo(asm.BE, asm.R8, asm.Half),
		asm.JNE.Imm(asm.R8, etherARP, "pass"),
	)
	w.label("network")
}

// arp looks at the sender of what leaves, and at what others ask for. Hardware
// addresses may have any length: on InfiniBand they are longer.
func (w *writer) arp() {
	w.load(4, wordAt, 4) // length of hardware addresses, of protocol addresses, operation
	w.add(
		asm.LoadMem(asm.R8, asm.RFP, wordAt+1, asm.Byte),
		asm.JNE.Imm(asm.R8, 4, "pass"),
		asm.LoadMem(asm.R9, asm.RFP, wordAt, asm.Byte),
		asm.Add.Reg(asm.R7, asm.R9),
	)
	if w.out {
		w.keyIPv4(8)
		w.check()
		w.add(asm.Ja.Label("pass"))
		return
	}
	w.add(
		asm.LoadMem(asm.R8, asm.RFP, wordAt+2, asm.Half),
		asm.HostTo(asm.BE, asm.R8, asm.Half),
		asm.JNE.Imm(asm.R8, int32(arpRequest), "pass"),
	)
	w.load(8, wordAt, 4)
	w.add(asm.Add.Reg(asm.R7, asm.R9))
	w.keyIPv4(12)
	w.add(
		asm.LoadMem(asm.R1, asm.RFP, wordAt, asm.Word),
		asm.LoadMem(asm.R2, asm.RFP, keyAt+12, asm.Word),
		asm.JEq.Reg(asm.R1, asm.R2, "pass"), // gratuitous
	)
	w.check()
	w.add(asm.Ja.Label("pass"))
}

func (w *writer) ipv4() {
	const source, destination = 12, 16
	if !w.out {
		w.keyIPv4(destination)
		w.check()
		w.add(asm.Ja.Label("pass"))
		return
	}
	w.keyIPv4(source)
	w.check()
	w.load(6, wordAt, 4) // fragment, time to live, protocol
	w.add(
		asm.LoadMem(asm.R8, asm.RFP, wordAt+3, asm.Byte),
		asm.LoadMem(asm.R9, asm.RFP, wordAt, asm.Half),
		asm.HostTo(asm.BE, asm.R9, asm.Half),
		asm.And.Imm(asm.R9, 0x3fff), // offset, and whether more follow
	)
	w.load(0, wordAt, 1)
	w.add(
		asm.LoadMem(asm.R1, asm.RFP, wordAt, asm.Byte),
		asm.And.Imm(asm.R1, 15),
		asm.LSh.Imm(asm.R1, 2), // header length in words
		asm.Add.Reg(asm.R7, asm.R1),
		asm.Mov.Imm(asm.R1, 4),
		asm.StoreMem(asm.RFP, sizeAt, asm.R1, asm.DWord),
		asm.JEq.Imm(asm.R8, nextHeaderVRRP, "vrrp"),
		asm.JNE.Imm(asm.R8, nextHeaderAH, "pass"),
	)
	w.authentication("pass")
	w.add(
		asm.JNE.Imm(asm.R8, nextHeaderVRRP, "pass"),
		asm.Ja.Label("vrrp"),
	)
}

// authentication steps over an authentication header at R7.
func (w *writer) authentication(short string) {
	w.loadOr(0, wordAt, 2, short)
	w.add(
		asm.LoadMem(asm.R8, asm.RFP, wordAt, asm.Byte),
		asm.LoadMem(asm.R1, asm.RFP, wordAt+1, asm.Byte),
		asm.Add.Imm(asm.R1, 2),
		asm.LSh.Imm(asm.R1, 2),
		asm.Add.Reg(asm.R7, asm.R1),
	)
}

// vrrp looks at each address of the advertisement at R7, whose size is at
// sizeAt. RFC 3768 and RFC 9568 have the number of addresses in the fourth
// byte, and the addresses from the ninth on.
func (w *writer) vrrp() {
	w.add(asm.JNE.Imm(asm.R9, 0, "drop")) // in pieces
	w.load(3, wordAt, 1)
	w.add(
		asm.LoadMem(asm.R1, asm.RFP, wordAt, asm.Byte),
		asm.StoreMem(asm.RFP, wordAt, asm.R1, asm.DWord),
		asm.Add.Imm(asm.R7, 8),
		asm.Mov.Imm(asm.R9, 0),
	)
	w.label("vrrp_next")
	w.add(
		asm.LoadMem(asm.R1, asm.RFP, wordAt, asm.DWord),
		asm.JGE.Reg(asm.R9, asm.R1, "pass"),
		asm.JGE.Imm(asm.R9, vrrpAddresses, "pass"),
		asm.LoadMem(asm.R1, asm.RFP, sizeAt, asm.DWord),
		asm.JEq.Imm(asm.R1, 4, "vrrp_ipv4"),
	)
	w.load(0, keyAt, 16)
	w.add(asm.Ja.Label("vrrp_check"))
	w.label("vrrp_ipv4")
	w.keyIPv4(0)
	w.label("vrrp_check")
	w.check()
	w.add(
		asm.LoadMem(asm.R1, asm.RFP, sizeAt, asm.DWord),
		asm.Add.Reg(asm.R7, asm.R1),
		asm.Add.Imm(asm.R9, 1),
		asm.Ja.Label("vrrp_next"),
	)
}

// keyIPv4 makes the key of the IPv4 address at an offset of the packet: ten zero
// bytes, ff ff, the address.
func (w *writer) keyIPv4(offset int32) {
	w.add(
		asm.StoreImm(asm.RFP, keyAt, 0, asm.Word),
		asm.StoreImm(asm.RFP, keyAt+4, 0, asm.Word),
		asm.StoreImm(asm.RFP, keyAt+8, 0, asm.Half),
		asm.StoreImm(asm.RFP, keyAt+10, 0xffff, asm.Half),
	)
	w.load(offset, keyAt+12, 4)
}

// check drops the packet if the address at keyAt is guarded and not open, and
// goes on otherwise.
func (w *writer) check() {
	next := w.fresh("next")
	w.lookup(w.maps.addresses, keyAt)
	w.add(asm.JEq.Imm(asm.R0, 0, next), asm.Mov.Reg(asm.R8, asm.R0))
	w.lingers(next)
	w.add(
		asm.LoadMem(asm.R1, asm.R8, entryAlso, asm.Word),
		asm.StoreMem(asm.RFP, indexAt, asm.R1, asm.Word),
		asm.LoadMem(asm.R1, asm.R8, entryAlsoSession, asm.DWord),
		asm.StoreMem(asm.RFP, sessionAt, asm.R1, asm.DWord),
		asm.LoadMem(asm.R1, asm.R8, entrySession, asm.DWord),
		asm.LoadMem(asm.R8, asm.R8, entrySlot, asm.Word),
	)
	// The session of the slot first, then the one that must hold as well:
	// agent rules 4 and 7. Each slot must be that session's: one that was given
	// to another session since opens nothing.
	w.add(asm.StoreMem(asm.RFP, firstAt, asm.R1, asm.DWord))
	w.slot()
	w.add(asm.StoreMem(asm.RFP, indexAt, asm.R8, asm.Word))
	w.add(
		asm.LoadMem(asm.R1, asm.RFP, firstAt, asm.DWord),
		asm.StoreMem(asm.RFP, sessionAt, asm.R1, asm.DWord),
	)
	w.slot()
	w.label(next)
}

// lingers goes to next if the guard of the entry in R8 has ended by itself.
func (w *writer) lingers(next string) {
	guarded := w.fresh("guarded")
	w.add(
		asm.LoadMem(asm.R1, asm.R8, entryUntil, asm.DWord),
		asm.JEq.Imm(asm.R1, 0, guarded),
		asm.StoreMem(asm.RFP, deadlineAt, asm.R1, asm.DWord),
		asm.FnKtimeGetBootNs.Call(),
		asm.LoadMem(asm.R1, asm.RFP, deadlineAt, asm.DWord),
		asm.JGE.Reg(asm.R0, asm.R1, next),
	)
	w.label(guarded)
}

// slot drops the packet unless the slot with the index at indexAt belongs to the
// session at sessionAt and has its deadline ahead.
func (w *writer) slot() {
	w.lookup(w.maps.slots, indexAt)
	w.add(
		asm.JEq.Imm(asm.R0, 0, "drop"),
		asm.LoadMem(asm.R1, asm.R0, slotSession, asm.DWord),
		asm.LoadMem(asm.R2, asm.RFP, sessionAt, asm.DWord),
		asm.JNE.Reg(asm.R1, asm.R2, "drop"),
		asm.LoadMem(asm.R1, asm.R0, slotDeadline, asm.DWord),
		asm.StoreMem(asm.RFP, deadlineAt, asm.R1, asm.DWord),
		asm.FnKtimeGetBootNs.Call(),
		asm.LoadMem(asm.R1, asm.RFP, deadlineAt, asm.DWord),
		asm.JGE.Reg(asm.R0, asm.R1, "drop"),
	)
}

// lookup puts the address of the value into R0, or zero.
func (w *writer) lookup(m int, at int32) {
	w.add(
		asm.LoadMapPtr(asm.R1, m),
		asm.Mov.Reg(asm.R2, asm.RFP),
		asm.Add.Imm(asm.R2, at),
		asm.FnMapLookupElem.Call(),
	)
}

// end has the two ways out. What is dropped is counted for the address at
// keyAt.
func (w *writer) end() {
	counter := int16(refusedIn)
	if w.out {
		counter = refusedOut
	}
	w.label("drop")
	w.lookup(w.maps.refused, keyAt)
	w.add(
		asm.JEq.Imm(asm.R0, 0, "dropped"),
		asm.Mov.Imm(asm.R1, 1),
		asm.AddAtomic.Mem(asm.R0, asm.R1, asm.DWord, counter),
		asm.Mov.Imm(asm.R0, verdictDrop).WithSymbol("dropped"),
		asm.Return(),
		asm.Mov.Imm(asm.R0, verdictNext).WithSymbol("pass"),
		asm.Return(),
	)
}

// programName names a program by what it does to the last instruction, so that a
// process can tell whether the one that is pinned is its own.
func programName(d direction, f framing) (string, error) {
	var b bytes.Buffer
	if err := fenceProgram(d, f, mapFDs{1, 2, 3}).Instructions.Marshal(&b, binary.LittleEndian); err != nil {
		return "", fmt.Errorf("name program: %w", err)
	}
	sum := sha256.Sum256(b.Bytes())
	return fmt.Sprintf("program-%s-%s-%x", f, d.name, sum[:8]), nil
}

// clockProgram returns a program that writes the clock which the fence compares
// with into the first eight bytes of the packet.
func clockProgram() *ebpf.ProgramSpec {
	return &ebpf.ProgramSpec{
		Name: "holdfast_clock", Type: ebpf.SchedCLS, License: "GPL",
		Instructions: asm.Instructions{
			asm.Mov.Reg(asm.R6, asm.R1),
			asm.FnKtimeGetBootNs.Call(),
			asm.StoreMem(asm.RFP, -8, asm.R0, asm.DWord),
			asm.Mov.Reg(asm.R1, asm.R6),
			asm.Mov.Imm(asm.R2, 0),
			asm.Mov.Reg(asm.R3, asm.RFP),
			asm.Add.Imm(asm.R3, -8),
			asm.Mov.Imm(asm.R4, 8),
			asm.Mov.Imm(asm.R5, 0),
			asm.FnSkbStoreBytes.Call(),
			asm.Mov.Imm(asm.R0, 0),
			asm.Return(),
		},
	}
}

// framingOf tells how the packets of an interface are framed.
func framingOf(hardware uint16) framing {
	if hardware == unix.ARPHRD_ETHER {
		return ethernet
	}
	return bare
}
