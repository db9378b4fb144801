package linux

import (
	"errors"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestStaleAnswers: an answer that nobody waited for is not taken for one to a
// later request.
func TestStaleAnswers(t *testing.T) {
	h, _ := pair(t)
	k := h.kernel()
	bad := encodeAdd(place{ip4, 9999}, Protocol, 60, unix.NLM_F_CREATE)
	for range 3 {
		k.writes.out = k.writes.out[:0]
		k.writes.append(bad)
		h.must(k.writes.send())
	}
	good := encodeAdd(place{ip4, h.get("eth0").Attrs().Index}, Protocol, 60, unix.NLM_F_CREATE)
	h.must(k.writes.do([]message{good}, 1)[0])
	h.must(k.Remove(vips("192.0.2.5/24 eth0")))
}

// TestLostAnswers: the kernel has no room for the errors of a batch. Not one of
// its messages may pass for done.
func TestLostAnswers(t *testing.T) {
	h, _ := pair(t)
	k := h.kernel()
	h.must(unix.SetsockoptInt(k.writes.fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 0))
	var msgs []message
	for _, a := range series(500, false, "eth0") {
		msgs = append(msgs, encodeAdd(place{a.IP(), 9999}, Protocol, 60, unix.NLM_F_CREATE))
	}
	lost := 0
	for i, err := range k.writes.do(msgs, batchSize) {
		switch {
		case errors.Is(err, errLost):
			lost++
		case !errors.Is(err, unix.ENODEV):
			t.Fatalf("message %d: %v", i, err)
		}
	}
	if lost == 0 {
		t.Error("all answers were there: this test shows nothing")
	}
	set := vips("10.1.0.100/16 eth0", "10.1.0.101/16 eth0")
	h.must(k.Add(set, time.Minute))
	h.must(k.Remove(set))
}

// TestBatchErrors: each message of a batch gets its own error from the kernel.
func TestBatchErrors(t *testing.T) {
	h, _ := pair(t)
	k := h.kernel()
	index := h.get("eth0").Attrs().Index
	var msgs []message
	for i, a := range series(1100, false, "eth0") {
		p := place{a.IP(), index}
		if i%3 == 0 {
			p.index = 9999
		}
		msgs = append(msgs, encodeAdd(p, Protocol, 60, unix.NLM_F_CREATE|unix.NLM_F_EXCL))
	}
	errs := k.writes.do(msgs, batchSize)
	for i, err := range errs {
		if (i%3 == 0) != errors.Is(err, unix.ENODEV) || i%3 != 0 && err != nil {
			t.Fatalf("message %d: %v", i, err)
		}
	}
	errs = k.writes.do(msgs, batchSize)
	for i, err := range errs {
		if i%3 != 0 && !errors.Is(err, unix.EEXIST) {
			t.Fatalf("message %d again: %v", i, err)
		}
	}
}
