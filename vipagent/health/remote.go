package health

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
)

// tcpProbe wants a connection to be accepted.
type tcpProbe struct{ address string }

func (p tcpProbe) probe(ctx context.Context) (int, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", p.address)
	if err != nil {
		return 0, err
	}
	return 0, conn.Close()
}

// httpProbe wants a page. Each run makes a connection of its own: a server that
// accepts none has to be noticed.
type httpProbe struct {
	Check
	client *http.Client
}

func newHTTP(c Check) *httpProbe {
	name := c.HostName
	if host, _, err := net.SplitHostPort(name); err == nil {
		name = host
	}
	client := &http.Client{Transport: &http.Transport{
		Proxy:                  nil, // what is asked for is this host, whatever the environment says
		DialContext:            new(net.Dialer).DialContext,
		DisableKeepAlives:      true,
		DisableCompression:     true,
		MaxResponseHeaderBytes: 64 << 10,
		TLSClientConfig:        &tls.Config{ServerName: name, InsecureSkipVerify: c.Insecure},
	}}
	if !c.Follow {
		client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	}
	return &httpProbe{Check: c, client: client}
}

func (p *httpProbe) probe(ctx context.Context) (int, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.URL, nil)
	if err != nil {
		return 0, err
	}
	req.Header.Set("User-Agent", "holdfast-check")
	if p.HostName != "" {
		req.Host = p.HostName
	}
	resp, err := p.client.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	if !p.accepts(resp.StatusCode) {
		return 0, fmt.Errorf("GET %s: status %s", p.URL, resp.Status)
	}
	if p.Body == "" {
		return 0, nil
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxRead))
	if err != nil && ctx.Err() == nil {
		return 0, fmt.Errorf("GET %s: read body: %w", p.URL, err)
	}
	if !bytes.Contains(body, []byte(p.Body)) {
		return 0, fmt.Errorf("GET %s: the body does not have %q", p.URL, p.Body)
	}
	return 0, nil
}

func (p *httpProbe) accepts(code int) bool {
	if len(p.Status) == 0 {
		return code >= 200 && code <= 299
	}
	return slices.Contains(p.Status, code)
}
