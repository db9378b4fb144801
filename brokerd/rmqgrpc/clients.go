package rmqgrpc

import (
	"maps"
	"sync"
	"time"
)

const (
	// clientSilence is after which a client is taken for gone; it sends a heartbeat each 10 s.
	clientSilence = 35 * time.Second
	maxClients    = 100_000 // beyond it, new ones are not remembered, and nothing is renewed for them
	// maxTimeout bounds what a client may say its request timeout is.
	maxTimeout = time.Minute
)

// clients are those that this broker has heard from lately.
type clients struct {
	mu   sync.Mutex
	byID map[string]*known
}

type known struct {
	seen    time.Time
	timeout time.Duration // of its requests, 0 if it has not said
}

func newClients() *clients { return &clients{byID: make(map[string]*known)} }

func (c *clients) seen(id string, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	k := c.byID[id]
	if k == nil {
		if len(c.byID) >= maxClients {
			return
		}
		k = &known{}
		c.byID[id] = k
	}
	k.seen = now
}

// timeout notes a client's request timeout.
func (c *clients) timeout(id string, d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if k := c.byID[id]; k != nil && d > 0 {
		k.timeout = min(d, maxTimeout)
	}
}

// requestTimeout returns a client's request timeout, the usual one if it is not known.
func (c *clients) requestTimeout(id string) time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	if k := c.byID[id]; k != nil && k.timeout > 0 {
		return k.timeout
	}
	return defaultTimeout
}

func (c *clients) gone(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.byID, id)
}

func (c *clients) alive(id string, now time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	k := c.byID[id]
	return k != nil && now.Sub(k.seen) < clientSilence
}

// sweep forgets who was silent.
func (c *clients) sweep(now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	maps.DeleteFunc(c.byID, func(_ string, k *known) bool { return now.Sub(k.seen) >= clientSilence })
}
