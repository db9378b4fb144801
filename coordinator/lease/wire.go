package lease

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"time"
)

// Both datagrams begin and end alike; numbers are big endian:
//
//	 0        2         3      4         12        20         28              36
//	+--------+---------+------+---------+---------+----------+---------------+ - - - +-----+
//	| "HF"   | version | kind | session | process | sequence | configuration | more  | MAC |
//	+--------+---------+------+---------+---------+----------+---------------+ - - - +-----+
//	    2         1       1        8         8         8            8                  16
//
// A renewal (kind 1) has one byte of flags more, of which 1 is "proven". A renewal of
// version 2 has a report of the kernel's fence behind it:
//
//	+-------+------+------------+-----------------+---------+
//	| flags | kind | interfaces | time left in ns | dropped |
//	+-------+------+------------+-----------------+---------+
//	    1      1         2         8, signed           8
//
// where the kind is not 0. An answer (kind 2, version 1) has
//
//	+-------+--------+-------------------+
//	| flags | length | coordinator       |
//	+-------+--------+-------------------+
//	    1        1       1 to 64 bytes
//
// where flag 1 is "fenced". All other flags are zero. The MAC is HMAC-SHA256 under the
// session's secret over all before it, cut to 16 bytes. The kind is under the MAC,
// so that no datagram passes for one of the other direction.
const (
	magic0, magic1 = 'H', 'F'
	version        = 1
	versionReport  = 2 // of a renewal with a report
	kindRenewal    = 1
	kindAnswer     = 2
	flagProven     = 1 // of a renewal
	flagFenced     = 1 // of an answer

	headerSize = 36
	reportSize = 1 + 2 + 8 + 8
	macSize    = 16
	// RenewalSize is the size of a renewal datagram without a report in bytes,
	// MaxRenewalSize that of one with a report.
	RenewalSize    = headerSize + 1 + macSize
	MaxRenewalSize = RenewalSize + reportSize
	// MaxName is the longest name of a coordinator in bytes.
	MaxName = 64
	// MaxAnswerSize is the size of the largest answer datagram in bytes.
	MaxAnswerSize = headerSize + 2 + MaxName + macSize
)

var (
	// ErrDatagram: not a datagram of this kind and version, or cut or too long.
	ErrDatagram = errors.New("lease: malformed datagram")
	// ErrMAC: the datagram was not made with the session's secret.
	ErrMAC = errors.New("lease: wrong MAC")
	// ErrName: the coordinator's name is empty or longer than MaxName.
	ErrName = errors.New("lease: bad coordinator name")
)

// Renewal asks one coordinator to promise for a session. It names the configuration
// that this coordinator last told the agent.
type Renewal struct {
	Session       uint64
	Round         Round
	Configuration uint64
	// Proven: when it was sent the session had a lease, its deadline lay ahead.
	// It is evidence for those who look for a holder (leader rule 1) and no part
	// of any promise.
	Proven bool
	// Fence is for people alone: no promise, deadline or agreement looks at it.
	Fence FenceReport
}

// FenceKind says what ends an agent's addresses in its kernel.
type FenceKind uint8

const (
	// FenceUntold: the agent does not say.
	FenceUntold FenceKind = iota
	// FenceNone: nothing does, as the operator wants it.
	FenceNone
	// FenceNFT is a set of nftables with timeouts, the weaker one.
	FenceNFT
	// FenceEBPF is a program with an absolute deadline.
	FenceEBPF
	// FenceRefused: the fence's self-check has failed, and the agent holds nothing.
	FenceRefused
)

// String is a lower-case word, "" for FenceUntold.
func (k FenceKind) String() string {
	switch k {
	case FenceUntold:
		return ""
	case FenceNone:
		return "none"
	case FenceNFT:
		return "nft"
	case FenceEBPF:
		return "ebpf"
	case FenceRefused:
		return "refused"
	}
	return "unknown"
}

// FenceReport is what an agent says of its kernel's fence, as it was read back when
// the renewal was sent. The zero value says nothing.
type FenceReport struct {
	Kind       FenceKind
	Interfaces uint16        // that are guarded
	Left       time.Duration // of the session's deadline in the kernel; negative: past
	Dropped    uint64        // packets refused in all
}

// Append appends the datagram to b: RenewalSize bytes, or MaxRenewalSize if it has a
// report.
func (r Renewal) Append(b []byte, secret *[32]byte) []byte {
	start := len(b)
	b = appendHeader(b, kindRenewal, r.Session, r.Round, r.Configuration)
	if r.Fence.Kind != FenceUntold {
		b[start+2] = versionReport
	}
	var flags byte
	if r.Proven {
		flags = flagProven
	}
	b = append(b, flags)
	if f := r.Fence; f.Kind != FenceUntold {
		b = append(b, byte(f.Kind))
		b = binary.BigEndian.AppendUint16(b, f.Interfaces)
		b = binary.BigEndian.AppendUint64(b, uint64(f.Left))
		b = binary.BigEndian.AppendUint64(b, f.Dropped)
	}
	return appendMAC(b, start, secret)
}

// Marshal returns the datagram.
func (r Renewal) Marshal(secret *[32]byte) []byte {
	return r.Append(make([]byte, 0, MaxRenewalSize), secret)
}

// UnverifiedRenewal is a datagram that looks like a renewal. Session tells whose
// secret to verify it with and must not be used for anything else before that.
type UnverifiedRenewal struct {
	Session uint64
	raw     []byte
}

// ParseRenewal looks at a datagram, which must not be changed until it is verified.
// The error is ErrDatagram.
func ParseRenewal(b []byte) (UnverifiedRenewal, error) {
	var ok bool
	switch len(b) {
	case RenewalSize:
		ok = hasHeader(b, version, kindRenewal)
	case MaxRenewalSize:
		ok = hasHeader(b, versionReport, kindRenewal) && b[headerSize+1] != byte(FenceUntold)
	}
	if !ok || b[headerSize]&^flagProven != 0 {
		return UnverifiedRenewal{}, ErrDatagram
	}
	return UnverifiedRenewal{Session: binary.BigEndian.Uint64(b[4:]), raw: b}, nil
}

// Verify checks the MAC and returns the renewal. The error is ErrMAC.
func (u UnverifiedRenewal) Verify(secret *[32]byte) (Renewal, error) {
	if !verifyMAC(u.raw, secret) {
		return Renewal{}, ErrMAC
	}
	var r Renewal
	r.Session, r.Round, r.Configuration = header(u.raw)
	r.Proven = u.raw[headerSize] == flagProven
	if f := u.raw[headerSize+1:]; len(f) == reportSize+macSize {
		r.Fence = FenceReport{
			Kind: FenceKind(f[0]), Interfaces: binary.BigEndian.Uint16(f[1:]),
			Left: time.Duration(binary.BigEndian.Uint64(f[3:])), Dropped: binary.BigEndian.Uint64(f[11:]),
		}
	}
	return r, nil
}

// Answer is a coordinator's reply to a renewal: a promise, or, if Fenced, the news
// that the session is marked there.
type Answer struct {
	Session       uint64
	Round         Round
	Configuration uint64
	Coordinator   string // 1 to MaxName bytes
	Fenced        bool
}

// Append appends the datagram, at most MaxAnswerSize bytes, to b. The error is
// ErrName.
func (a Answer) Append(b []byte, secret *[32]byte) ([]byte, error) {
	if len(a.Coordinator) == 0 || len(a.Coordinator) > MaxName {
		return b, ErrName
	}
	start := len(b)
	b = appendHeader(b, kindAnswer, a.Session, a.Round, a.Configuration)
	var flags byte
	if a.Fenced {
		flags = flagFenced
	}
	b = append(b, flags, byte(len(a.Coordinator)))
	b = append(b, a.Coordinator...)
	return appendMAC(b, start, secret), nil
}

// Marshal returns the datagram. The error is ErrName.
func (a Answer) Marshal(secret *[32]byte) ([]byte, error) {
	return a.Append(make([]byte, 0, MaxAnswerSize), secret)
}

// UnverifiedAnswer is a datagram that looks like an answer; see
// [UnverifiedRenewal].
type UnverifiedAnswer struct {
	Session uint64
	raw     []byte
}

// ParseAnswer looks at a datagram, which must not be changed until it is verified.
// The error is ErrDatagram.
func ParseAnswer(b []byte) (UnverifiedAnswer, error) {
	if len(b) < headerSize+2+1+macSize || len(b) > MaxAnswerSize || !hasHeader(b, version, kindAnswer) {
		return UnverifiedAnswer{}, ErrDatagram
	}
	flags, name := b[headerSize], int(b[headerSize+1])
	if flags&^flagFenced != 0 || len(b) != headerSize+2+name+macSize {
		return UnverifiedAnswer{}, ErrDatagram
	}
	return UnverifiedAnswer{Session: binary.BigEndian.Uint64(b[4:]), raw: b}, nil
}

// Verify checks the MAC and returns the answer, a Fenced one like all others. The
// error is ErrMAC.
func (u UnverifiedAnswer) Verify(secret *[32]byte) (Answer, error) {
	if !verifyMAC(u.raw, secret) {
		return Answer{}, ErrMAC
	}
	var a Answer
	a.Session, a.Round, a.Configuration = header(u.raw)
	a.Fenced = u.raw[headerSize] == flagFenced
	a.Coordinator = string(u.raw[headerSize+2 : len(u.raw)-macSize])
	return a, nil
}

func appendHeader(b []byte, kind byte, session uint64, r Round, configuration uint64) []byte {
	b = append(b, magic0, magic1, version, kind)
	b = binary.BigEndian.AppendUint64(b, session)
	b = binary.BigEndian.AppendUint64(b, r.Process)
	b = binary.BigEndian.AppendUint64(b, r.Sequence)
	return binary.BigEndian.AppendUint64(b, configuration)
}

func hasHeader(b []byte, version, kind byte) bool {
	return b[0] == magic0 && b[1] == magic1 && b[2] == version && b[3] == kind
}

// header reads what appendHeader wrote after the kind; b is long enough.
func header(b []byte) (session uint64, r Round, configuration uint64) {
	session = binary.BigEndian.Uint64(b[4:])
	r.Process = binary.BigEndian.Uint64(b[12:])
	r.Sequence = binary.BigEndian.Uint64(b[20:])
	return session, r, binary.BigEndian.Uint64(b[28:])
}

// appendMAC appends the MAC of b[start:].
func appendMAC(b []byte, start int, secret *[32]byte) []byte {
	sum := mac(b[start:], secret)
	return append(b, sum[:]...)
}

func verifyMAC(b []byte, secret *[32]byte) bool {
	if len(b) < macSize || len(b) > MaxAnswerSize { // the zero Unverified value
		return false
	}
	sum := mac(b[:len(b)-macSize], secret)
	return subtle.ConstantTimeCompare(sum[:], b[len(b)-macSize:]) == 1
}

// mac is HMAC-SHA256 (RFC 2104) cut to 16 bytes. It is spelt out because a
// hash.Hash for each datagram would be most of the garbage that a coordinator
// makes; a test compares it with crypto/hmac. message is at most MaxAnswerSize.
func mac(message []byte, secret *[32]byte) [macSize]byte {
	var inner [sha256.BlockSize + MaxAnswerSize]byte
	var outer [sha256.BlockSize + sha256.Size]byte
	for i := range sha256.BlockSize {
		var k byte
		if i < len(secret) {
			k = secret[i]
		}
		inner[i], outer[i] = k^0x36, k^0x5c
	}
	n := copy(inner[sha256.BlockSize:], message)
	sum := sha256.Sum256(inner[:sha256.BlockSize+n])
	copy(outer[sha256.BlockSize:], sum[:])
	sum = sha256.Sum256(outer[:])
	return [macSize]byte(sum[:macSize])
}
