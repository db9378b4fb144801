package interop

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/test/lab"
)

// A bench that cannot fail shows nothing. Here Keepalived is on both sides and
// something is wrong with it; every judge must find its own kind of fault.

// TestOtherPassword: two routers that do not believe each other are both Active.
func TestOtherPassword(t *testing.T) {
	t.Parallel()
	s := every(version3(), time.Second)
	s.version = 2
	i := &s.instances[0]
	i.lines = append(i.lines, "authentication {", "    auth_type PASS")
	i.own = [2][]string{{"    auth_pass correct", "}"}, {"    auth_pass wrong", "}"}}
	site, ctx := planted(t, s)
	check(t, site.start(0))
	check(t, site.start(1))
	eventually(ctx, t, func() error { return site.settled(both) })
	for holder := range 2 {
		if err := site.settled(holder); err == nil {
			t.Errorf("host %d passes for the only holder", holder)
		}
	}
	mustFind(t, "complaints", site.mustComplaints(1), "invalid passwd")
	if d := site.overlaps(site.began, lab.Now())["table 10.77.1.1"]; d == 0 {
		t.Error("no overlap by the address tables")
	}
	for _, a := range site.tap.Adverts(site.began, lab.Now()) {
		if a.Host == site.host(1).Name && a.Password != "wrong" {
			t.Errorf("decoded password %q", a.Password)
		}
	}
}

// TestBothSpeak: on either side of a cut trunk each router is Active.
func TestBothSpeak(t *testing.T) {
	t.Parallel()
	site, ctx := planted(t, version3())
	check(t, errors.Join(site.start(0), site.start(1)))
	eventually(ctx, t, func() error { return site.settled(0) })
	began := lab.Now()
	check(t, site.network.Partition())
	eventually(ctx, t, func() error {
		found := site.overlaps(began, lab.Now())
		for _, what := range []string{"adverts {51 false}", "table 10.77.1.1", "table 10.77.1.2"} {
			if found[what] < sameInstant {
				return fmt.Errorf("the %s are not seen to overlap: %v", what, found)
			}
		}
		return nil
	})
	if err := site.settled(0); err == nil {
		t.Error("host 0 passes for the only holder")
	}
}

// TestForgedAdverts: advertisements that are wrong in one bit or field, sent from
// the Backup's host.
func TestForgedAdverts(t *testing.T) {
	t.Parallel()
	site, ctx := planted(t, version3())
	check(t, site.start(0))
	eventually(ctx, t, func() error { return site.settled(0) })
	check(t, site.start(1))
	original := site.tap.Frames(site.began, lab.Now())
	var frame []byte
	for _, f := range original {
		if _, ok := lab.ParseAdvert(f); ok {
			frame = f.Data
		}
	}
	const ipSource, vrrpPriority = 14 + 12, 14 + 20 + 2
	frame = append([]byte(nil), frame...)
	copy(frame[6:12], site.host(1).MAC)
	copy(frame[ipSource:], site.host(1).IPv4.Addr().AsSlice())
	frame[vrrpPriority] = 1 // nobody yields to it
	const ipLength, ipTTL, vrrp = 14 + 3, 14 + 8, 14 + 20
	for _, forged := range []struct {
		name   string
		change func(b []byte)
		spoil  func(b []byte) // after the checksums are made
		log    string         // Keepalived's complaint
		judge  string         // the lab's
		tshark bool           // sees it too
	}{
		{name: "checksum", spoil: func(b []byte) { b[vrrp+7] ^= 1 }, log: "Invalid VRRPv3 checksum", judge: "VRRP checksum", tshark: true},
		{name: "checksum of IP", spoil: func(b []byte) { b[14+11] ^= 1 }, judge: "IPv4 header checksum", tshark: true},
		{name: "interval", change: func(b []byte) { b[vrrp+5] += 10 }, judge: "interval 200ms"},
		{name: "TTL", change: func(b []byte) { b[ipTTL]-- }, log: "invalid TTL/HL", judge: "TTL is 254", tshark: true},
		{name: "cut off", change: func(b []byte) { b[ipLength] -= 4 }, log: "too short", judge: "message of 12 bytes", tshark: true},
		{name: "address", change: func(b []byte) { b[vrrp+11] += 4 }, log: "not present in MASTER advert", judge: "addresses"},
		{name: "version", change: func(b []byte) { b[vrrp] = 0x21 }, log: "too short", judge: "version 2", tshark: true},
	} {
		t.Run(forged.name, func(t *testing.T) {
			before := lab.Now()
			b := append([]byte(nil), frame...)
			if forged.change != nil {
				forged.change(b)
			}
			fixSums(b)
			if forged.spoil != nil {
				forged.spoil(b)
			}
			check(t, sendFrame(site.host(1), b))
			var heard []lab.Frame
			eventually(ctx, t, func() error {
				heard = nil
				for _, f := range site.tap.Frames(before, lab.Now()) {
					if _, ok := lab.ParseAdvert(f); ok && f.Host == site.host(1).Name {
						heard = append(heard, f)
					}
				}
				if len(heard) != 1 {
					return fmt.Errorf("heard %d forged advertisements", len(heard))
				}
				return nil
			})
			a, _ := lab.ParseAdvert(heard[0])
			mustFind(t, "the judge", append(a.Faults, site.against(a)...), forged.judge)
			if forged.log != "" {
				eventually(ctx, t, func() error {
					if words := strings.Join(site.mustComplaints(0), "\n"); !strings.Contains(words, forged.log) {
						return fmt.Errorf("complaints %q, want %q", words, forged.log)
					}
					return nil
				})
			}
			objections, _, err := dissect(ctx, t.TempDir(), heard)
			check(t, err)
			if found := len(objections) > 0; found != forged.tshark {
				t.Errorf("tshark's objections: %v", objections)
			}
		})
	}
}

// TestSecondHolder: somebody adds the address by hand on the Backup's host.
func TestSecondHolder(t *testing.T) {
	t.Parallel()
	site, ctx := planted(t, version3())
	check(t, site.start(0))
	check(t, site.start(1))
	eventually(ctx, t, func() error { return site.settled(0) })
	check(t, site.host(1).AddAddress(netip.MustParsePrefix(vip4)))
	eventually(ctx, t, func() error {
		if site.settled(0) == nil {
			return fmt.Errorf("nobody sees the second holder")
		}
		return nil
	})
}

// TestSilentRouter: a router that has the address and says nothing is not Active.
func TestSilentRouter(t *testing.T) {
	t.Parallel()
	site, ctx := planted(t, version3())
	check(t, site.start(0))
	eventually(ctx, t, func() error { return site.settled(0) })
	check(t, site.network.CutOut(site.host(0)))
	eventually(ctx, t, func() error {
		if err := site.answersSettled(0); err == nil {
			return fmt.Errorf("the client's witness is silent")
		}
		return nil
	})
	check(t, site.network.Restore(site.host(0)))
	check(t, site.routers[0].Kill())
	eventually(ctx, t, func() error {
		if err := site.wireSettled(0); err == nil {
			return fmt.Errorf("the wire's witness is silent")
		}
		return nil
	})
}

// planted is a site with Keepalived on both sides.
func planted(t *testing.T, s setting) (*site, context.Context) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	t.Cleanup(cancel)
	return newSite(t, s, [2]program{keepalived(), keepalived()}, 20*time.Millisecond), ctx
}

func (s *site) mustComplaints(i int) []string {
	found, err := s.newComplaints(i)
	check(s.t, err)
	return found
}

func mustFind(t *testing.T, who string, found []string, want string) {
	t.Helper()
	if !strings.Contains(strings.Join(found, "\n"), want) {
		t.Errorf("%s: found %q, want %q", who, found, want)
	}
}

func eventually(ctx context.Context, t *testing.T, f func() error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	check(t, lab.Poll(ctx, 10*time.Millisecond, f))
}

// fixSums writes the checksums of a frame with an advertisement of version 3 for
// IPv4: of its IP header and of its message.
func fixSums(frame []byte) {
	header, message := frame[14:34], frame[34:14+int(frame[14+3])]
	pseudo := append([]byte(nil), header[12:20]...)
	pseudo = append(pseudo, 0, 112, 0, byte(len(message)))
	copy(header[10:12], []byte{0, 0})
	copy(message[6:8], []byte{0, 0})
	binary.BigEndian.PutUint16(header[10:], checksum(header))
	binary.BigEndian.PutUint16(message[6:], checksum(append(pseudo, message...)))
}

func checksum(b []byte) uint16 {
	var sum uint32
	for i := 0; i < len(b); i += 2 {
		sum += uint32(b[i])<<8 | uint32(b[i+1])
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}

// sendFrame sends an Ethernet frame from a host's interface.
func sendFrame(h *lab.Host, frame []byte) error {
	link, err := h.Netlink().LinkByName(lab.Interface)
	if err != nil {
		return err
	}
	return h.InNamespace(func() error {
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		return unix.Sendto(fd, frame, 0, &unix.SockaddrLinklayer{Ifindex: link.Attrs().Index, Halen: 6})
	})
}
