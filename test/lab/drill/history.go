package drill

import (
	"encoding/json"
	"io"
	"sync"

	"holdfast/test/lab"
)

// History is what happened, one JSON object a line: the seed, the faults with
// their times, who held what, and the verdict. Times are nanoseconds of
// CLOCK_BOOTTIME.
type History struct {
	mu  sync.Mutex
	out *json.Encoder
	err error // the first one
}

// NewHistory writes the history to w, beginning with what is drilled.
func NewHistory(w io.Writer, seed uint64, plan *Plan, weak string) *History {
	h := &History{out: json.NewEncoder(w)}
	h.event("begin", "seed", seed, "set", plan.Set, "hosts", plan.Hosts, "addresses", plan.Addresses, "faults", faultNames(), "weak", weak)
	return h
}

// event writes a line; pairs are keys and values.
func (h *History) event(kind string, pairs ...any) {
	line := map[string]any{"event": kind, "time": lab.Now()}
	for i := 0; i+1 < len(pairs); i += 2 {
		if v := pairs[i+1]; v != "" {
			line[pairs[i].(string)] = v
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := h.out.Encode(line); err != nil && h.err == nil {
		h.err = err
	}
}
