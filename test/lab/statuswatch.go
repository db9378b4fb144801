package lab

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"google.golang.org/protobuf/encoding/protojson"

	pb "holdfast/coordinator/api/holdfastpb"
)

// StatusWatch follows the cluster's status as an operator would, with
// `coordctl status --watch`.
type StatusWatch struct {
	process *Process
	read    chan struct{} // closed when the output has ended

	mu     sync.Mutex
	latest *pb.StatusReply
	at     Time
}

// WatchStatus starts to follow the status. The caller must Close the watch.
func (c *Cluster) WatchStatus(every time.Duration) (*StatusWatch, error) {
	in, out, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("make pipe: %w", err)
	}
	defer out.Close()
	w := &StatusWatch{read: make(chan struct{})}
	w.process, err = c.config.Operator.Start(Command{
		Name:   "status",
		Path:   filepath.Join(c.config.Bin, "coordctl"),
		Args:   []string{"--server", c.Servers(), "status", "--output", "json", "--timeout", "500ms", "--watch=" + every.String()},
		Stdout: out,
	})
	if err != nil {
		in.Close()
		return nil, err
	}
	go w.follow(in)
	return w, nil
}

func (w *StatusWatch) follow(in *os.File) {
	defer close(w.read)
	defer in.Close()
	replies := json.NewDecoder(in)
	for {
		var raw json.RawMessage
		if err := replies.Decode(&raw); err != nil {
			return // the end of the process
		}
		s := &pb.StatusReply{}
		if err := protojson.Unmarshal(raw, s); err != nil {
			continue
		}
		w.mu.Lock()
		w.latest, w.at = s, Now()
		w.mu.Unlock()
	}
}

// Latest returns the newest status and when it was read; nil before the first.
func (w *StatusWatch) Latest() (*pb.StatusReply, Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.latest, w.at
}

// Close ends the watch.
func (w *StatusWatch) Close() error {
	err := w.process.Kill()
	<-w.read
	return err
}
