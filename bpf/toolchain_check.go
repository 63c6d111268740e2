//go:build ignore

// Checks that the installed compiler is the one that the committed objects are
// built with. Run by go generate.
package main

import (
	"bufio"
	"bytes"
	"fmt"
	"log"
	"os"
	"os/exec"
	"strings"
)

func main() {
	log.SetFlags(0)
	pins, err := os.Open("toolchain")
	if err != nil {
		log.Fatal(err)
	}
	defer pins.Close()
	lines := bufio.NewScanner(pins)
	for lines.Scan() {
		tool, version, ok := strings.Cut(lines.Text(), " ")
		if !ok {
			log.Fatalf("bpf/toolchain: line %q is not \"tool version\"", lines.Text())
		}
		if err := check(tool, version); err != nil {
			log.Fatal(err)
		}
	}
	if err := lines.Err(); err != nil {
		log.Fatal(err)
	}
}

func check(tool, version string) error {
	major, _, _ := strings.Cut(version, ".")
	binary := tool + "-" + major
	out, err := exec.Command(binary, "--version").Output()
	if err != nil {
		return fmt.Errorf("%s --version: %w; bpf/toolchain asks for %s %s (Debian 12: apt-get install clang-%s llvm-%s)",
			binary, err, tool, version, major, major)
	}
	first, _, _ := bytes.Cut(out, []byte("\nTarget"))
	for word := range strings.FieldsSeq(string(first)) {
		if word == version {
			return nil
		}
	}
	return fmt.Errorf("%s is not version %s but %q; another version makes other objects than the committed ones, see bpf/toolchain",
		binary, version, strings.Join(strings.Fields(string(first)), " "))
}
