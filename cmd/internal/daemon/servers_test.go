package daemon

import (
	"path/filepath"
	"slices"
	"testing"
)

func TestServersAreKeptWhenNoneIsKnown(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "servers")
	if got := ReadServers(name); got != nil {
		t.Errorf("without a file: %q", got)
	}
	for _, addresses := range [][]string{{"10.0.0.2:7952", "10.0.0.1:7952"}, nil} {
		if err := WriteServers(dir, addresses); err != nil {
			t.Fatal(err)
		}
		if got, want := ReadServers(name), []string{"10.0.0.1:7952", "10.0.0.2:7952"}; !slices.Equal(got, want) {
			t.Errorf("after writing %q: %q, want %q", addresses, got, want)
		}
	}
	if err := WriteServers(filepath.Join(dir, "missing"), []string{"x:1"}); err == nil {
		t.Error("written to a directory that is not there")
	}
}
