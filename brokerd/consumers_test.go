package brokerd

import (
	"errors"
	"log/slog"
	"testing"

	"holdfast/brokerd/commitlog"
	"holdfast/brokerd/commitlog/faultfs"
	"holdfast/brokerd/pop"
	"holdfast/brokerd/record"
	"holdfast/brokerd/replica"
)

func open(t *testing.T, dir commitlog.FS, name string) *disk {
	t.Helper()
	d, err := openDisk(Config{Name: name, Group: "g", Logger: slog.New(slog.DiscardHandler)}, dir)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// put appends records of an epoch and commits them, as the owner does.
func (d *disk) put(t *testing.T, epoch uint64, entries ...commitlog.Entry) {
	t.Helper()
	b, err := d.log.Append(epoch, 1, entries)
	must(t, err)
	must(t, d.log.Commit())
	must(t, b.Err())
	d.consumers.at = d.log.End()
}

func start() commitlog.Entry {
	return commitlog.Entry{Header: record.Header{Kind: record.KindStart}}
}

func text(topic, body string) commitlog.Entry {
	return commitlog.Entry{Header: record.Header{Kind: record.KindMessage, Topic: []byte(topic)}, Message: &record.Message{ID: body, Body: []byte(body)}}
}

// claim has a consumer group claim the next message of topic t, as a master does, and
// returns its receipt.
func (d *disk) claim(t *testing.T, epoch uint64) pop.Handle {
	t.Helper()
	_, next, err := d.log.Bounds("t", 0, d.log.End())
	must(t, err)
	plan, err := d.consumers.state.Receive(&pop.Request{
		Group: "c", Topic: "t", Queues: []pop.Window{{End: next}}, Max: 1, Now: 1, Until: 1000, Nonce: 7,
		Peek: func(uint32, uint64) (pop.Message, error) { return pop.Message{}, nil },
	})
	must(t, err)
	if len(plan.Deliveries) != 1 {
		t.Fatalf("plan %+v", plan)
	}
	must(t, d.consumers.state.Apply(plan.Body))
	d.put(t, epoch, commitlog.Entry{Header: record.Header{Kind: record.KindState}, State: plan.Body})
	return pop.Handle{BrokerGroup: "g", Key: pop.Key{Group: "c", Topic: "t"}, Offset: plan.Deliveries[0].Offset, Nonce: 7}
}

func (d *disk) inFlight() int { return d.consumers.state.InFlight("c") }

// TestConsumersFollowFromTheLog: a start comes to the same state, from the log's begin, and
// from a snapshot; a cut goes back.
func TestConsumersFollowFromTheLog(t *testing.T) {
	dir := faultfs.New()
	d := open(t, dir, "b1")
	if !d.lost() {
		t.Error("an empty disk has not lost anything")
	}
	d.put(t, 1, start(), text("t", "a"), text("t", "b"), text("t", "c"))
	d.claim(t, 1)
	one := d.log.End()
	d.claim(t, 1)
	must(t, d.close())

	d = open(t, dir, "b1")
	if d.inFlight() != 2 || !d.consumers.usable() {
		t.Fatalf("%d in flight after a start", d.inFlight())
	}
	d.consumers.pending = &snapshot{one, []byte("not confirmed yet")}
	must(t, d.consumers.keep(one-1))
	if list, _ := d.consumers.snapshots(); len(list) != 0 {
		t.Error("a snapshot was kept before it was confirmed")
	}
	d.consumers.pending = &snapshot{d.log.End(), d.consumers.state.AppendSnapshot(nil)}
	must(t, d.consumers.keep(d.log.End()))
	d.claim(t, 1)
	must(t, d.close())

	d = open(t, dir, "b1")
	if d.inFlight() != 3 || d.consumers.kept == 0 {
		t.Fatalf("%d in flight after a start from a snapshot at %d", d.inFlight(), d.consumers.kept)
	}
	end := d.log.End()
	must(t, d.cutLog(one))
	must(t, d.consumers.cut(one, end))
	if d.inFlight() != 1 || !d.consumers.usable() || d.consumers.kept != 0 {
		t.Errorf("%d in flight after a cut, snapshot at %d", d.inFlight(), d.consumers.kept)
	}
	must(t, d.close())
}

// TestDamagedSnapshot: the log is read instead.
func TestDamagedSnapshot(t *testing.T) {
	dir := faultfs.New()
	d := open(t, dir, "b1")
	d.put(t, 1, start(), text("t", "a"))
	d.claim(t, 1)
	must(t, writeFile(dir, snapshotName(64), []byte("HFP1 damaged")))
	must(t, d.close())
	d = open(t, dir, "b1")
	if d.inFlight() != 1 || d.consumers.lost {
		t.Errorf("%d in flight, lost: %t", d.inFlight(), d.consumers.lost)
	}
	must(t, d.close())
}

// TestBeginOfALog: a new member begins its log where the master's does, and comes to the
// master's state when it has the log behind that.
func TestBeginOfALog(t *testing.T) {
	from := faultfs.New()
	cfg := Config{Name: "b1", Group: "g", Logger: slog.New(slog.DiscardHandler), Log: commitlog.Options{SegmentSize: 1}}
	master, err := openDisk(cfg, from)
	must(t, err)
	master.put(t, 1, start())
	for range 4 {
		master.put(t, 1, text("t", "x"))
	}
	master.claim(t, 1)
	master.claim(t, 1)
	master.consumers.pending = &snapshot{master.log.End(), master.consumers.state.AppendSnapshot(nil)}
	must(t, master.consumers.keep(master.log.End()))
	if _, err := master.log.Trim(commitlog.Retention{Floor: master.consumers.kept, MaxBytes: 1}); err != nil || master.log.First() == 0 {
		t.Fatalf("first %d, %v", master.log.First(), err)
	}
	master.claim(t, 1)
	b, err := master.parcel()
	must(t, err)

	d := open(t, faultfs.New(), "b2")
	p, err := parseParcel(b, master.log.First())
	must(t, err)
	must(t, d.log.Install(p.preface))
	must(t, d.consumers.install(p.snapshot))
	if d.consumers.usable() {
		t.Error("the state is used before the log has what it says")
	}
	for at := d.log.End(); at < master.log.End(); {
		records, err := master.log.Read(nil, at, 1<<20)
		must(t, err)
		batch, err := d.take(records)
		must(t, err)
		must(t, d.log.Commit())
		must(t, batch.Err())
		at += uint64(len(records))
	}
	if d.inFlight() != 3 || !d.consumers.usable() {
		t.Errorf("%d in flight, at %d of %d", d.inFlight(), d.consumers.at, d.log.End())
	}
	if got, want := d.known(), master.known(); got.Base != want.Base || got.End != want.End || len(got.Starts) != 1 || got.Starts[0] != want.Starts[0] {
		t.Errorf("log %+v, the master's is %+v", got, want)
	}
	must(t, errors.Join(d.close(), master.close()))
}

func TestForeignDirectory(t *testing.T) {
	dir := faultfs.New()
	d := open(t, dir, "b1")
	must(t, d.store(replica.Saved{Epoch: 3, Incarnation: 2, Owes: true}))
	must(t, d.note([]replica.Range{{Epoch: 1, From: 5, To: 9}}))
	must(t, d.close())
	if _, err := openDisk(Config{Name: "b2", Group: "g", Logger: slog.New(slog.DiscardHandler)}, dir); !errors.Is(err, ErrForeign) {
		t.Errorf("another broker: %v", err)
	}
	d = open(t, dir, "b1")
	if s := d.saved(); s != (replica.Saved{Epoch: 3, Incarnation: 2, Owes: true}) || len(d.beside.Cuts) != 1 || d.beside.Cuts[0] != (replica.Range{Epoch: 1, From: 5, To: 9}) {
		t.Errorf("%+v %+v", s, d.beside)
	}
	must(t, d.close())
}
