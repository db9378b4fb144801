package brokerd

import (
	"context"
	"crypto/rand"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	pb "holdfast/coordinator/api/holdfastpb"
	"holdfast/coordinator/lease"
	"holdfast/coordinator/renew"
)

const (
	// openLimit bounds one call that opens a session, openPause is the wait after one that
	// did not.
	openLimit = 2 * time.Second
	openPause = 200 * time.Millisecond
	// closeLimit bounds the last call of a broker that stops.
	closeLimit = time.Second
)

// held is a session of this process and its deadline. Another process never adopts it:
// each begins with one of its own.
type held struct {
	id       uint64
	deadline atomic.Int64 // CLOCK_BOOTTIME; 0 = never proven
	fenced   atomic.Bool  // some coordinator has marked it
}

// until is the deadline; the zero time if there is none.
func (h *held) until() lease.Time {
	if h == nil {
		return 0
	}
	return lease.Time(h.deadline.Load())
}

// keeper opens sessions, one after the other, and has them renewed.
type keeper struct {
	config   Config
	sessions Sessions
	renewer  *renew.Renewer
	log      *slog.Logger
	opened   chan *held
	opening  sync.WaitGroup
	busy     bool // the owner's: a session is being opened
}

func newKeeper(c Config, e Edges, wake func()) *keeper {
	return &keeper{
		config: c, sessions: e.Sessions, log: c.Logger, opened: make(chan *held, 1),
		renewer: renew.New(renew.Config{Every: c.Renew, Clock: e.Clock, Datagrams: e.Datagrams, Wake: wake}),
	}
}

// open opens a session and puts it into opened; it goes on until it has one or ctx ends.
func (k *keeper) open(ctx context.Context) {
	if k.busy {
		return
	}
	k.busy = true
	k.opening.Go(func() {
		for ctx.Err() == nil {
			s := lease.Session{TTL: k.config.TTL}
			_, _ = rand.Read(s.Secret[:]) // never fails
			call, cancel := context.WithTimeout(ctx, openLimit)
			reply, err := k.sessions.Open(call, &pb.OpenRequest{
				Host: k.config.Name, TtlMs: s.TTL.Milliseconds(), Secret: s.Secret[:],
				Broker: &pb.Broker{Name: k.config.Name, Client: k.config.Clients, Replication: k.config.Replication},
			})
			cancel()
			if err == nil && reply.GetSession() != 0 {
				s.ID = reply.GetSession()
				h := &held{id: s.ID}
				k.renewer.Add(renew.Kept{
					Session: s,
					Proven:  func(_, deadline lease.Time) { h.deadline.Store(int64(deadline)) },
					Fenced:  func() { h.fenced.Store(true) },
				}, 0)
				k.opened <- h
				return
			}
			k.log.Warn("no session opened", "err", err)
			select {
			case <-ctx.Done():
			case <-time.After(openPause):
			}
		}
	})
}

// drop stops renewing a session.
func (k *keeper) drop(h *held) {
	if h != nil {
		k.renewer.Drop(h.id)
		h.deadline.Store(0)
	}
}

// close tells the quorum that a session is not used any more.
func (k *keeper) close(ctx context.Context, h *held, cause string) {
	if h == nil {
		return
	}
	k.drop(h)
	ctx, cancel := context.WithTimeout(ctx, closeLimit)
	defer cancel()
	if _, err := k.sessions.Close(ctx, &pb.CloseRequest{Session: h.id, Cause: cause}); err != nil {
		k.log.Warn("session not closed: it ends by itself after its ttl", "session", h.id, "err", err)
	}
}

// gone says whether a view shows that a session is open no more.
func gone(h *held, v *pb.View) bool {
	return h != nil && v.GetIndex() >= h.id && !slices.Contains(v.GetSessions(), h.id)
}
