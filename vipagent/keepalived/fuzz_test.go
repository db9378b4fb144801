package keepalived

import (
	"strings"
	"testing"
)

// FuzzParse: whatever a file says, reading it ends, and each diagnostic is about a
// place in a file that was read.
func FuzzParse(f *testing.F) {
	files, names := samples(f)
	for _, n := range names {
		f.Add(files[n], files["part.inc"])
	}
	f.Add("include a.inc\n", "include k.conf\n")
	f.Add("$A=$A\nx $A\n", "")
	f.Add("$A=${A}${A}\nx ${A}\n", "")
	f.Add("~SEQ(i, 100000) ~SEQ(j, 100000) x\n", "")
	f.Add("$A= \\\n$A\n$A\n", "")
	f.Add("~LST({a,b},{c},{d,e}) $a$b { }\n", "")
	f.Fuzz(func(t *testing.T, main, part string) {
		all := memory{"k.conf": main, "a.inc": part, "part.inc": part}
		c, ds := Parse(all, "k.conf", Options{ConfigID: "one", Env: map[string]string{"HOME": "/"}})
		if c == nil {
			t.Fatal("no configuration")
		}
		for _, d := range ds {
			content, ok := all[d.File]
			lines := strings.Split(content, "\n")
			if !ok || d.Line < 1 || d.Line > len(lines) || d.Column < 1 || d.Column > len(lines[d.Line-1])+1 {
				t.Errorf("%v: no such place", d)
			}
			if d.Message == "" || d.Severity < Info || d.Severity > Error {
				t.Errorf("%#v: what is meant?", d)
			}
		}
		if !Fatal(ds) {
			for _, in := range c.Instances {
				if in.VRID == 0 || in.Priority == 0 || in.Interval <= 0 || in.Version != 2 && in.Version != 3 || in.DownAdverts < 1 {
					t.Errorf("half an instance without an error: %+v", in)
				}
			}
		}
	})
}
