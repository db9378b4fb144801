package rmqgrpc

import (
	"errors"
	"testing"
	"time"

	"holdfast/brokerd/service"
)

// A call to a master lasts as long as its grant, whichever views come in which order.
func TestDuringGrant(t *testing.T) {
	g := func(master string, epoch uint64) service.Group {
		return service.Group{Name: "g", Grant: service.Grant{Master: master, Epoch: epoch}}
	}
	view := func(x service.Group) *service.View { return &service.View{Groups: []service.Group{x}} }
	p := newPeers(nil)
	begin := func(x service.Group) (done func() bool) {
		t.Helper()
		ctx, cancel, err := p.during(t.Context(), x)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(cancel)
		return func() bool {
			select {
			case <-ctx.Done():
				return true
			case <-time.After(10 * time.Millisecond):
				return false
			}
		}
	}
	five := begin(g("a", 5))
	p.follow(view(g("a", 5)), time.Now())
	p.follow(view(g("b", 4)), time.Now()) // late
	if five() {
		t.Fatal("ended by an older view")
	}
	p.follow(view(g("", 5)), time.Now())
	if !five() {
		t.Fatal("goes on when the grant has ended")
	}
	reads := begin(g("", 5))
	if _, _, err := p.during(t.Context(), g("a", 5)); !errors.Is(err, service.ErrNotMaster) {
		t.Fatal("a call under a grant that has ended:", err)
	}
	six := begin(g("b", 6))
	if !reads() {
		t.Fatal("reads without a master go on under the next")
	}
	if _, _, err := p.during(t.Context(), g("a", 5)); !errors.Is(err, service.ErrNotMaster) || six() {
		t.Fatal("a call in an old epoch:", err)
	}
	p.follow(&service.View{}, time.Now())
	if six() {
		t.Fatal("a view without the group says nothing of its grant")
	}
}
