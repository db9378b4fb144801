package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

// print writes one reply in the chosen format. table and name are called for
// the forms that are made for people and for scripts.
func (t *tool) print(m proto.Message, table func(w io.Writer), names []string) error {
	return t.printAs(func() ([]byte, error) { return toJSON(m) }, table, names)
}

// printValue is print for what is no message of the API.
func (t *tool) printValue(v any, table func(w io.Writer), names []string) error {
	return t.printAs(func() ([]byte, error) { return json.MarshalIndent(v, "", "  ") }, table, names)
}

func (t *tool) printAs(toJSON func() ([]byte, error), table func(w io.Writer), names []string) error {
	switch t.format {
	case "json":
		data, err := toJSON()
		if err != nil {
			return err
		}
		fmt.Fprintln(t.out, string(data))
	case "yaml":
		data, err := toJSON()
		if err != nil {
			return err
		}
		var v any
		if err := yaml.Unmarshal(data, &v); err != nil { // JSON is YAML
			return fmt.Errorf("convert to YAML: %w", err)
		}
		enc := yaml.NewEncoder(t.out)
		enc.SetIndent(2)
		if err := enc.Encode(v); err != nil {
			return fmt.Errorf("write YAML: %w", err)
		}
	case "name":
		for _, n := range names {
			fmt.Fprintln(t.out, n)
		}
	default:
		table(t.out)
	}
	return nil
}

// toJSON is protojson with its deliberate whitespace noise taken out, so that
// equal replies give equal bytes.
func toJSON(m proto.Message) ([]byte, error) {
	raw, err := protojson.MarshalOptions{UseProtoNames: true, EmitUnpopulated: true}.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("convert to JSON: %w", err)
	}
	var buf bytes.Buffer
	if err := json.Indent(&buf, raw, "", "  "); err != nil {
		return nil, fmt.Errorf("convert to JSON: %w", err)
	}
	return buf.Bytes(), nil
}

// columns writes aligned columns; each row is tab-separated.
func columns(w io.Writer, rows ...string) {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, row := range rows {
		fmt.Fprintln(tw, row)
	}
	tw.Flush()
}

func row(cells ...string) string { return strings.Join(cells, "\t") }

// onTerminal reports whether stdout is a terminal.
func (t *tool) onTerminal() bool { return terminal(t.out) }

func terminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	st, err := f.Stat()
	return err == nil && st.Mode()&os.ModeCharDevice != 0
}

const (
	red    = "31"
	green  = "32"
	yellow = "33"
	bold   = "1"
)

// paint colours text on a terminal, unless told not to.
func (t *tool) paint(code, text string) string {
	if t.noColor || os.Getenv("NO_COLOR") != "" || !t.onTerminal() {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

// ago is a duration in ms for a table; negative means never.
func ago(ms int64) string {
	if ms < 0 {
		return "never"
	}
	return (time.Duration(ms) * time.Millisecond).String() + " ago"
}

// left is what remains of a lease.
func left(ms int64) string {
	if ms < 0 {
		return "-"
	}
	return (time.Duration(ms) * time.Millisecond).String()
}

// since is how long ago a proposer's wall clock showed this time.
func since(unixNs int64) string {
	if unixNs == 0 {
		return "-"
	}
	d := time.Since(time.Unix(0, unixNs))
	switch {
	case d < 0:
		return "now"
	case d < 10*time.Second:
		return d.Round(100*time.Millisecond).String() + " ago"
	case d < time.Hour:
		return d.Round(time.Second).String() + " ago"
	default:
		return d.Round(time.Minute).String() + " ago"
	}
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func plural(n int, one string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %ss", n, one)
}
