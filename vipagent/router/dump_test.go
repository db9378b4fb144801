package router

import (
	"encoding/json"
	"errors"
	"flag"
	"os"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/vipagent/keepalived"
)

var rewrite = flag.Bool("rewrite", false, "rewrite testdata")

// TestDumps compares the dumps with files, which exporters must be able to read: the
// lines are those of keepalived 2.2.7, as far as they make sense here.
func TestDumps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		v := one("V1", "eth0", 51, 100, "10.0.0.100/24", "10.0.0.101/32")
		v.Addresses[0].Label = "eth0:1"
		v.Password = []byte("secret")
		v.Scripts = []keepalived.Track{{Name: "check"}}
		v.Processes = []keepalived.Track{{Name: "daemon"}}
		v.Interfaces = []keepalived.Track{{Name: "eth1", Weight: 5, Set: true}}
		v.Routes = []keepalived.Route{{Words: []string{"10.9.0.0/16", "via", "10.0.0.7"}}}
		v.Notify.Any = &keepalived.Command{Args: []string{"/bin/echo", "hi"}}
		v6 := one("V6", "eth1", 51, 90, "fe80::100/64")
		v6.Version, v6.IPv6, v6.Accept = 3, true, true
		v6.Peers = nil
		c := configOf(v, v6)
		c.Scripts = []keepalived.Script{{Name: "check", Command: keepalived.Command{Args: []string{"check", "-x"}}, Interval: 1500 * time.Millisecond, Timeout: time.Second, Weight: 3, Rise: 1, Fall: 1}}
		c.Groups = []keepalived.SyncGroup{{Name: "G", Members: []string{"V6"}}}
		c.Files = []keepalived.TrackFile{{Name: "number", Path: "/n", Weight: 1}}
		c.Processes = []keepalived.TrackProcess{{Name: "daemon", Process: "d", Weight: 5, Quorum: 1, QuorumMax: 65535}}
		c.Global.JSONDump = "/run/k.json"
		w.scripts["check"] = errors.New("exit status 1")
		r, stop := w.start(c)
		defer stop()
		time.Sleep(3700 * time.Millisecond)
		w.hear("eth1", "fe80::9", advert(v6, 200))
		w.hear("eth0", "10.0.0.2", advert(v, 50)) // without the password
		synctest.Wait()
		for _, d := range []Dump{DumpData, DumpStats, DumpJSON, ClearStats} {
			r.Dump(d)
			synctest.Wait()
			if d == DumpStats {
				compare(t, "stats.txt", w.files["/tmp/keepalived.stats"])
			}
		}
		moment := regexp.MustCompile(`Last transition = .*`)
		compare(t, "data.txt", moment.ReplaceAllString(w.files["/tmp/keepalived.data"], "Last transition = ..."))
		compare(t, "dump.json", regexp.MustCompile(`"last_transition":[0-9.e+]+`).ReplaceAllString(w.files["/run/k.json"], `"last_transition":0`))
		if strings.Contains(w.files["/tmp/keepalived.data"]+w.files["/run/k.json"], "secret") {
			t.Error("a dump shows the password")
		}
		r.Dump(DumpStats)
		synctest.Wait()
		if got := w.files["/tmp/keepalived.stats"]; strings.Contains(got, ": 1") {
			t.Errorf("after they were cleared:\n%s", got)
		}
		var list []map[string]map[string]any
		if err := json.Unmarshal([]byte(w.files["/run/k.json"]), &list); err != nil || len(list) != 2 || list[0]["data"]["state"] != 2.0 || list[1]["data"]["state"] != 1.0 {
			t.Errorf("JSON: %v, %v", list, err)
		}
	})
}

func compare(t *testing.T, name, got string) {
	t.Helper()
	path := "testdata/" + name
	if *rewrite {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil || string(want) != got {
		t.Errorf("%s is other than in the file (%v):\n%s", name, err, got)
	}
}
