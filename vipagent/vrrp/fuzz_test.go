package vrrp

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"net/netip"
	"reflect"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// ends are pairs of source and destination: multicast and unicast.
func ends() [][2]netip.Addr {
	a := addresses("10.9.0.1", "224.0.0.18", "10.9.0.1", "10.9.0.2", "fe80::1", "ff02::12", "fe80::1", "fe80::2")
	return [][2]netip.Addr{{a[0], a[1]}, {a[2], a[3]}, {a[4], a[5]}, {a[6], a[7]}}
}

// sealed returns b with the checksum that the form asks for, so that fuzzing comes
// past it.
func sealed(b []byte, form Checksum, length int, source, destination netip.Addr) []byte {
	b = bytes.Clone(b)
	binary.BigEndian.PutUint16(b[checksumAt:], 0)
	binary.BigEndian.PutUint16(b[checksumAt:], ^fold(sumOf(form.pseudo(length, source, destination), b[:length])))
	return b
}

// checkParsed: what parses is written again to the same bytes, but for what Parse
// ignores: padding, reserved bits, authentication data without a type, and the
// second form of a ones' complement zero.
func checkParsed(t *testing.T, b []byte, source, destination netip.Addr) {
	a, form, err := Parse(b, source, destination)
	checkAccepted(t, b, source, destination, err)
	if err != nil {
		if ReasonOf(err) == 0 || !reflect.DeepEqual(a, Advertisement{}) || form != 0 {
			t.Fatalf("%x: %v without a reason, or with a result: %+v, %v", b, err, a, form)
		}
		return
	}
	encoded, err := a.Append(nil, form, source, destination)
	if err != nil {
		t.Fatalf("%x is %+v and cannot be written: %v", b, a, err)
	}
	if len(encoded) > len(b) || len(encoded) > MaxSize {
		t.Fatalf("%x is written longer: %x", b, encoded)
	}
	canonical := bytes.Clone(b[:len(encoded)])
	switch {
	case a.Version == 3:
		canonical[4] &= 0xf
	case a.Password == nil:
		clear(canonical[len(canonical)-authSize:])
	}
	if canonical = sealed(canonical, form, len(canonical), source, destination); !bytes.Equal(encoded, canonical) {
		t.Fatalf("%x is %+v, written %x", b, a, encoded)
	}
	again, same, err := Parse(encoded, source, destination)
	if err != nil || same != form || !reflect.DeepEqual(again, a) {
		t.Fatalf("%x is %+v, %v; read again %+v, %v, %v", b, a, form, again, same, err)
	}
}

// checkAccepted: a router that is configured as the bytes say accepts what Parse
// does, and nothing else.
func checkAccepted(t *testing.T, b []byte, source, destination netip.Addr, parsed error) {
	var c Config
	if d, err := dissect(b, source, destination); err == nil {
		a := d.advertisement
		c = Config{Version: a.Version, VRID: a.VRID, Interval: a.Interval, Password: a.Password}
	}
	r, err := c.Accept(Packet{b, source, destination, TTL}, Policy{Unicast: !destination.IsMulticast()})
	// Of several faults the two may name different ones.
	if (err == nil) != (parsed == nil) || err != nil && ReasonOf(err) == 0 || err == nil && r.Form == 0 {
		t.Fatalf("%x: Parse says %v, Accept %v, %+v", b, parsed, err, r)
	}
}

// FuzzParse: no bytes make Parse panic, and what it accepts comes back from its own
// encoding.
func FuzzParse(f *testing.F) {
	for _, g := range captured() {
		b, err := hex.DecodeString(g.hex)
		if err != nil {
			f.Fatal(err)
		}
		for i := range ends() {
			f.Add(b, uint8(i), uint8(g.form))
		}
	}
	for _, row := range kept() {
		b, err := hex.DecodeString(row.hex)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b, row.end, row.form)
	}
	f.Fuzz(func(t *testing.T, b []byte, end, form uint8) {
		pair := ends()[int(end)%len(ends())]
		checkParsed(t, b, pair[0], pair[1])
		if len(b) < headerSize {
			return
		}
		// Once more with a checksum that fits; the padding is not under it.
		for length := len(b); length >= headerSize && length > len(b)-20; length -= 2 {
			if length%2 == 0 {
				checkParsed(t, sealed(b, Checksum(form), length, pair[0], pair[1]), pair[0], pair[1])
			}
		}
	})
}

// kept are inputs that once showed a fault of the parser or of the checks above, or
// that stand at a border.
func kept() []struct {
	name, hex string
	end, form uint8
} {
	return []struct {
		name, hex string
		end, form uint8
	}{
		{"no addresses", "3101640000640000", 0, uint8(Pseudo)},
		{"v2 password of zeros", "210164000101000000000000000000" + "00", 0, uint8(Plain)},
		{"reserved bits", "31016400f0640000", 0, uint8(Pseudo)},
		{"authentication data without a type", "2101640000010000ffffffffffffffff", 0, uint8(Plain)},
		{"a mapped address", "310164010064000000000000000000000000ffff0a000001", 2, uint8(Pseudo)},
		{"neither type nor authentication type", "20303000303030303030303030303030", 0, uint8(Plain)},
		{"odd length", "310164000064000000", 0, uint8(Pseudo)},
	}
}

func TestKept(t *testing.T) {
	for _, row := range kept() {
		t.Run(row.name, func(t *testing.T) {
			b, err := hex.DecodeString(row.hex)
			if err != nil {
				t.Fatal(err)
			}
			pair := ends()[row.end]
			checkParsed(t, b, pair[0], pair[1])
			checkParsed(t, sealed(b, Checksum(row.form), len(b)&^1, pair[0], pair[1]), pair[0], pair[1])
		})
	}
}

// anyAdvertisement draws a valid advertisement with ends and a form that go with it.
func anyAdvertisement(t *rapid.T) (a Advertisement, form Checksum, source, destination netip.Addr) {
	pair := rapid.SampledFrom(ends()).Draw(t, "ends")
	source, destination = pair[0], pair[1]
	a = Advertisement{
		Version:  3,
		VRID:     rapid.Uint8Range(1, 255).Draw(t, "vrid"),
		Priority: rapid.Uint8().Draw(t, "priority"),
	}
	forms := []Checksum{Pseudo}
	if source.Is4() && rapid.Bool().Draw(t, "version 2") {
		a.Version, forms = 2, []Checksum{Plain}
		a.Interval = time.Duration(rapid.IntRange(1, 255).Draw(t, "seconds")) * time.Second
		if rapid.Bool().Draw(t, "with password") {
			a.Password = trimZeros(rapid.SliceOfN(rapid.Byte(), 0, MaxPassword).Draw(t, "password"))
		}
	} else {
		a.Interval = time.Duration(rapid.IntRange(1, 4095).Draw(t, "centiseconds")) * centisecond
		if source.Is4() {
			forms = []Checksum{Pseudo, Plain}
			if !destination.IsMulticast() {
				forms = append(forms, OldUnicast)
			}
		}
	}
	form = rapid.SampledFrom(forms).Draw(t, "form")
	for range rapid.SampledFrom([]int{0, 1, 2, 5, 255}).Draw(t, "count") {
		raw := rapid.SliceOfN(rapid.Byte(), source.BitLen()/8, source.BitLen()/8).Draw(t, "address")
		address, _ := netip.AddrFromSlice(raw)
		a.Addresses = append(a.Addresses, address)
	}
	return a, form, source, destination
}

// TestRoundTrip: every valid advertisement comes back as it was, in its form, and no
// single flipped bit under the checksum goes unseen.
func TestRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, form, source, destination := anyAdvertisement(t)
		b, err := a.Append(nil, form, source, destination)
		if err != nil {
			t.Fatal(err)
		}
		got, same, err := Parse(b, source, destination)
		if err != nil || same != form || !reflect.DeepEqual(got, a) {
			t.Fatalf("%+v, %v came back as %+v, %v, %v", a, form, got, same, err)
		}
		bit := rapid.IntRange(0, len(b)*8-1).Draw(t, "bit")
		b[bit/8] ^= 1 << (bit % 8)
		if got, same, err := Parse(b, source, destination); err == nil && same == form {
			t.Fatalf("with bit %d flipped %+v is read as %+v", bit, a, got)
		}
	})
}

// TestParseAllocates: a message costs its list of addresses and no more.
func TestParseAllocates(t *testing.T) {
	b, err := hex.DecodeString(captured()[0].hex)
	if err != nil {
		t.Fatal(err)
	}
	source, destination := ends()[0][0], ends()[0][1]
	if n := testing.AllocsPerRun(100, func() {
		if _, _, err := Parse(b, source, destination); err != nil {
			t.Fatal(err)
		}
	}); n > 3 {
		t.Errorf("%v allocations", n)
	}
}
