package brokerd

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"

	"holdfast/brokerd/commitlog"
	"holdfast/brokerd/replica"
)

// disk is what a replica has on its disk: the log, its state file, and the consumers'
// state.
type disk struct {
	dir       commitlog.FS
	log       *commitlog.Log
	recovery  commitlog.Recovery
	consumers *consumers
	state     commitlog.State
	beside    beside
	found     bool // a state file was there at the start
	logger    *slog.Logger
}

// beside is what the state file has beside the replica's own numbers.
type beside struct {
	Group   string          `json:"group"`
	Created uint64          `json:"created"` // Raft index: the group's identity, 0 = not known yet
	Broker  string          `json:"broker"`
	Cuts    []replica.Range `json:"cuts,omitempty"` // all that was ever cut
}

func openDisk(c Config, dir commitlog.FS) (*disk, error) {
	d := &disk{dir: dir, logger: c.Logger}
	var err error
	if d.state, d.found, err = commitlog.ReadState(dir); err != nil {
		return nil, err
	}
	if d.found {
		if err := json.Unmarshal(d.state.Extra, &d.beside); err != nil {
			return nil, fmt.Errorf("read state file: %w", err)
		}
		if d.beside.Group != c.Group || d.beside.Broker != c.Name {
			return nil, fmt.Errorf("%w: it has the log of broker %s in group %s, and this is broker %s of group %s: give it a directory of its own",
				ErrForeign, d.beside.Broker, d.beside.Group, c.Name, c.Group)
		}
	}
	d.beside.Group, d.beside.Broker = c.Group, c.Name
	if d.log, d.recovery, err = commitlog.Open(dir, c.Log); err != nil {
		return nil, err
	}
	d.report()
	d.consumers = newConsumers(d, c.Limits)
	if err := d.consumers.open(); err != nil {
		return nil, errors.Join(err, d.log.Close())
	}
	return d, nil
}

// report says what recovery found.
func (d *disk) report() {
	r := d.recovery
	d.logger.Info("log opened", "first", d.log.First(), "end", d.log.End(), "new", r.New, "clean", r.Clean, "rewrote", r.Rewrote)
	if r.Torn.To > r.Torn.From {
		d.logger.Warn("the end of the log was torn: it was never acknowledged, and is kept in a file", "from", r.Torn.From, "to", r.Torn.To, "file", r.Torn.File)
	}
	if r.Damage != nil {
		d.logger.Error("the log is damaged: this replica will not lead, and fetches what it lacks from another", "err", r.Damage)
	}
}

// lost says whether the disk may have less than was acknowledged.
func (d *disk) lost() bool { return !d.found || d.recovery.Lost() || d.consumers.lost }

// saved is the state file as the replica knows it.
func (d *disk) saved() replica.Saved {
	return replica.Saved{Epoch: d.state.Epoch, Incarnation: d.state.Incarnation, Owes: d.state.Owes}
}

// store writes the state file.
func (d *disk) store(s replica.Saved) error {
	d.state.Epoch, d.state.Incarnation, d.state.Owes = s.Epoch, s.Incarnation, s.Owes
	return d.write()
}

func (d *disk) write() error {
	extra, err := json.Marshal(d.beside)
	if err != nil {
		return err
	}
	d.state.Extra = extra
	return commitlog.WriteState(d.dir, d.state)
}

// note writes down what is about to be cut.
func (d *disk) note(ranges []replica.Range) error {
	if len(ranges) == 0 {
		return nil
	}
	d.beside.Cuts = append(d.beside.Cuts, ranges...)
	return d.write()
}

// known is the log as the replica knows it.
func (d *disk) known() replica.Log {
	l := replica.Log{Base: d.log.First(), End: d.log.End()}
	for _, s := range d.log.History() {
		start := replica.Start{Epoch: s.Epoch, Offset: s.Offset}
		switch {
		case s.Offset >= l.End:
		case s.Offset <= l.Base:
			start.Offset = l.Base
			l.Starts = []replica.Start{start} // the last of those that begin before it
		default:
			l.Starts = append(l.Starts, start)
		}
	}
	return l
}

func (d *disk) close() error { return d.log.Close() }

func missing(err error) bool { return errors.Is(err, fs.ErrNotExist) }
