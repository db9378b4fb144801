package sim

import (
	"fmt"
	"reflect"
	"strings"
	"time"
)

// Totals count what has happened, so that a run that does nothing is seen.
type Totals struct {
	Runs              int
	Simulated, Faulty time.Duration // and how much of it was bad
	Events            int           // of the loop
	Cluster           Cluster
	Hosts             Hosts
	Checks            int // of whether all sets are served, some time after the last fault
}

// Cluster counts what coordinators and operators did.
type Cluster struct {
	Entries, Refused                   int // committed; ops that were refused
	Elections, Changes, Cuts           int // leaders, configurations, uncommitted entries cut off
	Restarts, Snapshots, Restored      int
	Installed, Unmarked                int // snapshots sent to followers; marks deleted
	Probes, Fenced, Takeovers, Decided int // asked about a session; ended; addresses that changed hosts; looks of the scheduler
	Edits, Moved                       int // commands of the operator; addresses that changed sets
}

// Hosts counts what agents did.
type Hosts struct {
	Rounds, Acts, Views           int
	Stops, Kills, Reboots, Closed int // SIGSTOP, SIGKILL, SIGTERM
	Adopted, Rebinds              int
}

// Add adds another run's totals.
func (t *Totals) Add(o Totals) { add(reflect.ValueOf(t).Elem(), reflect.ValueOf(o)) }

func add(to, from reflect.Value) {
	for i := range to.NumField() {
		if f := to.Field(i); f.Kind() == reflect.Struct {
			add(f, from.Field(i))
		} else {
			f.SetInt(f.Int() + from.Field(i).Int())
		}
	}
}

// String tells all of it.
func (t Totals) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d seeds, %v simulated, %.0f %% of it under faults, %d events, %d checks that all is served\n", t.Runs, t.Simulated.Round(time.Second),
		100*t.Faulty.Seconds()/max(t.Simulated.Seconds(), 1), t.Events, t.Checks)
	for _, part := range []any{t.Cluster, t.Hosts} {
		v := reflect.ValueOf(part)
		fmt.Fprintf(&b, "%s:", v.Type().Name())
		for i := range v.NumField() {
			fmt.Fprintf(&b, " %s %d", v.Type().Field(i).Name, v.Field(i).Int())
		}
		b.WriteByte('\n')
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// missing names what has hardly happened.
func (t Totals) missing() string {
	var out []string
	for _, part := range []any{t.Cluster, t.Hosts} {
		v := reflect.ValueOf(part)
		for i := range v.NumField() {
			// Even the rarest of it happens in one run of thirty.
			if v.Field(i).Int()*30 < int64(t.Runs) {
				out = append(out, v.Type().Field(i).Name)
			}
		}
	}
	if t.Checks < t.Runs*3 {
		out = append(out, "Checks")
	}
	return strings.Join(out, ", ")
}
