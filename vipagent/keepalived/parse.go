package keepalived

// Files is where configuration files come from.
type Files interface {
	// Read returns a file's content.
	Read(path string) ([]byte, error)
	// Glob returns the existing paths that match a pattern, sorted, as glob(3).
	Glob(pattern string) ([]string, error)
}

// Options are what a configuration's meaning depends on besides its text.
type Options struct {
	ConfigID string            // --config-id: which @ lines count
	Env      map[string]string // of ${_ENV ...}
	Instance string            // --instance... of $_INSTANCE
	PWD      string
}

// Parse reads the file and what it includes. It returns what it understood whatever
// is wrong; Fatal of the diagnostics says whether that may be used.
func Parse(files Files, path string, o Options) (*Config, []Diagnostic) { return &Config{}, nil }

// Fatal says whether a configuration with these diagnostics must not be used.
func Fatal(ds []Diagnostic) bool { return false }

// ExitCode is what `keepalived --config-test` ends with for these diagnostics.
func ExitCode(ds []Diagnostic) int { return 0 }
