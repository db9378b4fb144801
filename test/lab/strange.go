package lab

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// AskEvery is the time between two questions of a stranger.
const AskEvery = 10 * ProbeEvery

// Strangers makes a stranger on each client's segment ask by ARP, over and over,
// who has the addresses of IPv4. A client goes on asking the host that its
// neighbour table names, so it cannot see that a second host would answer too; a
// stranger is somebody who has asked for the first time. Its questions come
// from a hardware address that nobody has and from no IP address (RFC 5227), so
// that they change no neighbour table; the answers are claims.
func (r *Recorder) Strangers(addresses ...netip.Addr) error {
	for i, c := range r.network.Clients {
		var fd int
		err := c.ns.do(func() (err error) {
			fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0) // receives nothing
			return err
		})
		if err != nil {
			return fmt.Errorf("open packet socket on %s: %w", c.Name, err)
		}
		r.fds = append(r.fds, fd)
		var questions [][]byte
		for _, a := range addresses {
			if a.Is4() {
				questions = append(questions, question(net.HardwareAddr{0x02, 0x77, 0, 0, 1, byte(i)}, a))
			}
		}
		link, _ := c.cable()
		port := &unix.SockaddrLinklayer{Ifindex: link.Attrs().Index, Halen: 6}
		r.group.Go(func() error {
			for next := Now(); !r.stop.Load(); next = next.Add(AskEvery) {
				sleepUntil(next)
				for _, q := range questions {
					_ = unix.Sendto(fd, q, unix.MSG_DONTWAIT, port) // a question that does not leave is no answer
				}
			}
			return nil
		})
	}
	return nil
}

// question returns the ARP frame of a sender without an address who asks for one.
func question(source net.HardwareAddr, a netip.Addr) []byte {
	f := []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	f = append(f, source...)
	f = append(f, 8, 6, 0, 1, 8, 0, 6, 4)
	f = binary.BigEndian.AppendUint16(f, 1)
	f = append(append(f, source...), 0, 0, 0, 0)
	return append(append(f, 0, 0, 0, 0, 0, 0), a.AsSlice()...)
}

// Both returns the time in which two hosts at once answered for the address, or
// claimed it over and over as they do when strangers ask. Unlike
// [Overlap].Wire it is a length of time: a stray packet is an instant.
func (o Observations) Both() time.Duration {
	return max(shared(runs(o.Answers), o.From, o.To), shared(answerers(o.Claims, o.Offs), o.From, o.To))
}

// answerers turns claims into stretches of time in which a host claimed the
// address, as runs does with answers. A host that is off claims nothing.
func answerers(claims []Claim, offs []Off) []Hold {
	claims = slices.DeleteFunc(slices.Clone(claims), func(c Claim) bool { return offAt(offs, c.Host, c.At) })
	answers := make([]Answer, len(claims))
	for i, c := range claims {
		answers[i] = Answer{Address: c.Address, Host: c.Host, Accepted: c.At}
	}
	return runs(answers)
}
