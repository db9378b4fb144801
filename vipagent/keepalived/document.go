package keepalived

import (
	"fmt"
	"slices"
	"strings"
)

// UnhandledTable is the table, in Markdown, of the keywords that are recognised and of
// which nothing is done, with what that means.
func UnhandledTable() string {
	type row struct {
		in     string
		reason string
	}
	var rows []row
	names := make(map[row][]string)
	for _, k := range newLanguage().words {
		if k.reason == "" {
			continue
		}
		r := row{k.in.String(), k.reason}
		if names[r] == nil {
			rows = append(rows, r)
		}
		names[r] = append(names[r], "`"+k.name+"`")
	}
	slices.SortStableFunc(rows, func(a, b row) int { return strings.Compare(a.in, b.in) })
	var b strings.Builder
	b.WriteString("| where | keywords | what that means |\n|---|---|---|\n")
	for _, r := range rows {
		fmt.Fprintf(&b, "| %s | %s | %s |\n", r.in, strings.Join(names[r], " "), r.reason)
	}
	return b.String()
}
