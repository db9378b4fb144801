package main

import (
	"encoding/json"
	"fmt"
	"io"

	"go.yaml.in/yaml/v3"

	"holdfast/vipagent/health"
	"holdfast/vipagent/keepalived"
	"holdfast/vipagent/keepalived/translate"
)

// showImport prints what the files come to.
func (t *tool) showImport(im *imported) error {
	switch t.format {
	case "json", "yaml":
		v, err := im.plain()
		if err != nil {
			return err
		}
		if t.format == "yaml" {
			return encodeYAML(t.out, v)
		}
		enc := json.NewEncoder(t.out)
		enc.SetIndent("", "  ")
		enc.SetEscapeHTML(false)
		if err := enc.Encode(v); err != nil {
			return fmt.Errorf("write JSON: %w", err)
		}
	case "name":
		for _, s := range im.sets {
			fmt.Fprintln(t.out, s.GetName())
		}
	default:
		return t.importTable(im)
	}
	return nil
}

func encodeYAML(w io.Writer, v any) error {
	enc := yaml.NewEncoder(w)
	enc.SetIndent(2)
	if err := enc.Encode(v); err != nil {
		return fmt.Errorf("write YAML: %w", err)
	}
	return nil
}

// writeChecks writes checks as vipagent.yaml has them.
func writeChecks(w io.Writer, checks []health.Check) error {
	if checks == nil {
		checks = []health.Check{} // "checks: []", not null
	}
	return encodeYAML(w, struct {
		Checks []health.Check `yaml:"checks"`
	}{checks})
}

// plain is the import as maps and lists, for JSON and YAML: sets as the API has them,
// checks as vipagent.yaml has them.
func (im *imported) plain() (any, error) {
	type host struct {
		Host    string                  `json:"host"`
		File    string                  `json:"file"`
		Remarks []keepalived.Diagnostic `json:"remarks"`
		Checks  any                     `json:"checks"`
	}
	out := struct {
		Schema      int                    `json:"schema"`
		Hosts       []host                 `json:"hosts"`
		Differences []translate.Difference `json:"differences"`
		Sets        []json.RawMessage      `json:"sets"`
	}{Schema: 1, Hosts: []host{}, Differences: append([]translate.Difference{}, im.differences...), Sets: []json.RawMessage{}}
	for i, h := range im.hosts {
		data, err := yaml.Marshal(append([]health.Check{}, im.checks[i].Checks...))
		if err != nil {
			return nil, fmt.Errorf("convert checks: %w", err)
		}
		var checks any
		if err := yaml.Unmarshal(data, &checks); err != nil {
			return nil, fmt.Errorf("convert checks: %w", err)
		}
		out.Hosts = append(out.Hosts, host{h.Host, h.File, append([]keepalived.Diagnostic{}, im.remarks(i)...), checks})
	}
	for _, s := range im.sets {
		data, err := toJSON(s)
		if err != nil {
			return nil, err
		}
		out.Sets = append(out.Sets, data)
	}
	data, err := json.Marshal(out)
	if err != nil {
		return nil, fmt.Errorf("convert to JSON: %w", err)
	}
	var v any
	if err := yaml.Unmarshal(data, &v); err != nil { // JSON is YAML
		return nil, fmt.Errorf("convert to YAML: %w", err)
	}
	return v, nil
}

// remarks are those of the parser on a host's file, and those of the translation.
func (im *imported) remarks(i int) []keepalived.Diagnostic {
	var out []keepalived.Diagnostic
	for _, d := range im.hosts[i].Diagnostics {
		if d.Severity != keepalived.Info {
			out = append(out, d)
		}
	}
	out = append(out, im.checks[i].Remarks...)
	keepalived.Sort(out)
	return out
}

// importTable shows it to people.
func (t *tool) importTable(im *imported) error {
	w := t.out
	rows := []string{row("HOST", "FILE", "INSTANCES", "CHECKS", "REMARKS")}
	for i, h := range im.hosts {
		rows = append(rows, row(h.Host, h.File, fmt.Sprint(len(h.Config.Instances)), fmt.Sprint(len(im.checks[i].Checks)), fmt.Sprint(len(im.remarks(i)))))
	}
	columns(w, rows...)
	fmt.Fprintln(w, "\nDIFFERENCES")
	if len(im.differences) == 0 {
		fmt.Fprintln(w, "none")
	}
	for _, d := range im.differences {
		t.difference(w, d)
	}
	fmt.Fprintln(w, "\nREMARKS")
	none := true
	for i := range im.hosts {
		for _, d := range im.remarks(i) {
			none = false
			fmt.Fprintln(w, d)
		}
	}
	if none {
		fmt.Fprintln(w, "none")
	}
	fmt.Fprintln(w, "\nVIP SETS")
	writeSetFile(w, im.sets)
	for _, c := range im.checks {
		fmt.Fprintf(w, "\nCHECKS OF %s\n", c.Host)
		if err := writeChecks(w, c.Checks); err != nil {
			return err
		}
	}
	return nil
}

func (t *tool) difference(w io.Writer, d translate.Difference) {
	colour := yellow
	switch d.Severity {
	case keepalived.Error:
		colour = red
	case keepalived.Info:
		colour = bold
	}
	fmt.Fprintf(w, "%s: %s: %s\n", t.paint(colour, d.Severity.String()), d.Router, d.Keyword)
	var rows []string
	for _, s := range d.Sides {
		rows = append(rows, row("  "+s.Host, s.Value, s.Place()))
	}
	columns(w, rows...)
	fmt.Fprintf(w, "  %s\n  -> %s\n", d.Meaning, d.Remedy)
}
