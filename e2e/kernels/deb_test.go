package main

import (
	"archive/tar"
	"bytes"
	"slices"
	"strings"
	"testing"
)

func packed(t *testing.T, names ...string) *bytes.Buffer {
	t.Helper()
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, name := range names {
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(name))}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return &out
}

func TestReadKernel(t *testing.T) {
	dir := "./lib/modules/6.12.1-cloud/kernel/"
	files := []string{
		"./boot/config-6.12.1-cloud", dir + "net/sched/cls_bpf.ko.xz", "./boot/vmlinuz-6.12.1-cloud",
		dir + "net/sched/sch_ingress.ko.xz", dir + "net/sched/act_bpf.ko.xz", dir + "net/sched/sch_tbf.ko.xz",
	}
	for _, name := range conntrackModules {
		if slices.Contains(absorbed, name) {
			continue
		}
		files = append(files, dir+"net/netfilter/"+name+".ko.xz")
	}
	files = append(files, dir+"drivers/net/veth.ko")
	k, err := readKernelTar(packed(t, files...))
	if err != nil {
		t.Fatal(err)
	}
	if k.release != "6.12.1-cloud" || string(k.image) != files[2] {
		t.Errorf("release %q, image %q", k.release, k.image)
	}
	if slices.Contains(k.has(conntrackModules), absorbed[0]) || !slices.Equal(k.has(modules), modules) {
		t.Errorf("the kernel has %q and %q", k.has(modules), k.has(conntrackModules))
	}
	for _, name := range slices.Concat(k.has(modules), k.has(conntrackModules)) {
		if !strings.Contains(string(k.modules[name]), "/"+name+".ko") {
			t.Errorf("module %s is %q", name, k.modules[name])
		}
	}
	if len(k.modules) != len(modules)+len(conntrackModules)-len(absorbed) {
		t.Errorf("%d modules", len(k.modules))
	}
	if _, err := readKernelTar(packed(t, files[:len(files)-1]...)); err == nil || !strings.Contains(err.Error(), "veth") {
		t.Errorf("error %v does not name the module that is missing", err)
	}
	if _, err := readKernelTar(packed(t, files[0])); err == nil || !strings.Contains(err.Error(), "vmlinuz") {
		t.Errorf("error %v does not name the image", err)
	}
	if _, err := readKernelTar(strings.NewReader("no archive at all")); err == nil {
		t.Error("no error for what is no archive")
	}
}
