package test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// settled are settings that the parser itself takes into account: they are in the
// instances, groups and scripts that it returns, or said to be without effect.
func settled() map[string]string {
	return map[string]string{
		"Global.NotifyPriorities":   "in Notify.Priorities",
		"Global.DefaultInterface":   "in Instance.Interface",
		"Global.SkipCheckAddresses": "in Instance.SkipCheckAddress",
		"Global.ReloadCheckConfig":  "every reload checks first",
		"Global.IPTables":           "no_accept is nftables' alone (docs/plain.md)",
		"Global.NFTables":           "no_accept is nftables' alone (docs/plain.md)",
		"NotifyFIFO.VRRP":           "there is nothing but VRRP to tell either kind of FIFO",
		"Email.Alert":               "in Notify.Email",
		"Instance.Debug":            "checked; the log's level is the process's (-D)",
	}
}

// TestSettingsAreUsed: whatever the parser reads out of a keepalived.conf is used by
// plain mode. What is not must be reported by the parser and have no field. Fields are
// told apart by their names alone.
func TestSettingsAreUsed(t *testing.T) {
	used := selected(t, "../vipagent/router", "../cmd/vipagent")
	left := settled()
	for _, field := range fieldsOf(t, "../vipagent/keepalived/config.go") {
		_, name, _ := strings.Cut(field, ".")
		_, known := left[field]
		delete(left, field)
		switch {
		case !used[name] && !known:
			t.Errorf("%s is read from the configuration, and nobody uses it", field)
		case used[name] && known:
			t.Errorf("%s is used: it need not be excused", field)
		}
	}
	for field := range left {
		t.Errorf("there is no %s", field)
	}
}

// fieldsOf returns the exported fields of the structs of a file, as Type.Field.
func fieldsOf(t *testing.T, path string) (fields []string) {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	ast.Inspect(f, func(n ast.Node) bool {
		spec, ok := n.(*ast.TypeSpec)
		if !ok {
			return true
		}
		s, ok := spec.Type.(*ast.StructType)
		if !ok || spec.Name.Name == "Position" {
			return false
		}
		for _, field := range s.Fields.List {
			for _, name := range field.Names {
				if name.IsExported() && name.Name != "At" {
					fields = append(fields, spec.Name.Name+"."+name.Name)
				}
			}
		}
		return false
	})
	if !slices.Contains(fields, "Instance.VRID") {
		t.Fatalf("fields of %s: %q", path, fields)
	}
	return fields
}

// selected returns the names that stand behind a dot in the Go files of directories.
func selected(t *testing.T, dirs ...string) map[string]bool {
	t.Helper()
	names := make(map[string]bool)
	for _, dir := range dirs {
		err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			f, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
			if err != nil {
				return err
			}
			ast.Inspect(f, func(n ast.Node) bool {
				if s, ok := n.(*ast.SelectorExpr); ok {
					names[s.Sel.Name] = true
				}
				return true
			})
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return names
}
