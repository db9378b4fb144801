// Package memlog is a cluster of brokers in memory: what a broker's endpoint needs of its
// owner, with logs that lose nothing and masters that a test makes and unmakes. It shows
// how plans, records and confirmations belong together.
package memlog

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	"holdfast/brokerd/pop"
	"holdfast/brokerd/service"
)

// Cluster is what all brokers know. The zero value has nothing and makes no topics.
type Cluster struct {
	AutoCreate uint32 // queues per group of a topic that is made when it is asked for; 0: none is

	mu      sync.Mutex
	view    service.View
	changed chan struct{} // closed at the next change
	logs    map[string]*Log
}

// update changes a copy of the view.
func (c *Cluster) update(change func(v *service.View)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	v := c.view
	v.Groups, v.Brokers, v.Topics = slices.Clone(v.Groups), slices.Clone(v.Brokers), slices.Clone(v.Topics)
	change(&v)
	v.Index++
	c.view = v
	if c.changed != nil {
		close(c.changed)
	}
	c.changed = make(chan struct{})
}

// Group adds a broker group with these brokers, and returns its log.
func (c *Cluster) Group(name string, members ...string) *Log {
	l := &Log{cluster: c, group: name, queues: map[queue][]message{}, ends: map[queue]uint64{}, state: pop.New(pop.DefaultLimits()), changed: make(chan struct{})}
	c.mu.Lock()
	if c.logs == nil {
		c.logs = make(map[string]*Log)
	}
	c.logs[name] = l
	c.mu.Unlock()
	c.update(func(v *service.View) {
		v.Groups = append(v.Groups, service.Group{Name: name, Members: members})
		slices.SortFunc(v.Groups, func(a, b service.Group) int { return strings.Compare(a.Name, b.Name) })
	})
	return l
}

// Broker adds a broker, or gives it another address; without one it is taken away.
func (c *Cluster) Broker(name, address string) {
	c.update(func(v *service.View) {
		v.Brokers = slices.DeleteFunc(v.Brokers, func(b service.Broker) bool { return b.Name == name })
		if address != "" {
			v.Brokers = append(v.Brokers, service.Broker{Name: name, Address: address})
		}
		slices.SortFunc(v.Brokers, func(a, b service.Broker) int { return strings.Compare(a.Name, b.Name) })
	})
}

// Topic makes a topic with as many queues in each group.
func (c *Cluster) Topic(name string, queues uint32) {
	c.update(func(v *service.View) {
		t := service.Topic{Name: name}
		for _, g := range v.Groups {
			t.Queues = append(t.Queues, service.Queues{Group: g.Name, Count: queues})
		}
		v.Topics = slices.DeleteFunc(v.Topics, func(t service.Topic) bool { return t.Name == name })
		v.Topics = append(v.Topics, t)
		slices.SortFunc(v.Topics, func(a, b service.Topic) int { return strings.Compare(a.Name, b.Name) })
	})
}

// Master grants a group to a broker, under the next epoch, or to none. The new master
// builds its state from the whole log.
func (c *Cluster) Master(group, broker string) error {
	c.mu.Lock()
	l := c.logs[group]
	c.mu.Unlock()
	if err := l.grant(broker); err != nil {
		return fmt.Errorf("grant group %s to %s: %w", group, broker, err)
	}
	c.update(func(v *service.View) {
		for i := range v.Groups {
			if g := &v.Groups[i]; g.Name == group {
				g.Grant.Master = broker
				if broker != "" {
					g.Grant.Epoch = v.Index + 1
				}
			}
		}
	})
	return nil
}

// View implements rmqgrpc.Cluster.
func (c *Cluster) View() *service.View {
	c.mu.Lock()
	defer c.mu.Unlock()
	v := c.view
	return &v
}

// Wait implements rmqgrpc.Cluster.
func (c *Cluster) Wait(ctx context.Context, index uint64) error {
	for {
		c.mu.Lock()
		changed, now := c.changed, c.view.Index
		c.mu.Unlock()
		if now > index {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Ensure implements rmqgrpc.Cluster.
func (c *Cluster) Ensure(_ context.Context, topic string) error {
	if _, ok := c.View().Topic(topic); ok {
		return nil
	}
	if c.AutoCreate == 0 {
		return fmt.Errorf("topic %s: %w", topic, service.ErrNoTopic)
	}
	c.Topic(topic, c.AutoCreate)
	return nil
}
