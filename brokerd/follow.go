package brokerd

import "holdfast/brokerd/replica"

// pump sends each follower what its window has room for.
func (o *owner) pump() {
	if o.replica.Leads() == 0 {
		return
	}
	for name := range o.peers {
		for o.batch(name) {
		}
		if o.now().Sub(o.sent[name]) >= o.config.TTL/5 {
			o.life(name)
		}
	}
}

// batch sends one batch, and says whether there may be more.
func (o *owner) batch(name string) bool {
	a, ok := o.replica.Next(name, batchBytes)
	if !ok {
		return false
	}
	var records []byte
	if a.To > a.From {
		var err error
		records, err = o.disk.log.Read(nil, a.From, int(a.To-a.From))
		if err != nil {
			o.log.Warn("the log cannot be read for a follower", "follower", name, "offset", a.From, "err", err)
			return false
		}
		if len(records) == 0 {
			return false
		}
		a.To = a.From + uint64(len(records))
	}
	b, err := replica.Marshal(a)
	if err != nil {
		o.log.Error("message cannot be sent", "to", name, "err", err)
		return false
	}
	o.replica.Sent(name, a)
	o.sent[name] = o.now()
	if !o.edges.Peers.Send(name, b, records) {
		o.replica.Rewind(name)
		return false
	}
	return true
}

// life tells a follower that its master is there.
func (o *owner) life(name string) {
	if a, ok := o.replica.Life(name); ok {
		o.sent[name] = o.now()
		o.send(name, a)
	}
}
