package keepalived

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
)

// Severity says what a diagnostic means for the user.
type Severity uint8

// The severities.
const (
	// Info: understood and handled in another way than Keepalived does.
	Info Severity = iota + 1
	// Unhandled: Keepalived does something here that Holdfast does not.
	Unhandled
	// Warning: Keepalived would run, after it changed or ignored something.
	Warning
	// Error: Keepalived would not run, or what it names could not work.
	Error
)

// String returns the word that diagnostics are printed with.
func (s Severity) String() string {
	switch s {
	case Info:
		return "info"
	case Unhandled:
		return "unhandled"
	case Warning:
		return "warning"
	case Error:
		return "error"
	}
	return fmt.Sprintf("severity %d", uint8(s))
}

// MarshalText returns the same word.
func (s Severity) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// Diagnostic is one remark about a configuration.
type Diagnostic struct {
	Position
	Severity Severity
	Keyword  string // what it is about; may be empty
	Message  string
	Hint     string // what to do; may be empty
	// Code is the exit code that it earns in `keepalived --config-test`: 0, 2, 4, 5, 6;
	// or 3, which is Holdfast's, for a file that cannot be read.
	Code int
}

// String returns "keepalived.conf:12:5: warning: message (hint)".
func (d Diagnostic) String() string {
	s := fmt.Sprintf("%s:%d:%d: %s: %s", d.File, d.Line, d.Column, d.Severity, d.Message)
	if d.Hint != "" {
		s += " (" + d.Hint + ")"
	}
	return s
}

// MarshalJSON writes {"file", "line", "column", "severity", "keyword", "message",
// "hint", "code"}; an empty keyword or hint is left out.
func (d Diagnostic) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		File     string   `json:"file"`
		Line     int      `json:"line"`
		Column   int      `json:"column"`
		Severity Severity `json:"severity"`
		Keyword  string   `json:"keyword,omitempty"`
		Message  string   `json:"message"`
		Hint     string   `json:"hint,omitempty"`
		Code     int      `json:"code"`
	}{d.File, d.Line, d.Column, d.Severity, d.Keyword, d.Message, d.Hint, d.Code})
}

// Sort brings diagnostics in the order of files, lines and columns.
func Sort(ds []Diagnostic) {
	slices.SortStableFunc(ds, func(a, b Diagnostic) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
}

// Fatal says whether a configuration with these diagnostics must not be used: with an
// error, an instance may be missing or half configured.
func Fatal(ds []Diagnostic) bool {
	return slices.ContainsFunc(ds, func(d Diagnostic) bool { return d.Severity == Error })
}

// ExitCode is what `keepalived --config-test` ends with for these diagnostics:
//
//	0  no complaint
//	2  a keyword lacks its argument: reading ends at once
//	3  a file is missing, empty or cannot be read (Holdfast's: Keepalived says 0)
//	4  it cannot run
//	5  it runs, after it changed or ignored something
//	6  scripts are configured, and script security is not
//
// The first of 2, 3, 6, 5, 4 that was earned is the code, as in Keepalived, where a
// warning hides what is worse than it.
func ExitCode(ds []Diagnostic) int {
	for _, code := range []int{2, noFile, 6, 5, 4} {
		if slices.ContainsFunc(ds, func(d Diagnostic) bool { return d.Code == code }) {
			return code
		}
	}
	return 0
}
