package replica_test

import (
	"reflect"
	"slices"
	"testing"

	"holdfast/brokerd/replica"
)

// logTo is a log from offset base to end, of epochs with their first offsets.
func logTo(base, end uint64, starts ...uint64) replica.Log {
	l := replica.Log{Base: base, End: end}
	for i := 0; i < len(starts); i += 2 {
		l.Starts = append(l.Starts, replica.Start{Epoch: starts[i], Offset: starts[i+1]})
	}
	return l
}

func TestCommon(t *testing.T) {
	for name, c := range map[string]struct {
		a, b  replica.Log
		want  uint64
		known bool
	}{
		"both empty":            {logTo(0, 0), logTo(0, 0), 0, true},
		"empty":                 {logTo(0, 0), logTo(0, 5, 1, 0), 0, true},
		"shorter":               {logTo(0, 3, 1, 0), logTo(0, 5, 1, 0), 3, true},
		"newer epoch behind":    {logTo(0, 9, 1, 0, 4, 3), logTo(0, 5, 1, 0), 3, true},
		"other epochs, longer":  {logTo(0, 4, 1, 0, 4, 3), logTo(0, 9, 1, 0, 2, 3), 3, true},
		"other from the start":  {logTo(0, 4, 2, 0), logTo(0, 4, 1, 0), 0, true},
		"epoch at other places": {logTo(0, 9, 1, 0, 4, 3), logTo(0, 9, 1, 0, 4, 5), 3, true},
		"same":                  {logTo(0, 9, 1, 0, 4, 3), logTo(0, 9, 1, 0, 4, 3), 9, true},
		"trimmed":               {logTo(4, 9, 4, 4), logTo(0, 8, 1, 0, 4, 3), 8, true},
		"trimmed twice":         {logTo(4, 9, 4, 4), logTo(6, 8, 4, 6), 8, true},
		"not reaching":          {logTo(5, 9, 4, 5), logTo(0, 4, 1, 0, 4, 3), 4, true},
		"trimmed, no epoch":     {logTo(5, 9, 4, 5), logTo(0, 4, 1, 0), 0, false},
		"trimmed, empty":        {logTo(5, 9, 4, 5), logTo(0, 0), 0, false},
		"empty from elsewhere":  {logTo(0, 9, 4, 0), logTo(5, 5), 0, false},
	} {
		t.Run(name, func(t *testing.T) {
			for _, pair := range [][2]replica.Log{{c.a, c.b}, {c.b, c.a}} {
				if at, known := replica.Common(pair[0], pair[1]); at != c.want || known != c.known {
					t.Errorf("%d %v, want %d %v", at, known, c.want, c.known)
				}
			}
		})
	}
}

func TestLogCheck(t *testing.T) {
	for _, c := range []struct {
		log  replica.Log
		good bool
	}{
		{logTo(0, 0), true}, {logTo(4, 4), true}, {logTo(0, 1), false}, {logTo(1, 0), false}, {logTo(0, 1, 1, 0), true}, {logTo(0, 0, 1, 0), false},
		{logTo(0, 3, 1, 1), false}, {logTo(1, 3, 1, 1), true}, {logTo(1, 3, 1, 0), false}, {logTo(0, 3, 0, 0), false}, {logTo(0, 3, 1, 0, 1, 2), false},
		{logTo(0, 3, 2, 0, 1, 2), false}, {logTo(0, 3, 1, 0, 2, 0), false}, {logTo(0, 3, 1, 0, 2, 2), true}, {logTo(0, 3, 1, 0, 2, 3), false},
	} {
		if err := c.log.Check(); (err == nil) != c.good {
			t.Errorf("%v: %v", c.log, err)
		}
	}
}

func TestLogChanges(t *testing.T) {
	l := logTo(0, 9, 1, 0, 4, 3, 7, 8)
	for name, c := range map[string]struct{ got, want replica.Log }{
		"cut within an epoch":  {l.Cut(5), logTo(0, 5, 1, 0, 4, 3)},
		"cut between epochs":   {l.Cut(3), logTo(0, 3, 1, 0)},
		"cut to nothing":       {l.Cut(0), logTo(0, 0)},
		"trim within an epoch": {l.Trim(2), logTo(2, 9, 1, 2, 4, 3, 7, 8)},
		"trim between epochs":  {l.Trim(3), logTo(3, 9, 4, 3, 7, 8)},
		"trim nothing":         {l.Trim(2).Trim(1), logTo(2, 9, 1, 2, 4, 3, 7, 8)},
		"trim, then cut":       {l.Trim(5).Cut(8), logTo(5, 8, 4, 5)},
	} {
		if c.got.Check() != nil || c.got.Base != c.want.Base || c.got.End != c.want.End || !slices.Equal(c.got.Starts, c.want.Starts) {
			t.Errorf("%s: %v, want %v", name, c.got, c.want)
		}
	}
	for _, c := range []struct{ epoch, size uint64 }{{6, 1}, {0, 1}, {7, 0}, {7, 1<<64 - 9}} {
		if got, err := l.Append(c.epoch, c.size); err == nil || !reflect.DeepEqual(got, l) {
			t.Errorf("append %v: %v", c, got)
		}
	}
	a, _ := l.Append(8, 2)
	b, _ := l.Append(9, 2)
	if want := logTo(0, 11, 1, 0, 4, 3, 7, 8, 8, 9); !reflect.DeepEqual(a, want) || b.Last() != 9 {
		t.Errorf("%v, %v", a, b)
	}
}

func TestLost(t *testing.T) {
	type ranges = []replica.Range
	master := logTo(0, 9, 1, 0, 4, 5)
	for name, c := range map[string]struct {
		log        replica.Log
		cuts, want ranges
	}{
		"nothing cut":             {master, nil, nil},
		"cut twice":               {master, ranges{{2, 5, 8}, {2, 6, 9}}, ranges{{2, 5, 9}}},
		"lives on":                {master, ranges{{1, 2, 5}}, nil},
		"past the epoch's end":    {master, ranges{{1, 2, 7}}, ranges{{1, 5, 7}}},
		"same offset, two epochs": {master, ranges{{3, 5, 6}, {2, 5, 6}}, ranges{{2, 5, 6}, {3, 5, 6}}},
		"not in the log yet":      {master, ranges{{4, 8, 12}}, ranges{{4, 9, 12}}},
		"taken by retention":      {master.Trim(6), ranges{{2, 3, 5}, {3, 5, 8}}, ranges{{3, 6, 8}}},
	} {
		t.Run(name, func(t *testing.T) {
			if got := replica.Lost(c.cuts, c.log); !slices.Equal(got, c.want) {
				t.Errorf("%v, want %v", got, c.want)
			}
		})
	}
}

func TestMissing(t *testing.T) {
	for name, c := range map[string]struct {
		epoch, end uint64
		want       []replica.Unknown
	}{
		"held":               {1, 4, nil},
		"past the log":       {4, 11, []replica.Unknown{{Member: "b", Range: replica.Range{Epoch: 4, From: 9, To: 11}}}},
		"past its epoch":     {1, 7, []replica.Unknown{{Member: "b", Range: replica.Range{Epoch: 1, From: 5, To: 7}}}},
		"an epoch it lacks":  {3, 8, []replica.Unknown{{Member: "b", Range: replica.Range{Epoch: 3, From: 5, To: 8}}}},
		"an epoch behind it": {6, 12, []replica.Unknown{{Member: "b", Range: replica.Range{Epoch: 6, From: 9, To: 12}}}},
	} {
		t.Run(name, func(t *testing.T) {
			got := replica.Missing([]replica.Reported{{Member: "b", Epoch: c.epoch, End: c.end}}, logTo(0, 9, 1, 0, 4, 5))
			if !slices.Equal(got, c.want) {
				t.Errorf("%v, want %v", got, c.want)
			}
		})
	}
}
