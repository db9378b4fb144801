package linux

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	nftaSetExpr = 0x11 // NFTA_SET_EXPR: what each element of a set carries
	// An attribute holds less than 64 KB; an element of ours takes 140 bytes at
	// most.
	elementsPerMessage = 400
	// Without CAP_NET_ADMIN of the first user namespace a socket sends no more
	// than 208 KB at once. One address takes 1,000 bytes when all changes.
	addressesPerTransaction = 150
	// longestTimeout is more than any lease. It bounds what the kernel has to
	// convert.
	longestTimeout = 24 * time.Hour
)

// nftSet is a set or a map of a table.
type nftSet struct {
	table    string // "" = nftTable
	family   byte
	name     string
	keyType  uint32 // for what nft prints only
	keyLen   uint32
	isMap    bool // to slot numbers
	timed    bool
	counting bool
}

// nftElement is an element of a set.
type nftElement struct {
	key     string // raw bytes
	data    string // raw bytes; in a map
	comment string

	left    time.Duration // until it vanishes; in a timed set
	packets uint64        // read only; in a counting set
}

// nftMessage is a message of nf_tables: struct nfgenmsg and attributes.
func nftMessage(kind, flags uint16, family byte, attrs []byte) message {
	body := append([]byte{family, unix.NFNETLINK_V0, 0, 0}, attrs...)
	return message{kind: unix.NFNL_SUBSYS_NFTABLES<<8 | kind, flags: flags, body: body}
}

func appendString(b []byte, kind uint16, s string) []byte {
	return appendAttr(b, kind, append([]byte(s), 0))
}

func appendUint32(b []byte, kind uint16, v uint32) []byte {
	return appendAttr(b, kind, binary.BigEndian.AppendUint32(nil, v))
}

func appendUint64(b []byte, kind uint16, v uint64) []byte {
	return appendAttr(b, kind, binary.BigEndian.AppendUint64(nil, v))
}

func appendNest(b []byte, kind uint16, inner []byte) []byte {
	return appendAttr(b, kind|unix.NLA_F_NESTED, inner)
}

// userdata is a comment as nft keeps it, so that it prints ours: type 0, length,
// text with a zero byte.
func userdata(comment string) []byte {
	return append([]byte{0, byte(len(comment) + 1)}, append([]byte(comment), 0)...)
}

func parseUserdata(b []byte) string {
	for len(b) >= 2 && len(b) >= 2+int(b[1]) {
		if b[0] == 0 {
			return strings.TrimRight(string(b[2:2+int(b[1])]), "\x00")
		}
		b = b[2+int(b[1]):]
	}
	return ""
}

func tableMessage(kind, flags uint16, family byte, tableFlags uint32) message {
	return namedTableMessage(nftTable, kind, flags, family, tableFlags)
}

func namedTableMessage(table string, kind, flags uint16, family byte, tableFlags uint32) message {
	b := appendString(nil, unix.NFTA_TABLE_NAME, table)
	if kind == unix.NFT_MSG_NEWTABLE {
		b = appendUint32(b, unix.NFTA_TABLE_FLAGS, tableFlags)
	}
	return nftMessage(kind, flags, family, b)
}

// message creates the set; id is a number of its own within the transaction.
func (s nftSet) message(id uint32) message {
	var flags uint32
	if s.isMap {
		flags |= unix.NFT_SET_MAP
	}
	if s.timed {
		flags |= unix.NFT_SET_TIMEOUT
	}
	b := appendString(nil, unix.NFTA_SET_TABLE, cmp.Or(s.table, nftTable))
	b = appendString(b, unix.NFTA_SET_NAME, s.name)
	b = appendUint32(b, unix.NFTA_SET_FLAGS, flags)
	b = appendUint32(b, unix.NFTA_SET_KEY_TYPE, s.keyType)
	b = appendUint32(b, unix.NFTA_SET_KEY_LEN, s.keyLen)
	if s.isMap {
		b = appendUint32(b, unix.NFTA_SET_DATA_TYPE, nftTypeMark)
		b = appendUint32(b, unix.NFTA_SET_DATA_LEN, 4)
	}
	b = appendUint32(b, unix.NFTA_SET_ID, id)
	if s.counting {
		counter := appendString(nil, unix.NFTA_EXPR_NAME, "counter")
		counter = appendNest(counter, unix.NFTA_EXPR_DATA, nil)
		b = appendNest(b, nftaSetExpr, counter)
	}
	return nftMessage(unix.NFT_MSG_NEWSET, unix.NLM_F_CREATE, s.family, b)
}

// appendTo puts the times last: a renewal changes just them (see patchLeft).
func (e nftElement) appendTo(b []byte) []byte {
	in := appendNest(nil, unix.NFTA_SET_ELEM_KEY, appendAttr(nil, unix.NFTA_DATA_VALUE, []byte(e.key)))
	if e.data != "" {
		in = appendNest(in, unix.NFTA_SET_ELEM_DATA, appendAttr(nil, unix.NFTA_DATA_VALUE, []byte(e.data)))
	}
	if e.comment != "" {
		in = appendAttr(in, unix.NFTA_SET_ELEM_USERDATA, userdata(e.comment))
	}
	if e.left > 0 {
		// Without the expiration an element that is there already would keep its
		// old one.
		in = appendUint64(in, unix.NFTA_SET_ELEM_TIMEOUT, uint64(e.left.Milliseconds()))
		in = appendUint64(in, unix.NFTA_SET_ELEM_EXPIRATION, uint64(e.left.Milliseconds()))
	}
	return appendNest(b, unix.NFTA_LIST_ELEM, in)
}

// patchLeft sets the times of a message with one timed element.
func patchLeft(m message, left time.Duration) {
	ms := uint64(left.Milliseconds()) // rounded down
	binary.BigEndian.PutUint64(m.body[len(m.body)-20:], ms)
	binary.BigEndian.PutUint64(m.body[len(m.body)-8:], ms)
}

// elements makes the messages that add elements to a set or delete them.
func (s nftSet) elements(kind uint16, list []nftElement) []message {
	var out []message
	for len(list) > 0 {
		n := min(len(list), elementsPerMessage)
		var in []byte
		for _, e := range list[:n] {
			in = e.appendTo(in)
		}
		list = list[n:]
		b := appendString(nil, unix.NFTA_SET_ELEM_LIST_TABLE, cmp.Or(s.table, nftTable))
		b = appendString(b, unix.NFTA_SET_ELEM_LIST_SET, s.name)
		b = appendNest(b, unix.NFTA_SET_ELEM_LIST_ELEMENTS, in)
		out = append(out, nftMessage(kind, unix.NLM_F_CREATE, s.family, b))
	}
	return out
}

// parseElement reads one element of a dump.
func parseElement(b []byte) (nftElement, error) {
	var e nftElement
	var bad error
	value := func(b []byte) (s string) {
		bad = errors.Join(bad, attributes(b, func(kind uint16, v []byte) {
			if kind == unix.NFTA_DATA_VALUE {
				s = string(v)
			}
		}))
		return s
	}
	err := attributes(b, func(kind uint16, v []byte) {
		switch kind {
		case unix.NFTA_SET_ELEM_KEY:
			e.key = value(v)
		case unix.NFTA_SET_ELEM_DATA:
			e.data = value(v)
		case unix.NFTA_SET_ELEM_USERDATA:
			e.comment = parseUserdata(v)
		case unix.NFTA_SET_ELEM_EXPIRATION:
			if len(v) == 8 {
				e.left = time.Duration(binary.BigEndian.Uint64(v)) * time.Millisecond
			}
		case unix.NFTA_SET_ELEM_EXPR:
			e.packets = parseCounter(v)
		}
	})
	return e, errors.Join(err, bad)
}

// parseCounter returns the packets of a counter expression, 0 if it is none.
func parseCounter(b []byte) (packets uint64) {
	_ = attributes(b, func(kind uint16, v []byte) {
		if kind != unix.NFTA_EXPR_DATA {
			return
		}
		_ = attributes(v, func(kind uint16, v []byte) {
			if kind == unix.NFTA_COUNTER_PACKETS && len(v) == 8 {
				packets = binary.BigEndian.Uint64(v)
			}
		})
	})
	return packets
}

// dumpElements reads a set.
func (c *conn) dumpElements(s nftSet) ([]nftElement, error) {
	b := appendString(nil, unix.NFTA_SET_ELEM_LIST_TABLE, nftTable)
	b = appendString(b, unix.NFTA_SET_ELEM_LIST_SET, s.name)
	var out []nftElement
	var bad error
	err := c.dump(nftMessage(unix.NFT_MSG_GETSETELEM, 0, s.family, b), func() { out, bad = nil, nil }, func(_ uint16, body []byte) error {
		return nftAttributes(body, func(kind uint16, list []byte) {
			if kind != unix.NFTA_SET_ELEM_LIST_ELEMENTS {
				return
			}
			bad = errors.Join(bad, attributes(list, func(_ uint16, v []byte) {
				e, err := parseElement(v)
				out, bad = append(out, e), errors.Join(bad, err)
			}))
		})
	})
	if err := errors.Join(err, bad); err != nil {
		return nil, fmt.Errorf("read set %s: %w", s.name, err)
	}
	return out, nil
}

// nftAttributes calls f for the attributes behind struct nfgenmsg.
func nftAttributes(body []byte, f func(kind uint16, value []byte)) error {
	if len(body) < 4 {
		return errors.New("nf_tables message is too short")
	}
	return attributes(body[4:], f)
}

// transact makes all changes or none.
func (c *conn) transact(msgs []message) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.transactLocked(msgs)
}

func (c *conn) transactLocked(msgs []message) error {
	c.out = c.out[:0]
	subsystem := binary.BigEndian.AppendUint16([]byte{unix.AF_UNSPEC, unix.NFNETLINK_V0}, unix.NFNL_SUBSYS_NFTABLES)
	c.append(message{kind: unix.NFNL_MSG_BATCH_BEGIN, body: subsystem})
	first := c.seq
	for i, m := range msgs {
		if i == len(msgs)-1 {
			m.flags |= unix.NLM_F_ACK
		}
		c.append(m)
	}
	last := c.seq
	c.append(message{kind: unix.NFNL_MSG_BATCH_END, body: subsystem})
	if err := c.send(); err != nil {
		return err
	}
	var failed error
	for {
		replies, err := c.receive()
		if err != nil {
			return err
		}
		for _, r := range replies {
			i := r.Header.Seq - first // wraps for answers to earlier transactions
			if i > last-first || r.Header.Type != unix.NLMSG_ERROR {
				continue
			}
			if failed == nil {
				failed = replyError(r)
			}
			// The whole was refused, or the last message has its answer. The
			// kernel tells of a failed message before it.
			if i == 0 || i == last-first {
				return failed
			}
		}
	}
}
