package tenure

import (
	"encoding/json"
	"slices"
	"strings"
)

// Set is a set's name, as a key.
type Set string

// Compare orders names.
func (s Set) Compare(o Set) int { return strings.Compare(string(s), string(o)) }

// Floors has the highest epoch that was released, by set or by address. A value is
// never changed once it is made, so copies share it. The zero value has no floors.
type Floors[K interface {
	comparable
	Compare(K) int
}] struct {
	rows []floor[K] // by key
}

type floor[K any] struct {
	key   K
	epoch uint64
}

// Of returns the floor of a key, 0 if there is none.
func (f Floors[K]) Of(key K) uint64 {
	if i, ok := f.find(key); ok {
		return f.rows[i].epoch
	}
	return 0
}

// Len returns how many keys have a floor.
func (f Floors[K]) Len() int { return len(f.rows) }

func (f Floors[K]) find(key K) (int, bool) {
	return slices.BinarySearchFunc(f.rows, key, func(r floor[K], k K) int { return r.key.Compare(k) })
}

// raised returns the floors with some of them raised; none is ever lowered.
func (f Floors[K]) raised(by []floor[K]) Floors[K] {
	by = slices.DeleteFunc(by, func(r floor[K]) bool { return r.epoch <= f.Of(r.key) })
	if len(by) == 0 {
		return f
	}
	rows := make([]floor[K], 0, len(f.rows)+len(by))
	rows = append(append(rows, f.rows...), by...)
	slices.SortStableFunc(rows, func(a, b floor[K]) int { return a.key.Compare(b.key) })
	out := rows[:1]
	for _, r := range rows[1:] {
		if last := &out[len(out)-1]; last.key == r.key {
			last.epoch = max(last.epoch, r.epoch)
		} else {
			out = append(out, r)
		}
	}
	return Floors[K]{out}
}

// MarshalJSON writes an object of epochs by key.
func (f Floors[K]) MarshalJSON() ([]byte, error) {
	m := make(map[K]uint64, len(f.rows))
	for _, r := range f.rows {
		m[r.key] = r.epoch
	}
	return json.Marshal(m)
}

// UnmarshalJSON reads what MarshalJSON writes.
func (f *Floors[K]) UnmarshalJSON(b []byte) error {
	var m map[K]uint64
	if err := json.Unmarshal(b, &m); err != nil {
		return err
	}
	rows := make([]floor[K], 0, len(m))
	for k, e := range m {
		rows = append(rows, floor[K]{k, e})
	}
	*f = Floors[K]{}.raised(rows)
	return nil
}
