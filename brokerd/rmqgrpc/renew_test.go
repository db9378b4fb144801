package rmqgrpc

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"holdfast/brokerd/pop"
	"holdfast/brokerd/service"
)

func TestRenewals(t *testing.T) {
	start := time.Unix(1000, 0)
	at := func(d time.Duration) time.Time { return start.Add(d) }
	r, c := newRenewals(), newClients()
	c.seen("alive", at(0))
	c.seen("silent", at(0))
	a, b := pop.Handle{Offset: 1}, pop.Handle{Offset: 2}
	r.add(a, "alive", at(0))
	r.add(b, "silent", at(0))
	due := func(d time.Duration) int {
		return len(r.due(at(d), func(id string) bool { return c.alive(id, at(d)) }))
	}
	if n := due(39 * time.Second); n != 0 || len(r.byHandle) != 0 {
		t.Fatalf("%d due, %d left: nobody was heard of for 39 s", n, len(r.byHandle))
	}
	r.add(a, "alive", at(0))
	r.add(b, "silent", at(0))
	c.seen("alive", at(39*time.Second))
	if n := due(40 * time.Second); n != 1 || len(r.byHandle) != 1 {
		t.Fatalf("%d due, %d left", n, len(r.byHandle))
	}
	r.done(a, at(40*time.Second))
	for d := 41 * time.Second; d < 79*time.Second; d += time.Second {
		c.seen("alive", at(d))
		if n := due(d); n != 0 {
			t.Fatalf("due again after %v", d)
		}
	}
	// Renewed in time for three hours, and no longer.
	for d := 80 * time.Second; d < renewAtMost; d += 40 * time.Second {
		c.seen("alive", at(d))
		if n := due(d); n != 1 {
			t.Fatalf("%d due after %v", n, d)
		}
		r.done(a, at(d))
	}
	c.seen("alive", at(renewAtMost))
	if n := due(renewAtMost); n != 0 || len(r.byHandle) != 0 {
		t.Fatalf("%d due after %v", n, renewAtMost)
	}
	r.add(a, "alive", at(0))
	c.gone("alive")
	if n := due(45 * time.Second); n != 0 || len(r.byHandle) != 0 {
		t.Fatal("renewed for a client that is gone")
	}
	c.sweep(at(time.Hour * 4))
	if len(c.byID) != 0 {
		t.Fatal("silent clients are remembered")
	}
}

type oneGroup struct{ view service.View }

func (o *oneGroup) View() *service.View                      { return &o.view }
func (o *oneGroup) Wait(ctx context.Context, _ uint64) error { <-ctx.Done(); return ctx.Err() }
func (o *oneGroup) Ensure(context.Context, string) error     { return service.ErrNoTopic }

type delayer struct {
	Local
	got  []service.Delay
	what pop.Verdict
	err  error
}

func (d *delayer) Delay(_ context.Context, x service.Delay) ([]service.Settlement, error) {
	d.got = append(d.got, x)
	return []service.Settlement{{Verdict: d.what, Handle: x.Handles[0]}}, d.err
}

// A renewal keeps the handle; one that fails is tried again; one that is refused is not.
func TestRenewOne(t *testing.T) {
	cluster := &oneGroup{service.View{Groups: []service.Group{{Name: "g", Grant: service.Grant{Master: "b", Epoch: 1}}}}}
	local := &delayer{err: errors.New("disk")}
	s := New(Config{Broker: "b", Group: "g", Log: slog.New(slog.DiscardHandler)}, local, cluster)
	h := pop.Handle{BrokerGroup: "g", Key: pop.Key{Group: "c", Topic: "t"}, Offset: 1}
	s.renewals.add(h, "client", time.Now().Add(-50*time.Second))
	before := s.renewals.byHandle[h].ends
	s.renewOne(t.Context(), h)
	if got := s.renewals.byHandle[h].ends; !got.Equal(before) || len(local.got) != 1 || !local.got[0].Keep || local.got[0].For != time.Minute {
		t.Fatalf("%+v, ends %v", local.got, got)
	}
	local.err = nil
	s.renewOne(t.Context(), h)
	if got := s.renewals.byHandle[h].ends; !got.After(before) {
		t.Fatalf("ends %v", got)
	}
	local.what = pop.Stale
	s.renewOne(t.Context(), h)
	if len(s.renewals.byHandle) != 0 {
		t.Fatal("a stale handle is renewed on")
	}
}
