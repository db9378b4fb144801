package replica

import (
	"fmt"
	"maps"
)

// Clone and Key are for the checker, which goes on from one state in many ways.

func (r *Replica) Clone() *Replica {
	c := *r
	if r.master != nil {
		m := *r.master
		m.acked, m.proposed = maps.Clone(m.acked), maps.Clone(m.proposed)
		c.master = &m
	}
	return &c
}

func (r *Replica) Key() string {
	c := *r
	c.master = nil
	return fmt.Sprintf("%v%v", c, func() any {
		if r.master == nil {
			return nil
		}
		return *r.master
	}())
}
