package sandbox

import (
	"embed"
	"fmt"
	"strings"
)

//go:embed examples/*.yaml
var examples embed.FS

// Examples are the names of the built-in manifests.
func Examples() []string {
	entries, _ := examples.ReadDir("examples") // embedded: always there
	var names []string
	for _, e := range entries {
		names = append(names, strings.TrimSuffix(e.Name(), ".yaml"))
	}
	return names
}

// Example is a built-in manifest.
func Example(name string) ([]byte, error) {
	text, err := examples.ReadFile("examples/" + name + ".yaml")
	if err != nil {
		return nil, fmt.Errorf("no example %q: there is %s", name, strings.Join(Examples(), ", "))
	}
	return text, nil
}
