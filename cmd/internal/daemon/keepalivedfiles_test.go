package daemon

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func TestExpandBraces(t *testing.T) {
	tests := []struct {
		pattern string
		want    []string
	}{
		{"a.conf", []string{"a.conf"}},
		{"{b,a}.conf", []string{"b.conf", "a.conf"}},
		{"x{a,b{c,d}}{1,2}", []string{"xa1", "xa2", "xbc1", "xbc2", "xbd1", "xbd2"}},
		{"{a", []string{"{a"}},
		{"{}", []string{""}},
		{"{a}", []string{"a"}},
	}
	for _, tt := range tests {
		if got := expandBraces(tt.pattern); !slices.Equal(got, tt.want) {
			t.Errorf("%s: got %q, want %q", tt.pattern, got, tt.want)
		}
	}
}

func TestKeepalivedFiles(t *testing.T) {
	dir := t.TempDir()
	for name, mode := range map[string]os.FileMode{"b.conf": 0o644, "a.conf": 0o644, "run": 0o755} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(name), mode); err != nil {
			t.Fatal(err)
		}
	}
	var f KeepalivedFiles
	got, err := f.Glob(filepath.Join(dir, "*.conf"))
	if want := []string{filepath.Join(dir, "a.conf"), filepath.Join(dir, "b.conf")}; err != nil || !slices.Equal(got, want) {
		t.Errorf("glob: %q, %v", got, err)
	}
	if got, err := f.Glob(filepath.Join(dir, "{b,a,c}.conf")); err != nil || len(got) != 2 || filepath.Base(got[0]) != "b.conf" {
		t.Errorf("braces: %q, %v", got, err)
	}
	if s, err := f.Read(filepath.Join(dir, "a.conf")); err != nil || string(s) != "a.conf" {
		t.Errorf("read: %q, %v", s, err)
	}
	for _, name := range []string{"run", "."} {
		if _, err := f.Read(filepath.Join(dir, name)); !errors.Is(err, ErrNotAConfiguration) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := f.Read(filepath.Join(dir, "none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("none: %v", err)
	}
}
