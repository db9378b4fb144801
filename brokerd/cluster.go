package brokerd

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"

	"holdfast/brokerd/service"
	pb "holdfast/coordinator/api/holdfastpb"
)

// Cluster is what this broker knows of the others, for the endpoints of clients.
type Cluster struct {
	config Config
	groups Groups
	keeper *keeper

	session atomic.Uint64
	view    atomic.Pointer[service.View]
	mu      sync.Mutex
	changed chan struct{} // closed when there is a later view
}

func newCluster(c Config, e Edges, k *keeper) *Cluster {
	x := &Cluster{config: c, groups: e.Groups, keeper: k, changed: make(chan struct{})}
	x.view.Store(&service.View{})
	return x
}

// put makes a view the latest one.
func (c *Cluster) put(v *service.View) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.view.Store(v)
	close(c.changed)
	c.changed = make(chan struct{})
}

// View returns the latest view; it is never nil.
func (c *Cluster) View() *service.View { return c.view.Load() }

// Wait waits for a view behind an index, and returns early only with ctx's error.
func (c *Cluster) Wait(ctx context.Context, index uint64) error {
	for {
		c.mu.Lock()
		changed := c.changed
		c.mu.Unlock()
		if c.View().Index > index {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Ensure makes a topic that is not there, if the broker is configured to, and waits until
// the view has it.
func (c *Cluster) Ensure(ctx context.Context, topic string) error {
	for {
		v := c.View()
		if _, ok := v.Topic(topic); ok {
			return nil
		}
		session := c.session.Load()
		if c.config.Topics <= 0 || session == 0 {
			return service.ErrNoTopic
		}
		_, err := c.groups.EnsureTopic(ctx, &pb.EnsureTopicRequest{Session: session, Topic: topic, Queues: int32(c.config.Topics)})
		if err != nil {
			return fmt.Errorf("%w: create topic %q: %w", service.ErrNoTopic, topic, err)
		}
		if err := c.Wait(ctx, v.Index); err != nil {
			return err
		}
	}
}
