package fsm

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"
)

// An entry is one JSON object:
//
//	{"version":1,"at":1700000000000000000,"actor":"scheduler","atomic":true,
//	 "ops":[{"op":"grant","set":"web","session":12,"cause":"..."}, ...]}
//
// Each op is an object whose first field is "op", its kind; the others are the
// fields of the op's struct, and zero ones may be left out. Reading is strict:
// an unknown version, op or field, a field twice or in other letters, null and
// trailing bytes are errors, as replicas that read an entry differently would
// differ for ever.

// Errors of [DecodeEntry], [Entry.Encode], [State.Apply] and
// [State.ApplyEntry].
var (
	ErrVersion   = errors.New("unknown entry version")
	ErrUnknownOp = errors.New("unknown op")
	ErrMalformed = errors.New("malformed entry")
)

// entryJSON is the envelope of an entry.
type entryJSON struct {
	Version int               `json:"version"`
	At      int64             `json:"at"`
	Actor   string            `json:"actor,omitzero"`
	Atomic  bool              `json:"atomic,omitzero"`
	Ops     []json.RawMessage `json:"ops"`
}

// entryVersion is all that is read of an entry before its version is known.
type entryVersion struct {
	Version int `json:"version"`
}

// check refuses entries that no replica may apply.
func (e Entry) check() error {
	if e.Version != EntryVersion {
		return fmt.Errorf("%w %d, this program knows %d", ErrVersion, e.Version, EntryVersion)
	}
	if len(e.Ops) == 0 {
		return fmt.Errorf("%w: no ops", ErrMalformed)
	}
	opens := 0
	for i, op := range e.Ops {
		if op == nil {
			return fmt.Errorf("%w: op %d is nil", ErrMalformed, i+1)
		}
		if op.Kind() == (OpenSession{}).Kind() {
			opens++
		}
	}
	if opens > 1 {
		return fmt.Errorf("%w: %d sessions opened at one index", ErrMalformed, opens)
	}
	return nil
}

// Encode returns the entry as it stands in the log. It reads its own work back,
// so that nothing gets into the log which would stop the replicas.
func (e Entry) Encode() ([]byte, error) {
	if err := e.check(); err != nil {
		return nil, fmt.Errorf("encode entry: %w", err)
	}
	out := entryJSON{Version: e.Version, At: e.At, Actor: e.Actor, Atomic: e.Atomic}
	for i, op := range e.Ops {
		raw, err := encodeOp(op)
		if err != nil {
			return nil, fmt.Errorf("encode op %d (%s): %w", i+1, op.Kind(), err)
		}
		out.Ops = append(out.Ops, raw)
	}
	data, err := json.Marshal(out)
	if err != nil {
		return nil, fmt.Errorf("encode entry: %w", err)
	}
	if _, err := DecodeEntry(data); err != nil {
		return nil, fmt.Errorf("encode entry: %w", err)
	}
	return data, nil
}

// DecodeEntry reads what Encode wrote. Its errors are ErrVersion, ErrUnknownOp
// or ErrMalformed, wrapped.
func DecodeEntry(data []byte) (Entry, error) {
	// The version comes first: a newer entry may well have other fields.
	var version entryVersion
	if err := json.Unmarshal(data, &version); err != nil {
		return Entry{}, fmt.Errorf("decode entry: %w: %w", ErrMalformed, err)
	}
	if version.Version != EntryVersion {
		return Entry{}, fmt.Errorf("decode entry: %w %d, this program knows %d", ErrVersion, version.Version, EntryVersion)
	}
	if err := checkFields(data); err != nil {
		return Entry{}, fmt.Errorf("decode entry: %w: %w", ErrMalformed, err)
	}
	var in entryJSON
	if err := unmarshalStrict(data, &in); err != nil {
		return Entry{}, fmt.Errorf("decode entry: %w: %w", ErrMalformed, err)
	}
	e := Entry{Version: in.Version, At: in.At, Actor: in.Actor, Atomic: in.Atomic}
	for i, raw := range in.Ops {
		op, err := decodeOp(raw)
		if err != nil {
			return Entry{}, fmt.Errorf("decode op %d: %w", i+1, err)
		}
		e.Ops = append(e.Ops, op)
	}
	if err := e.check(); err != nil {
		return Entry{}, fmt.Errorf("decode entry: %w", err)
	}
	return e, nil
}

// encodeOp writes the op's fields behind its kind.
func encodeOp(op Op) (json.RawMessage, error) {
	fields, err := json.Marshal(op)
	if err != nil {
		return nil, err
	}
	out := fmt.Appendf(nil, `{"op":%q`, op.Kind())
	if len(fields) > len("{}") {
		out = append(out, ',')
	}
	return append(out, fields[1:]...), nil
}

// decodeOp reads the kind, and then the rest into that kind's struct.
func decodeOp(raw []byte) (Op, error) {
	dec := json.NewDecoder(bytes.NewReader(raw))
	for _, want := range []json.Token{json.Delim('{'), "op"} {
		if token, err := dec.Token(); err != nil || token != want {
			return nil, fmt.Errorf(`%w: an op is an object that begins with "op"`, ErrMalformed)
		}
	}
	token, err := dec.Token()
	kind, ok := token.(string)
	if err != nil || !ok {
		return nil, fmt.Errorf("%w: the kind of an op is a string", ErrMalformed)
	}
	decode, ok := decoders[kind]
	if !ok {
		return nil, fmt.Errorf("%w %q", ErrUnknownOp, kind)
	}
	rest := bytes.TrimLeft(raw[dec.InputOffset():], " \t\r\n,")
	op, err := decode(append([]byte{'{'}, rest...))
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrMalformed, kind, err)
	}
	return op, nil
}

// decoders has one row per op that this version knows. It is never written to.
var decoders = map[string]func([]byte) (Op, error){
	OpenSession{}.Kind():    decodeAs[OpenSession],
	CloseSession{}.Kind():   decodeAs[CloseSession],
	Expire{}.Kind():         decodeAs[Expire],
	Rebind{}.Kind():         decodeAs[Rebind],
	Release{}.Kind():        decodeAs[Release],
	GrantSet{}.Kind():       decodeAs[GrantSet],
	RecallSet{}.Kind():      decodeAs[RecallSet],
	ConfirmRemoval{}.Kind(): decodeAs[ConfirmRemoval],
	SetCondition{}.Kind():   decodeAs[SetCondition],
	NoteStall{}.Kind():      decodeAs[NoteStall],
	NoteRouter{}.Kind():     decodeAs[NoteRouter],
	PutSet{}.Kind():         decodeAs[PutSet],
	DeleteSet{}.Kind():      decodeAs[DeleteSet],
	PreferHost{}.Kind():     decodeAs[PreferHost],
	PauseSet{}.Kind():       decodeAs[PauseSet],
	DrainHost{}.Kind():      decodeAs[DrainHost],
	RestoreSets{}.Kind():    decodeAs[RestoreSets],
	PutGroup{}.Kind():       decodeAs[PutGroup],
	DeleteGroup{}.Kind():    decodeAs[DeleteGroup],
	ConfigureGroup{}.Kind(): decodeAs[ConfigureGroup],
	GrantGroup{}.Kind():     decodeAs[GrantGroup],
	ReleaseGroup{}.Kind():   decodeAs[ReleaseGroup],
	RecallGroup{}.Kind():    decodeAs[RecallGroup],
	GrowInSync{}.Kind():     decodeAs[GrowInSync],
	ShrinkInSync{}.Kind():   decodeAs[ShrinkInSync],
	ReturnReplica{}.Kind():  decodeAs[ReturnReplica],
	PutTopic{}.Kind():       decodeAs[PutTopic],
	DeleteTopic{}.Kind():    decodeAs[DeleteTopic],
}

func decodeAs[T Op](data []byte) (Op, error) {
	var op T
	err := unmarshalStrict(data, &op)
	return op, err
}

// unmarshalStrict reads one JSON value, all of whose fields must be known.
func unmarshalStrict(data []byte, v any) error {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		return err
	}
	if _, err := dec.Token(); err != io.EOF {
		return fmt.Errorf("bytes behind the value, at %d", dec.InputOffset())
	}
	return nil
}

// checkFields refuses what encoding/json lets pass: a field that comes twice,
// a name in other letters than ours, null in place of a value.
func checkFields(data []byte) error {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	var open []map[string]bool // per open object its names; nil = an array
	named := false             // the last token of the object was a name
	for {
		token, err := dec.Token()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		switch token {
		case json.Delim('{'):
			open, named = append(open, map[string]bool{}), false
			continue
		case json.Delim('['):
			open, named = append(open, nil), false
			continue
		case json.Delim('}'), json.Delim(']'):
			open, named = open[:len(open)-1], false
			continue
		case nil:
			return fmt.Errorf("null at %d", dec.InputOffset())
		}
		if len(open) == 0 || open[len(open)-1] == nil || named {
			named = false
			continue
		}
		name, fields := token.(string), open[len(open)-1]
		if fields[name] || !plainName(name) {
			return fmt.Errorf("field %q at %d is not ours or comes twice", name, dec.InputOffset())
		}
		fields[name], named = true, true
	}
}

// plainName tells whether a field's name is of the characters that all ours have.
func plainName(name string) bool {
	for i := range len(name) {
		if c := name[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '_' {
			return false
		}
	}
	return true
}

// secret is the JSON form of a session's secret: 64 hexadecimal digits.
type secret [32]byte

func (s secret) MarshalText() ([]byte, error) {
	return hex.AppendEncode(nil, s[:]), nil
}

func (s *secret) UnmarshalText(text []byte) error {
	if len(text) != hex.EncodedLen(len(s)) {
		return fmt.Errorf("a secret has %d digits, not %d", hex.EncodedLen(len(s)), len(text))
	}
	_, err := hex.Decode(s[:], text)
	return err
}

// openJSON is the JSON form of an OpenSession.
type openJSON struct {
	Host   string        `json:"host"`
	TTL    time.Duration `json:"ttl_ns"`
	Secret secret        `json:"secret"`
	Broker *Broker       `json:"broker,omitzero"`
}

// MarshalJSON implements json.Marshaler.
func (op OpenSession) MarshalJSON() ([]byte, error) {
	return json.Marshal(openJSON{op.Host, op.TTL, secret(op.Secret), op.Broker})
}

// UnmarshalJSON implements json.Unmarshaler.
func (op *OpenSession) UnmarshalJSON(data []byte) error {
	var in openJSON
	if err := unmarshalStrict(data, &in); err != nil {
		return err
	}
	*op = OpenSession{in.Host, in.TTL, [32]byte(in.Secret), in.Broker}
	return nil
}

// drainJSON is one drained host: a row, as names of fields are fixed.
type drainJSON struct {
	Host  string `json:"host"`
	Cause string `json:"cause,omitzero"`
}

// drainRows and drainMap turn the drained hosts into rows by name and back.
func drainRows(drained map[string]string) []drainJSON {
	var rows []drainJSON
	for _, host := range slices.Sorted(maps.Keys(drained)) {
		rows = append(rows, drainJSON{host, drained[host]})
	}
	return rows
}

func drainMap(rows []drainJSON) (map[string]string, error) {
	if len(rows) == 0 {
		return nil, nil
	}
	drained := make(map[string]string, len(rows))
	for _, row := range rows {
		if _, ok := drained[row.Host]; ok {
			return nil, fmt.Errorf("host %q is drained twice", row.Host)
		}
		drained[row.Host] = row.Cause
	}
	return drained, nil
}

// restoreJSON is the JSON form of a RestoreSets.
type restoreJSON struct {
	Sets    []Set       `json:"sets,omitzero"`
	Drained []drainJSON `json:"drained,omitzero"`
	Paused  bool        `json:"paused,omitzero"`
	Cause   string      `json:"cause,omitzero"`
}

// MarshalJSON implements json.Marshaler.
func (op RestoreSets) MarshalJSON() ([]byte, error) {
	return json.Marshal(restoreJSON{op.Sets, drainRows(op.Drained), op.Paused, op.Cause})
}

// UnmarshalJSON implements json.Unmarshaler.
func (op *RestoreSets) UnmarshalJSON(data []byte) error {
	var in restoreJSON
	if err := unmarshalStrict(data, &in); err != nil {
		return err
	}
	drained, err := drainMap(in.Drained)
	if err != nil {
		return err
	}
	*op = RestoreSets{in.Sets, drained, in.Paused, in.Cause}
	return nil
}
