package daemon

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// TestREADMEFiles parses the configuration files that the README shows.
func TestREADMEFiles(t *testing.T) {
	text, err := os.ReadFile("../../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	file := func(name string) string {
		m := regexp.MustCompile("`/etc/holdfast/" + name + "\\.yaml`\n\n((?:    .*\n)+)").FindSubmatch(text)
		if m == nil {
			t.Fatalf("the README shows no %s.yaml", name)
		}
		return strings.ReplaceAll("\n"+string(m[1]), "\n    ", "\n")
	}
	if _, _, err := ParseCoordinator("README.md", strings.NewReader(file("coordinator"))); err != nil {
		t.Errorf("coordinator.yaml: %v", err)
	}
	if _, _, err := BrokerFile().Parse("README.md", strings.NewReader(file("brokerd"))); err != nil {
		t.Errorf("brokerd.yaml: %v", err)
	}
	if _, _, err := ParseAgent("README.md", strings.NewReader(file("vipagent"))); err != nil {
		t.Errorf("vipagent.yaml: %v", err)
	}
}
