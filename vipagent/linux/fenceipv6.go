package linux

import "github.com/cilium/ebpf/asm"

// ipv6 looks at an IPv6 packet, and at what is behind its extension headers.
func (w *writer) ipv6() {
	const source, destination = 8, 24
	at := int32(destination)
	if w.out {
		at = source
	}
	w.load(at, keyAt, 16)
	w.check()
	w.load(6, wordAt, 1)
	w.add(
		asm.LoadMem(asm.R8, asm.RFP, wordAt, asm.Byte),
		asm.Add.Imm(asm.R7, 40),
		asm.Mov.Imm(asm.R9, 0),
		asm.Mov.Imm(asm.R1, 16),
		asm.StoreMem(asm.RFP, sizeAt, asm.R1, asm.DWord),
	)
	for range extensionHeaders + 1 {
		w.beyond()
	}
	kind, cut := int32(solicitation), "pass"
	if w.out {
		kind, cut = int32(advertisement), "cut"
		w.add(asm.Ja.Label("drop"))
		w.label("cut")
		w.add(asm.JNE.Imm(asm.R9, 0, "drop"))
	}
	w.add(asm.Ja.Label("pass"))

	w.label("icmp")
	w.loadOr(0, wordAt, 1, cut)
	w.add(
		asm.LoadMem(asm.R1, asm.RFP, wordAt, asm.Byte),
		asm.JNE.Imm(asm.R1, kind, "pass"),
	)
	if w.out {
		w.add(asm.JNE.Imm(asm.R9, 0, "drop"))
	}
	w.load(8, keyAt, 16)
	w.check()
	w.add(asm.Ja.Label("pass"))
}

// beyond goes on to what the next header in R8 is, which begins at R7, and
// steps over it if it is an extension header.
func (w *writer) beyond() {
	const hopByHop, routing, fragment, destinationOptions = 0, 43, 44, 60
	step, authenticated, fragmented, done := w.fresh("step"), w.fresh("authenticated"), w.fresh("fragmented"), w.fresh("done")
	w.add(asm.JEq.Imm(asm.R8, int32(nextHeaderICMPv6), "icmp"))
	cut := "pass"
	if w.out {
		cut = "cut"
		w.add(asm.JEq.Imm(asm.R8, nextHeaderVRRP, "vrrp"))
	}
	w.add(
		asm.JEq.Imm(asm.R8, hopByHop, step),
		asm.JEq.Imm(asm.R8, routing, step),
		asm.JEq.Imm(asm.R8, destinationOptions, step),
		asm.JEq.Imm(asm.R8, nextHeaderAH, authenticated),
		asm.JEq.Imm(asm.R8, fragment, fragmented),
		asm.Ja.Label("pass"),
	)
	w.label(step)
	w.loadOr(0, wordAt, 2, cut)
	w.add(
		asm.LoadMem(asm.R8, asm.RFP, wordAt, asm.Byte),
		asm.LoadMem(asm.R1, asm.RFP, wordAt+1, asm.Byte),
		asm.Add.Imm(asm.R1, 1),
		asm.LSh.Imm(asm.R1, 3),
		asm.Add.Reg(asm.R7, asm.R1),
		asm.Ja.Label(done),
	)
	w.label(authenticated)
	w.authentication(cut)
	w.add(asm.Ja.Label(done))
	w.label(fragmented)
	w.load(0, wordAt, 4)
	w.add(
		asm.LoadMem(asm.R8, asm.RFP, wordAt, asm.Byte),
		asm.LoadMem(asm.R1, asm.RFP, wordAt+2, asm.Half),
		asm.HostTo(asm.BE, asm.R1, asm.Half),
		asm.Mov.Reg(asm.R9, asm.R1),
		asm.And.Imm(asm.R1, 0xfff8),
		asm.JNE.Imm(asm.R1, 0, "pass"), // not the first: no headers in there
		asm.And.Imm(asm.R9, 1),         // whether more follow
		asm.Add.Imm(asm.R7, 8),
	)
	w.label(done)
}
