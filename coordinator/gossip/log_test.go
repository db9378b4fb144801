package gossip

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestMemberlistLinesKeepTheirLevel(t *testing.T) {
	for line, want := range map[string]string{
		"[ERR] memberlist: Failed to send ping": `level=ERROR msg="Failed to send ping" source=memberlist`,
		"[ERROR] memberlist: bad":               "level=ERROR msg=bad source=memberlist",
		"[WARN] memberlist: odd":                "level=WARN msg=odd source=memberlist",
		"[INFO] memberlist: fine":               "level=INFO msg=fine source=memberlist",
		"[DEBUG] memberlist: chatter":           "level=DEBUG msg=chatter source=memberlist",
		"no level":                              `level=INFO msg="no level" source=memberlist`,
		"[WARN] name 'a\nlevel=ERROR'":          `level=WARN msg="name 'a\nlevel=ERROR'" source=memberlist`,
	} {
		var out bytes.Buffer
		newMemberlistLogger(plainLogger(&out), time.Now).Print(line)
		if got := strings.TrimSpace(out.String()); got != want {
			t.Errorf("%q gave %q, want %q", line, got, want)
		}
	}
}

func TestStrangerCannotFloodTheLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		l := newMemberlistLogger(plainLogger(&out), time.Now)
		flood := func() {
			for i := range 1000 {
				l.Printf("[ERR] memberlist: Decrypt packet failed: no key from=10.0.0.1:%d", i)
			}
		}
		flood()
		l.Print("[WARN] memberlist: something else")
		if got := strings.Count(out.String(), "\n"); got != logBurst+1 {
			t.Errorf("%d lines, want %d", got, logBurst+1)
		}
		<-time.After(logWindow)
		out.Reset()
		flood()
		if got := strings.Count(out.String(), "\n"); got != logBurst || !strings.Contains(out.String(), "suppressed=995") {
			t.Errorf("after the window: %d lines: %s", got, out.String())
		}
	})
}

func plainLogger(out *bytes.Buffer) *slog.Logger {
	return slog.New(slog.NewTextHandler(out, &slog.HandlerOptions{
		Level: slog.LevelDebug,
		ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return a
		},
	}))
}
