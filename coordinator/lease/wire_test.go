package lease_test

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"strings"
	"testing"
	"time"

	"holdfast/coordinator/lease"
)

var secret = [32]byte{0: 1, 15: 0x5c, 16: 0x36, 31: 0xff}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// sign appends the MAC as crypto/hmac makes it.
func sign(b []byte, key [32]byte) []byte {
	m := hmac.New(sha256.New, key[:])
	m.Write(b)
	return append(bytes.Clone(b), m.Sum(nil)[:16]...)
}

var goldenRenewals = []struct {
	name string
	r    lease.Renewal
	hex  string // before the MAC
	mac  string
}{
	{"counting up", lease.Renewal{Session: 7, Round: lease.Round{Process: 8, Sequence: 9}, Configuration: 10},
		"4846 01 01 0000000000000007 0000000000000008 0000000000000009 000000000000000a 00",
		"c6e47ae0f86c2dd7583db6f64e206306"},
	{"zero", lease.Renewal{},
		"4846 01 01 0000000000000000 0000000000000000 0000000000000000 0000000000000000 00",
		"eea16f1609c98dc7d2221f46d4c4a2f9"},
	{"proven", lease.Renewal{Session: 7, Round: lease.Round{Process: 8, Sequence: 9}, Configuration: 10, Proven: true},
		"4846 01 01 0000000000000007 0000000000000008 0000000000000009 000000000000000a 01",
		"af52ef0f35cfe0ed99cd443fad544af7"},
	{"with a report", lease.Renewal{Session: 7, Round: lease.Round{Process: 8, Sequence: 9}, Configuration: 10, Proven: true,
		Fence: lease.FenceReport{Kind: lease.FenceEBPF, Interfaces: 2, Left: 830 * time.Millisecond, Dropped: 12}},
		"4846 02 01 0000000000000007 0000000000000008 0000000000000009 000000000000000a 01 03 0002 000000003178cb80 000000000000000c",
		"d3cf15e3f7f2c90d4e6ac5cb05b74dfd"},
	{"report of a deadline past", lease.Renewal{Fence: lease.FenceReport{Kind: lease.FenceNone, Left: -1}},
		"4846 02 01 0000000000000000 0000000000000000 0000000000000000 0000000000000000 00 01 0000 ffffffffffffffff 0000000000000000",
		"a2e9aefa2d706bb55784598d9a8ac97f"},
	{"report of a kind from the future", lease.Renewal{Fence: lease.FenceReport{Kind: 255, Interfaces: 65535, Left: 1<<63 - 1, Dropped: 1<<64 - 1}},
		"4846 02 01 0000000000000000 0000000000000000 0000000000000000 0000000000000000 00 ff ffff 7fffffffffffffff ffffffffffffffff",
		"0f44fcd0f01f94c7d8a6906e7a4605e3"},
	{"large", lease.Renewal{Session: 1 << 63, Round: lease.Round{Process: 0x0102030405060708, Sequence: 1<<64 - 1}, Configuration: 1 << 32},
		"4846 01 01 8000000000000000 0102030405060708 ffffffffffffffff 0000000100000000 00",
		"52cf3c13b0b0c89b415b5c08235193a7"},
}

var goldenAnswers = []struct {
	name string
	a    lease.Answer
	hex  string
	mac  string
}{
	{"promise", lease.Answer{Session: 7, Round: lease.Round{Process: 8, Sequence: 9}, Configuration: 10, Coordinator: "a"},
		"4846 01 02 0000000000000007 0000000000000008 0000000000000009 000000000000000a 00 01 61",
		"d4072ee550715ed3d8b9c7817ef0d89b"},
	{"fenced", lease.Answer{Session: 1 << 63, Coordinator: "node-1", Fenced: true},
		"4846 01 02 8000000000000000 0000000000000000 0000000000000000 0000000000000000 01 06 6e6f64652d31",
		"4765a9e64e4f2c83efbf81e42332db73"},
	{"longest name", lease.Answer{Session: 1, Coordinator: strings.Repeat("z", 64)},
		"4846 01 02 0000000000000001 0000000000000000 0000000000000000 0000000000000000 00 40" + strings.Repeat("7a", 64),
		"0d174d9071497944b24c7e7288baecc5"},
}

func TestGoldenRenewals(t *testing.T) {
	for _, c := range goldenRenewals {
		t.Run(c.name, func(t *testing.T) {
			want := unhex(t, c.hex+c.mac)
			if got := c.r.Marshal(&secret); !bytes.Equal(got, want) || len(got) != lease.RenewalSize && len(got) != lease.MaxRenewalSize {
				t.Fatalf("got  %x\nwant %x", got, want)
			}
			if !bytes.Equal(sign(unhex(t, c.hex), secret), want) {
				t.Error("the MAC is not HMAC-SHA256")
			}
			if got := c.r.Append([]byte("before"), &secret); !bytes.Equal(got, append([]byte("before"), want...)) {
				t.Errorf("appended %x", got)
			}
			u, err := lease.ParseRenewal(want)
			if err != nil || u.Session != c.r.Session {
				t.Fatal(u, err)
			}
			if r, err := u.Verify(&secret); err != nil || r != c.r {
				t.Errorf("read back %+v, %v", r, err)
			}
			refuseDistorted(t, want, readRenewal)
			if _, err := lease.ParseAnswer(want); !errors.Is(err, lease.ErrDatagram) {
				t.Error("a renewal is taken for an answer")
			}
		})
	}
}

func TestGoldenAnswers(t *testing.T) {
	for _, c := range goldenAnswers {
		t.Run(c.name, func(t *testing.T) {
			want := unhex(t, c.hex+c.mac)
			got, err := c.a.Marshal(&secret)
			if err != nil || !bytes.Equal(got, want) || len(got) > lease.MaxAnswerSize {
				t.Fatalf("%v\ngot  %x\nwant %x", err, got, want)
			}
			if !bytes.Equal(sign(unhex(t, c.hex), secret), want) {
				t.Error("the MAC is not HMAC-SHA256")
			}
			if got, err := c.a.Append([]byte("before"), &secret); err != nil || !bytes.Equal(got, append([]byte("before"), want...)) {
				t.Errorf("appended %x, %v", got, err)
			}
			u, err := lease.ParseAnswer(want)
			if err != nil || u.Session != c.a.Session {
				t.Fatal(u, err)
			}
			if a, err := u.Verify(&secret); err != nil || a != c.a {
				t.Errorf("read back %+v, %v", a, err)
			}
			refuseDistorted(t, want, readAnswer)
			if _, err := lease.ParseRenewal(want); !errors.Is(err, lease.ErrDatagram) {
				t.Error("an answer is taken for a renewal")
			}
		})
	}
}

func readRenewal(b []byte, secret *[32]byte) error {
	u, err := lease.ParseRenewal(b)
	if err == nil {
		_, err = u.Verify(secret)
	}
	return err
}

func readAnswer(b []byte, secret *[32]byte) error {
	u, err := lease.ParseAnswer(b)
	if err == nil {
		_, err = u.Verify(secret)
	}
	return err
}

// refuseDistorted wants every single flipped bit of datagram and secret, every cut and
// every addition refused.
func refuseDistorted(t *testing.T, good []byte, read func([]byte, *[32]byte) error) {
	t.Helper()
	for i := range len(good) * 8 {
		b := bytes.Clone(good)
		b[i/8] ^= 1 << (i % 8)
		if err := read(b, &secret); !errors.Is(err, lease.ErrDatagram) && !errors.Is(err, lease.ErrMAC) {
			t.Errorf("bit %d flipped: %v", i, err)
		}
	}
	for i := range len(secret) * 8 {
		wrong := secret
		wrong[i/8] ^= 1 << (i % 8)
		if err := read(good, &wrong); !errors.Is(err, lease.ErrMAC) {
			t.Errorf("secret's bit %d flipped: %v", i, err)
		}
	}
	for n := range len(good) {
		if err := read(good[:n:n], &secret); !errors.Is(err, lease.ErrDatagram) {
			t.Errorf("cut to %d: %v", n, err)
		}
	}
	for _, more := range [][]byte{{0}, {1, 2}, make([]byte, 100), good} {
		if err := read(append(bytes.Clone(good), more...), &secret); !errors.Is(err, lease.ErrDatagram) {
			t.Errorf("%d bytes more: %v", len(more), err)
		}
	}
}

// TestMalformed has datagrams that are wrong although their MAC is right.
func TestMalformed(t *testing.T) {
	head := func(kind string) string { return "4846 01" + kind + strings.Repeat("00", 32) }
	for name, b := range map[string]string{
		"empty":                      "",
		"only a MAC":                 strings.Repeat("00", 16),
		"magic":                      "4845 01 01" + strings.Repeat("00", 32),
		"version 0":                  "4846 00 01" + strings.Repeat("00", 32),
		"version 2":                  "4846 02 02" + strings.Repeat("00", 32) + "00 01 61",
		"kind 0":                     head("00"),
		"kind 3":                     head("03"),
		"renewal, no flags":          head("01"),
		"renewal with more":          head("01") + "00 00",
		"renewal, report cut":        head("01") + "00 03 0002 000000003178cb80 0000000000000c",
		"renewal, report, version 1": head("01") + "00 03 0002 000000003178cb80 000000000000000c",
		"renewal, version 2, none":   "4846 02 01" + strings.Repeat("00", 32) + "00",
		"renewal, report of nothing": "4846 02 01" + strings.Repeat("00", 32) + "00 00 0002 000000003178cb80 000000000000000c",
		"renewal, report, flags 2":   "4846 02 01" + strings.Repeat("00", 32) + "02 03 0002 000000003178cb80 000000000000000c",
		"renewal, version 3, report": "4846 03 01" + strings.Repeat("00", 32) + "00 03 0002 000000003178cb80 000000000000000c",
		"renewal, unknown flag":      head("01") + "02",
		"renewal, flags 3":           head("01") + "03",
		"renewal, flag 128":          head("01") + "80",
		"answer, no name":            head("02"),
		"answer, empty":              head("02") + "00 00",
		"answer, empty and more":     head("02") + "00 00 61",
		"answer, name too short":     head("02") + "00 02 61",
		"answer, name too long":      head("02") + "00 01 6161",
		"answer, 65 bytes":           head("02") + "00 41" + strings.Repeat("61", 65),
		"answer, length 255":         head("02") + "00 ff 61",
		"answer, unknown flag":       head("02") + "02 01 61",
		"answer, flags 3":            head("02") + "03 01 61",
		"answer, flag 128":           head("02") + "80 01 61",
	} {
		t.Run(name, func(t *testing.T) {
			signed := sign(unhex(t, b), secret)
			if err := readRenewal(signed, &secret); !errors.Is(err, lease.ErrDatagram) {
				t.Errorf("as a renewal: %v", err)
			}
			if err := readAnswer(signed, &secret); !errors.Is(err, lease.ErrDatagram) {
				t.Errorf("as an answer: %v", err)
			}
		})
	}
}

func TestAnswerName(t *testing.T) {
	for _, name := range []string{"", strings.Repeat("a", 65)} {
		b, err := lease.Answer{Coordinator: name}.Append([]byte("x"), &secret)
		if !errors.Is(err, lease.ErrName) || string(b) != "x" {
			t.Errorf("name of %d bytes: %q, %v", len(name), b, err)
		}
		if _, err := (lease.Answer{Coordinator: name}).Marshal(&secret); !errors.Is(err, lease.ErrName) {
			t.Errorf("name of %d bytes: %v", len(name), err)
		}
	}
}

func TestZeroUnverified(t *testing.T) {
	if _, err := (lease.UnverifiedRenewal{}).Verify(&secret); !errors.Is(err, lease.ErrMAC) {
		t.Error(err)
	}
	if _, err := (lease.UnverifiedAnswer{}).Verify(&secret); !errors.Is(err, lease.ErrMAC) {
		t.Error(err)
	}
}

func FuzzRenewal(f *testing.F) {
	for _, c := range goldenRenewals {
		f.Add(c.r.Marshal(&secret), secret[:])
	}
	for _, c := range goldenAnswers {
		b, _ := c.a.Marshal(&secret)
		f.Add(b, secret[:])
	}
	f.Fuzz(func(t *testing.T, b, key []byte) {
		var k [32]byte
		copy(k[:], key)
		before := bytes.Clone(b)
		// As it came, and with a right MAC in place of its last bytes, so
		// that what lies behind the MAC is reached too.
		for _, b := range variants(b, k) {
			u, err := lease.ParseRenewal(b)
			if err != nil {
				continue
			}
			r, err := u.Verify(&k)
			if err != nil {
				continue
			}
			if got := r.Marshal(&k); !bytes.Equal(got, b) || r.Session != u.Session {
				t.Errorf("%x reads as %+v, which is %x", b, r, got)
			}
		}
		if !bytes.Equal(b, before) {
			t.Error("the datagram was changed")
		}
	})
}

func FuzzAnswer(f *testing.F) {
	for _, c := range goldenAnswers {
		b, _ := c.a.Marshal(&secret)
		f.Add(b, secret[:])
	}
	for _, c := range goldenRenewals {
		f.Add(c.r.Marshal(&secret), secret[:])
	}
	f.Fuzz(func(t *testing.T, b, key []byte) {
		var k [32]byte
		copy(k[:], key)
		before := bytes.Clone(b)
		for _, b := range variants(b, k) {
			u, err := lease.ParseAnswer(b)
			if err != nil {
				continue
			}
			a, err := u.Verify(&k)
			if err != nil {
				continue
			}
			if got, err := a.Marshal(&k); err != nil || !bytes.Equal(got, b) || a.Session != u.Session {
				t.Errorf("%x reads as %+v, which is %x, %v", b, a, got, err)
			}
		}
		if !bytes.Equal(b, before) {
			t.Error("the datagram was changed")
		}
	})
}

func variants(b []byte, key [32]byte) [][]byte {
	if len(b) < 16 {
		return [][]byte{b}
	}
	return [][]byte{b, sign(b[:len(b)-16], key)}
}
