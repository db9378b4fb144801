package rmqgrpc

import (
	"context"
	"sync"
	"time"

	v2 "github.com/apache/rocketmq-clients/golang/v5/protocol/v2"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc/metadata"

	"holdfast/brokerd/pop"
)

const (
	renewAhead  = 20 * time.Second // before the invisible time ends
	renewAtMost = 3 * time.Hour    // for one delivery
	renewAtOnce = 64
	maxRenewals = 200_000 // beyond it, deliveries are not renewed
)

// renewals are the deliveries that this broker renews for clients that are alive.
type renewals struct {
	mu       sync.Mutex
	byHandle map[pop.Handle]*renewal
}

type renewal struct {
	client    string
	delivered time.Time
	ends      time.Time // of the invisible time
}

func newRenewals() *renewals { return &renewals{byHandle: make(map[pop.Handle]*renewal)} }

func (r *renewals) add(h pop.Handle, client string, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.byHandle) < maxRenewals {
		r.byHandle[h] = &renewal{client: client, delivered: now, ends: now.Add(renewFor)}
	}
}

func (r *renewals) remove(h pop.Handle) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.byHandle, h)
}

// due returns what is to be renewed now, and forgets what is not to be renewed any more.
func (r *renewals) due(now time.Time, alive func(client string) bool) []pop.Handle {
	r.mu.Lock()
	defer r.mu.Unlock()
	var due []pop.Handle
	for h, d := range r.byHandle {
		switch {
		case !now.Before(d.ends), now.Sub(d.delivered) >= renewAtMost, !alive(d.client):
			delete(r.byHandle, h)
		case d.ends.Sub(now) <= renewAhead:
			due = append(due, h)
		}
	}
	return due
}

// done notes that a renewal has been confirmed which was asked for at that time.
func (r *renewals) done(h pop.Handle, asked time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if d := r.byHandle[h]; d != nil {
		d.ends = asked.Add(renewFor)
	}
}

// renew renews until ctx is done. What fails is tried again until its time is over.
func (s *Server) renew(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			s.clients.sweep(now)
			var some errgroup.Group
			some.SetLimit(renewAtOnce)
			for _, h := range s.renewals.due(now, func(id string) bool { return s.clients.alive(id, now) }) {
				some.Go(func() error { s.renewOne(ctx, h); return nil })
			}
			some.Wait() // no errors: each is its own
		}
	}
}

func (s *Server) renewOne(ctx context.Context, h pop.Handle) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	ctx = metadata.NewIncomingContext(ctx, metadata.Pairs(keepKey, "1", clientIDKey, s.cfg.Broker))
	now := time.Now()
	switch _, err := s.delay(ctx, h, renewFor, ""); code(err) {
	case v2.Code_OK:
		s.renewals.done(h, now)
	case v2.Code_INVALID_RECEIPT_HANDLE:
		s.renewals.remove(h)
	default:
		s.cfg.Log.Warn("cannot renew the invisible time of a message", "topic", h.Topic, "group", h.Group, "offset", h.Offset, "error", err)
	}
}

// keeps tells whether a broker asks for a message to be renewed, not its consumer.
func keeps(ctx context.Context) bool { return value(ctx, keepKey) != "" }
