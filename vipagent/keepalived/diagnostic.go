package keepalived

import "fmt"

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

// Diagnostic is one remark about a configuration.
type Diagnostic struct {
	Position
	Severity Severity
	Keyword  string // what it is about; may be empty
	Message  string
	Hint     string // what to do; may be empty
	// Code is the exit code that it earns in `keepalived --config-test`: 0, 2, 4, 5, 6.
	Code int
}

// String returns "keepalived.conf:12:5: warning: message (hint)".
func (d Diagnostic) String() string {
	return fmt.Sprintf("%s:%d:%d: %s", d.File, d.Line, d.Column, d.Message)
}
