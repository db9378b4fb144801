package tenure

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"holdfast/coordinator/lease"
	"holdfast/vipagent/vip"
)

// fileVersion is the version of the session file's form.
const fileVersion = 1

// File is what a restarted agent needs to go on where it stood (agent rule 6). It is
// valid on one boot of one host only.
type File struct {
	Version int    `json:"version"`
	Host    string `json:"host"`
	BootID  string `json:"boot_id"`
	// Sessions has the session in use and, after it, the one that is to replace it.
	Sessions []StoredSession `json:"sessions"`
	// Rebinding: the entry that moves the grants from the first to the second
	// session may have been sent (agent rule 7).
	Rebinding bool `json:"rebinding,omitempty"`
	// Index is that of the view that Grants is from; Grants has what is held.
	Index  uint64  `json:"index"`
	Grants []Grant `json:"grants"`
	// Floors (agent rules 3 and 8): the highest epoch released.
	SetFloors     Floors[Set]   `json:"set_floors"`
	AddressFloors addressFloors `json:"address_floors"`
}

// StoredSession is a session in a [File].
type StoredSession struct {
	ID       uint64     `json:"id"`
	Secret   []byte     `json:"secret"`
	TTL      int64      `json:"ttl_ms"`
	Deadline lease.Time `json:"deadline"` // CLOCK_BOOTTIME ns, proven by answers; 0 = none
}

// Session returns the session; the error says that it is not complete.
func (s StoredSession) Session() (lease.Session, error) {
	out := lease.Session{ID: s.ID, TTL: time.Duration(s.TTL) * time.Millisecond}
	if s.ID == 0 || s.TTL <= 0 || len(s.Secret) != len(out.Secret) {
		return out, fmt.Errorf("session %d is not complete", s.ID)
	}
	copy(out.Secret[:], s.Secret)
	return out, nil
}

// DecodeFile reads a session file. It is strict: a file that is not understood as a
// whole is an error, and then nothing is adopted.
func DecodeFile(b []byte) (*File, error) {
	var f File
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&f); err != nil {
		return nil, fmt.Errorf("read session file: %w", err)
	}
	if dec.More() {
		return nil, errors.New("read session file: more than one value")
	}
	if f.Version != fileVersion {
		return nil, fmt.Errorf("read session file: version %d, not %d", f.Version, fileVersion)
	}
	return &f, nil
}

// Encode writes a session file.
func (f *File) Encode() ([]byte, error) {
	f.Version = fileVersion
	b, err := json.Marshal(f)
	if err != nil {
		return nil, fmt.Errorf("encode session file: %w", err)
	}
	return b, nil
}

// File returns what the session file has to say now.
func (b *Book) File(l Leases) *File {
	f := &File{
		Host: b.me.Host, BootID: b.me.BootID, Index: b.view.Index, Rebinding: b.rebinding,
		Sessions: make([]StoredSession, 0, 2), Grants: b.storedGrants(),
		SetFloors: b.setFloors, AddressFloors: b.addressFloors,
	}
	for _, s := range [...]*lease.Session{&b.cur, &b.next} {
		if s.ID != 0 {
			deadline, _ := l.Lease(s.ID)
			f.Sessions = append(f.Sessions, StoredSession{s.ID, slices.Clone(s.Secret[:]), s.TTL.Milliseconds(), deadline})
		}
	}
	return f
}

// storedGrants is what is up, in the form of grants with resolved interfaces.
func (b *Book) storedGrants() []Grant {
	out := []Grant{}
	for i := range b.view.Grants {
		g := &b.view.Grants[i]
		kept := Grant{Set: g.Set, Session: g.Session, Epoch: g.Epoch}
		for _, c := range g.Addresses {
			if u, ok := b.UpAt(c.Prefix.Addr()); ok && u.Epoch == g.Epoch {
				kept.Addresses = append(kept.Addresses, Claimed{c.Prefix, u.Interface, c.Claim})
			}
		}
		if len(kept.Addresses) > 0 {
			out = append(out, kept)
		}
	}
	return out
}

// Stored says that the file of now is written, and returns what may be told to the
// quorum because of that: the floor is in the file before a release is sent (agent
// rule 5).
func (b *Book) Stored() Parting {
	b.dirty = false
	b.stored = stored{rebinding: b.rebinding}
	for _, s := range [...]*lease.Session{&b.cur, &b.next} {
		if s.ID != 0 {
			b.stored.sessions = append(b.stored.sessions, s.ID)
		}
	}
	p := b.parting
	b.parting = Parting{}
	return p
}

// NotStored says that the file could not be written.
func (b *Book) NotStored() { b.dirty = true }

// Deleted says that the session file is gone, so that nobody can adopt what was in
// it.
func (b *Book) Deleted() { b.stored = stored{} }

// Adopted is a session that was taken over from a predecessor.
type Adopted struct {
	Session  lease.Session
	Deadline lease.Time // 0 if it has none ahead
}

// Adopt takes over from a former process, if its session file allows it (agent rule
// 6). What is up under an adopted session stays untouched. If nothing is adopted, why
// says so.
func (b *Book) Adopt(f *File, now lease.Time) (sessions []Adopted, why string) {
	for _, s := range f.Sessions {
		b.stored.sessions = append(b.stored.sessions, s.ID)
	}
	b.stored.rebinding = f.Rebinding
	if sessions, why = b.adoptable(f, now); why != "" {
		if f.BootID == b.me.BootID && f.Host == b.me.Host {
			// We have the lock and will sweep: these sessions never act again, and
			// closing them frees what they held at once.
			for _, s := range f.Sessions {
				b.closing = append(b.closing, Closing{s.ID, "its agent was restarted too late to go on"})
			}
		}
		b.dirty = true
		return nil, why
	}
	b.cur, b.rebinding = sessions[0].Session, f.Rebinding && len(sessions) > 1
	b.view = View{Index: f.Index, Grants: f.Grants}
	for i, s := range sessions {
		b.view.Sessions = append(b.view.Sessions, s.Session.ID)
		if i > 0 {
			b.next = s.Session
		}
	}
	b.setFloors, b.addressFloors = f.SetFloors, f.AddressFloors
	for i := range f.Grants {
		g := &f.Grants[i]
		for _, c := range g.Addresses {
			b.put(Up{vip.Address{Prefix: c.Prefix, Interface: c.Interface}, g.Set, g.Session, g.Epoch, true})
		}
	}
	b.viewAt, b.newest, b.alive = now, f.Index, true
	return sessions, ""
}

// adoptable returns the sessions of the file, or why they are not adopted.
func (b *Book) adoptable(f *File, now lease.Time) (sessions []Adopted, why string) {
	switch {
	case f.BootID != b.me.BootID:
		return nil, "the host was rebooted"
	case f.Host != b.me.Host:
		return nil, fmt.Sprintf("it is of host %s", f.Host)
	case len(f.Sessions) == 0:
		return nil, "there was none"
	case len(f.Sessions) > 2:
		return nil, "the file has more than two"
	}
	for _, stored := range f.Sessions {
		s, err := stored.Session()
		if err != nil {
			return nil, err.Error()
		}
		// A new session that has no lease yet, and that no Rebind was sent for, is
		// not needed for going on.
		if now >= stored.Deadline && !(len(sessions) == 1 && !f.Rebinding) {
			return nil, fmt.Sprintf("session %d has lapsed", s.ID)
		}
		if stored.Deadline.Sub(now) > s.TTL {
			return nil, fmt.Sprintf("deadline of session %d is farther away than its ttl", s.ID)
		}
		deadline := stored.Deadline
		if now >= deadline {
			deadline = 0
		}
		sessions = append(sessions, Adopted{s, deadline})
	}
	return sessions, ""
}
