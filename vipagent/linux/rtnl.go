package linux

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	batchSize    = 500     // messages in one send: 36 KB of requests, and their errors fit the receive buffer
	receiveSize  = 1 << 16 // the kernel makes no larger datagram for a dump
	bufferBytes  = 4 << 20 // socket buffers, where we may set them
	dumpAttempts = 10      // a table that changes while it is read is read again

	answerTimeout = 5 * time.Second
)

// errLost: the kernel had no room for an acknowledgement, so that the outcome
// must be read back.
var errLost = errors.New("acknowledgement lost")

// message is one rtnetlink request without its header.
type message struct {
	kind  uint16 // RTM_*
	flags uint16 // NLM_F_*, beside NLM_F_REQUEST
	body  []byte
}

// conn is a request socket of rtnetlink. The kernel works on a request before
// the send returns, so that the answers are there when we ask for them.
type conn struct {
	mu  sync.Mutex
	fd  int
	seq uint32
	out []byte
	in  [receiveSize]byte
}

func dialRoute() (*conn, error) { return dialNetlink(unix.NETLINK_ROUTE) }

func dialNetlink(protocol int) (*conn, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, protocol)
	if err != nil {
		return nil, fmt.Errorf("open netlink socket: %w", os.NewSyscallError("socket", err))
	}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("bind netlink socket: %w", os.NewSyscallError("bind", err))
	}
	// Answers are there when a send returns; this is for an answer that never
	// comes. The holder of addresses must not hang on it.
	timeout := unix.NsecToTimeval(int64(answerTimeout))
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &timeout); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("bind netlink socket: %w", os.NewSyscallError("setsockopt", err))
	}
	// Errors then carry the header of their request only, and a batch of them
	// fits the buffer. Older kernels work without.
	_ = unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_CAP_ACK, 1)
	growReceiveBuffer(fd)
	return &conn{fd: fd}, nil
}

// growReceiveBuffer makes the buffer as large as our rights allow.
func growReceiveBuffer(fd int) {
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, bufferBytes) != nil {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, bufferBytes)
	}
}

func (c *conn) close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return unix.Close(c.fd)
}

// do sends the messages, at most per of them in one datagram, and returns one
// error for each of them (nil: done). The kernel works through a datagram to
// its end whatever fails on the way, and reports each failure with the sequence
// number of its message; only the last message asks for an acknowledgement.
func (c *conn) do(msgs []message, per int) []error {
	c.mu.Lock()
	defer c.mu.Unlock()
	errs := make([]error, len(msgs))
	for start := 0; start < len(msgs); start += per {
		end := min(start+per, len(msgs))
		c.chunk(msgs[start:end], errs[start:end])
	}
	return errs
}

func (c *conn) chunk(msgs []message, errs []error) {
	first := c.seq + 1
	c.out = c.out[:0]
	for i, m := range msgs {
		if i == len(msgs)-1 {
			m.flags |= unix.NLM_F_ACK
		}
		c.append(m)
	}
	if err := c.send(); err != nil {
		fill(errs, err)
		return
	}
	for done := false; !done; {
		replies, err := c.receive()
		if err != nil {
			// What was not reported may have worked or not.
			fill(errs, err)
			return
		}
		for _, r := range replies {
			i := r.Header.Seq - first // wraps for answers to earlier requests
			if i >= uint32(len(msgs)) || r.Header.Type != unix.NLMSG_ERROR {
				continue
			}
			errs[i] = replyError(r)
			done = done || i == uint32(len(msgs)-1)
		}
	}
}

func fill(errs []error, err error) {
	for i := range errs {
		if errs[i] == nil {
			errs[i] = err
		}
	}
}

// dump asks for a whole table and calls f with the body of each entry. A table
// that changed meanwhile is read again, so f must start afresh when reset is
// called.
func (c *conn) dump(m message, reset func(), f func(kind uint16, body []byte) error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for range dumpAttempts {
		reset()
		interrupted, err := c.dumpOnce(m, f)
		if err != nil || !interrupted {
			return err
		}
	}
	return errors.New("the table did not stand still while it was read")
}

func (c *conn) dumpOnce(m message, f func(kind uint16, body []byte) error) (interrupted bool, err error) {
	c.out = c.out[:0]
	m.flags |= unix.NLM_F_DUMP
	c.append(m)
	if err := c.send(); err != nil {
		return false, err
	}
	for {
		replies, err := c.receive()
		if err != nil {
			return false, err
		}
		for _, r := range replies {
			if r.Header.Seq != c.seq {
				continue
			}
			interrupted = interrupted || r.Header.Flags&unix.NLM_F_DUMP_INTR != 0
			switch r.Header.Type {
			case unix.NLMSG_DONE:
				return interrupted, nil
			case unix.NLMSG_ERROR:
				return interrupted, replyError(r)
			}
			if err := f(r.Header.Type, r.Data); err != nil {
				return interrupted, err
			}
		}
	}
}

// append adds a message with the next sequence number to the datagram.
func (c *conn) append(m message) {
	c.seq++
	length := unix.SizeofNlMsghdr + len(m.body)
	c.out = binary.NativeEndian.AppendUint32(c.out, uint32(length))
	c.out = binary.NativeEndian.AppendUint16(c.out, m.kind)
	c.out = binary.NativeEndian.AppendUint16(c.out, m.flags|unix.NLM_F_REQUEST)
	c.out = binary.NativeEndian.AppendUint32(c.out, c.seq)
	c.out = binary.NativeEndian.AppendUint32(c.out, 0) // port: the kernel knows
	c.out = append(c.out, m.body...)
	c.out = pad(c.out)
}

func (c *conn) send() error {
	err := ignoringEINTR(func() error {
		return unix.Sendto(c.fd, c.out, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
	})
	return os.NewSyscallError("sendto", err)
}

func (c *conn) receive() ([]syscall.NetlinkMessage, error) {
	var n int
	var from unix.Sockaddr
	err := ignoringEINTR(func() (err error) {
		n, from, err = unix.Recvfrom(c.fd, c.in[:], unix.MSG_TRUNC)
		return err
	})
	switch {
	case errors.Is(err, unix.ENOBUFS):
		// Until what did fit has been read, the kernel drops all else.
		return nil, errors.Join(errLost, drain(c.fd, c.in[:]))
	case err != nil:
		return nil, os.NewSyscallError("recvfrom", err)
	}
	return parseMessages(c.in[:], n, from)
}

// drain throws away what a socket has received.
func drain(fd int, buf []byte) error {
	for {
		switch _, _, err := unix.Recvfrom(fd, buf, unix.MSG_DONTWAIT); err {
		case nil, unix.EINTR, unix.ENOBUFS:
		case unix.EAGAIN:
			return nil
		default:
			return os.NewSyscallError("recvfrom", err)
		}
	}
}

// parseMessages splits a datagram of n bytes, which may have been cut to the
// length of b. What other programs sent gives no messages.
func parseMessages(b []byte, n int, from unix.Sockaddr) ([]syscall.NetlinkMessage, error) {
	if n > len(b) {
		return nil, fmt.Errorf("route message of %d bytes is too long", n)
	}
	if sa, ok := from.(*unix.SockaddrNetlink); !ok || sa.Pid != 0 {
		return nil, nil
	}
	msgs, err := syscall.ParseNetlinkMessage(b[:n])
	if err != nil {
		return nil, fmt.Errorf("parse route message: %w", err)
	}
	return msgs, nil
}

// replyError returns the error that an NLMSG_ERROR carries, nil for an
// acknowledgement.
func replyError(m syscall.NetlinkMessage) error {
	if len(m.Data) < 4 {
		return errors.New("route answer is too short")
	}
	if code := int32(binary.NativeEndian.Uint32(m.Data)); code != 0 {
		return syscall.Errno(-code)
	}
	return nil
}

func ignoringEINTR(f func() error) error {
	for {
		if err := f(); err != unix.EINTR {
			return err
		}
	}
}

// pad fills up to the alignment of netlink.
func pad(b []byte) []byte {
	for len(b)%unix.NLMSG_ALIGNTO != 0 {
		b = append(b, 0)
	}
	return b
}

// appendAttr adds a route attribute with its padding.
func appendAttr(b []byte, kind uint16, value []byte) []byte {
	b = binary.NativeEndian.AppendUint16(b, uint16(unix.SizeofRtAttr+len(value)))
	b = binary.NativeEndian.AppendUint16(b, kind)
	return pad(append(b, value...))
}

// attributes calls f for each route attribute of b.
func attributes(b []byte, f func(kind uint16, value []byte)) error {
	for len(b) >= unix.SizeofRtAttr {
		length := int(binary.NativeEndian.Uint16(b))
		if length < unix.SizeofRtAttr || length > len(b) {
			return fmt.Errorf("route attribute of %d bytes in %d", length, len(b))
		}
		f(binary.NativeEndian.Uint16(b[2:])&^unix.NLA_F_NESTED, b[unix.SizeofRtAttr:length])
		next := (length + unix.NLMSG_ALIGNTO - 1) &^ (unix.NLMSG_ALIGNTO - 1)
		b = b[min(next, len(b)):]
	}
	return nil
}
