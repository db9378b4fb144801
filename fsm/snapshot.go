package fsm

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"maps"
	"net/netip"
	"slices"
	"time"
)

// A snapshot is a header and a body, numbers big endian:
//
//	 0               8       12              20      24
//	+---------------+-------+---------------+-------+-----------...
//	| "HOLDFAST"    | version | body length | CRC   | body: JSON
//	+---------------+-------+---------------+-------+-----------...
//
// The CRC (Castagnoli) is over bytes 0 to 19 and the body. All lists of the
// body are sorted, so that equal states give equal bytes.
//
// A snapshot holds the sessions' secrets.
const (
	snapshotMagic   = "HOLDFAST"
	snapshotVersion = 1

	versionOffset = len(snapshotMagic)
	lengthOffset  = versionOffset + 4
	crcOffset     = lengthOffset + 8
	bodyOffset    = crcOffset + 4
)

// CorruptError says that a snapshot cannot be read.
type CorruptError struct {
	Offset int // of the byte where reading stopped, or of the field that does not fit
	Reason string
}

// Error implements error.
func (e *CorruptError) Error() string {
	return fmt.Sprintf("corrupt snapshot: byte %d: %s", e.Offset, e.Reason)
}

// stateJSON is the body of a snapshot.
type stateJSON struct {
	Applied       uint64        `json:"applied"`
	Configuration uint64        `json:"configuration"`
	Settings      Settings      `json:"settings"`
	Sessions      []sessionJSON `json:"sessions,omitzero"`
	Sets          []*Set        `json:"sets"`
	Grants        []*Grant      `json:"grants"`
	Retiring      []*Retiring   `json:"retiring"`
	Drained       []drainJSON   `json:"drained,omitzero"`
	Groups        []*Group      `json:"groups,omitempty"` // none in snapshots of programs before brokers
	Topics        []*Topic      `json:"topics,omitempty"`
	Audit         []Change      `json:"audit,omitzero"`
}

// sessionJSON is the JSON form of a Session.
type sessionJSON struct {
	ID         SessionID       `json:"id"`
	Host       string          `json:"host"`
	TTL        time.Duration   `json:"ttl_ns"`
	Secret     secret          `json:"secret"`
	Conditions []conditionJSON `json:"conditions,omitzero"`
	Routers    []routerJSON    `json:"routers,omitzero"`
	Broker     *Broker         `json:"broker,omitzero"`
}

// routerJSON is one virtual router of a session: a row, sorted by set.
type routerJSON struct {
	Set string `json:"set"`
	Router
}

// conditionJSON is one condition of a session: a row, sorted by set.
type conditionJSON struct {
	Set string `json:"set"`
	Condition
}

// Snapshot returns the state in the form that Restore reads. Equal states give
// equal bytes.
func (s *State) Snapshot() []byte {
	in := stateJSON{
		Applied:       s.applied,
		Configuration: s.configuration,
		Settings:      s.settings,
		Sets:          s.Sets(),
		Grants:        s.Grants(),
		Retiring:      s.Retiring(),
		Drained:       drainRows(s.drained),
		Groups:        s.Groups(),
		Topics:        s.Topics(),
		Audit:         s.audit,
	}
	for _, session := range s.Sessions() {
		row := sessionJSON{ID: session.ID, Host: session.Host, TTL: session.TTL, Secret: secret(session.Secret), Broker: session.Broker}
		for _, set := range slices.Sorted(maps.Keys(session.Conditions)) {
			row.Conditions = append(row.Conditions, conditionJSON{set, session.Conditions[set]})
		}
		for _, set := range slices.Sorted(maps.Keys(session.Routers)) {
			row.Routers = append(row.Routers, routerJSON{set, session.Routers[set]})
		}
		in.Sessions = append(in.Sessions, row)
	}
	body, err := json.Marshal(in)
	if err != nil {
		// Only an address that is none could do that, and no op lets one in.
		panic(fmt.Sprintf("encode state: %v", err))
	}
	return frame(body)
}

// frame puts the header before a body.
func frame(body []byte) []byte {
	out := make([]byte, bodyOffset, bodyOffset+len(body))
	copy(out, snapshotMagic)
	binary.BigEndian.PutUint32(out[versionOffset:], snapshotVersion)
	binary.BigEndian.PutUint64(out[lengthOffset:], uint64(len(body)))
	out = append(out, body...)
	binary.BigEndian.PutUint32(out[crcOffset:], checksum(out))
	return out
}

// checksum is the CRC over all of a snapshot but the field that holds it.
func checksum(data []byte) uint32 {
	table := crc32.MakeTable(crc32.Castagnoli)
	return crc32.Update(crc32.Checksum(data[:crcOffset], table), table, data[bodyOffset:])
}

// Restore reads what Snapshot wrote. The error is a *[CorruptError]; a snapshot
// that was cut short, changed or contradicts itself is never half read.
func Restore(data []byte) (*State, error) {
	if len(data) < bodyOffset {
		return nil, &CorruptError{len(data), fmt.Sprintf("cut short within the header of %d bytes", bodyOffset)}
	}
	if string(data[:versionOffset]) != snapshotMagic {
		return nil, &CorruptError{0, "not a snapshot of Holdfast's state"}
	}
	if v := binary.BigEndian.Uint32(data[versionOffset:]); v != snapshotVersion {
		return nil, &CorruptError{versionOffset, fmt.Sprintf("format version %d, this program knows %d", v, snapshotVersion)}
	}
	body := data[bodyOffset:]
	switch length := binary.BigEndian.Uint64(data[lengthOffset:]); {
	case length > uint64(len(body)):
		return nil, &CorruptError{len(data), fmt.Sprintf("cut short: %d of %d bytes of the body", len(body), length)}
	case length < uint64(len(body)):
		return nil, &CorruptError{bodyOffset + int(length), fmt.Sprintf("%d bytes too many", uint64(len(body))-length)}
	}
	if want, got := binary.BigEndian.Uint32(data[crcOffset:]), checksum(data); want != got {
		return nil, &CorruptError{crcOffset, fmt.Sprintf("checksum is %08x, the bytes give %08x", want, got)}
	}
	var in stateJSON
	if err := unmarshalStrict(body, &in); err != nil {
		return nil, &CorruptError{bodyOffset + jsonOffset(err), err.Error()}
	}
	s, err := in.state()
	if err == nil {
		err = s.check()
	}
	if err != nil {
		return nil, &CorruptError{bodyOffset, err.Error()}
	}
	return s, nil
}

// jsonOffset is the place in the body that a JSON error names, 0 if none.
func jsonOffset(err error) int {
	if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
		return int(syntax.Offset)
	}
	if mismatch, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		return int(mismatch.Offset)
	}
	return 0
}

// state builds the tables from the lists and refuses rows that come twice.
func (in *stateJSON) state() (*State, error) {
	s := New()
	s.applied, s.configuration, s.settings, s.audit = in.Applied, in.Configuration, in.Settings, in.Audit
	if len(s.audit) == 0 {
		s.audit = nil // empty has one form
	}
	for _, row := range in.Sessions {
		session := &Session{ID: row.ID, Host: row.Host, TTL: row.TTL, Secret: [32]byte(row.Secret), Broker: row.Broker}
		for _, c := range row.Conditions {
			if session.Conditions == nil {
				session.Conditions = make(map[string]Condition, len(row.Conditions))
			}
			session.Conditions[c.Set] = c.Condition
		}
		if len(session.Conditions) != len(row.Conditions) {
			return nil, fmt.Errorf("session %d has two conditions for one set", row.ID)
		}
		for _, r := range row.Routers {
			if session.Routers == nil {
				session.Routers = make(map[string]Router, len(row.Routers))
			}
			session.Routers[r.Set] = r.Router
		}
		if len(session.Routers) != len(row.Routers) {
			return nil, fmt.Errorf("session %d has two routers for one set", row.ID)
		}
		s.sessions[row.ID] = session
	}
	if len(s.sessions) != len(in.Sessions) {
		return nil, errors.New("a session comes twice")
	}
	for _, session := range s.Sessions() {
		if session.Broker != nil {
			continue
		}
		s.hosts[session.Host] = append(s.hosts[session.Host], session.ID)
	}
	if err := fill(s.sets, in.Sets, func(set *Set) string { return set.Name }); err != nil {
		return nil, fmt.Errorf("read sets: %w", err)
	}
	if err := fill(s.grants, in.Grants, func(grant *Grant) string { return grant.Set }); err != nil {
		return nil, fmt.Errorf("read grants: %w", err)
	}
	if err := fill(s.retiring, in.Retiring, func(row *Retiring) netip.Addr { return row.Address }); err != nil {
		return nil, fmt.Errorf("read retiring addresses: %w", err)
	}
	if err := fill(s.groups, in.Groups, func(g *Group) string { return g.Name }); err != nil {
		return nil, fmt.Errorf("read groups: %w", err)
	}
	if err := fill(s.topics, in.Topics, func(t *Topic) string { return t.Name }); err != nil {
		return nil, fmt.Errorf("read topics: %w", err)
	}
	drained, err := drainMap(in.Drained)
	if err != nil {
		return nil, err
	}
	maps.Copy(s.drained, drained)
	return s, nil
}

// fill puts rows into a table and refuses empty ones and equal keys.
func fill[K comparable, V any](table map[K]*V, rows []*V, key func(*V) K) error {
	for _, row := range rows {
		if row == nil {
			return errors.New("an empty row")
		}
		if _, ok := table[key(row)]; ok {
			return fmt.Errorf("%v comes twice", key(row))
		}
		table[key(row)] = row
	}
	return nil
}
