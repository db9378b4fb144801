package daemon

import (
	"fmt"
	"io"
	"reflect"
)

// ParseDocument reads one YAML document into cfg by the same strict rules as a
// daemon's own file; cfg holds the defaults. check, if not nil, judges what was
// read: fail places a problem at a key path such as "vips[0].hosts". The error
// is a [*ConfigError] with all problems at once, or r's own.
func ParseDocument[C any](name string, r io.Reader, cfg *C, check func(fail func(path, format string, args ...any))) error {
	data, err := io.ReadAll(io.LimitReader(r, maxFile+1))
	if err != nil {
		return fmt.Errorf("read %s: %w", name, err)
	}
	c := newChecker(name, data)
	if len(data) > maxFile {
		c.fail("", "the file is longer than %d bytes", maxFile)
		return c.err()
	}
	root := reflect.ValueOf(cfg).Elem()
	c.root = root.Type()
	if node := c.document(data); node != nil {
		c.decode(node, root, "")
	}
	if check != nil && !c.syntax {
		check(c.fail)
	}
	return c.err()
}
