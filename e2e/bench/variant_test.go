package main

import (
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestVariants: names are unique where they have to be, and fit where they go.
func TestVariants(t *testing.T) {
	keys, slugs := map[string]bool{}, map[string]bool{}
	label := regexp.MustCompile(`^[a-z]([a-z0-9-]{0,50}[a-z0-9])?$`)
	for _, v := range variants {
		if keys[v.key()] || slugs[v.slug()] {
			t.Errorf("two variants are %s or have pods called %s", v.key(), v.slug())
		}
		keys[v.key()], slugs[v.slug()] = true, true
		if !label.MatchString(v.slug()) {
			t.Errorf("%s: %q is no name for a service", v.key(), v.slug())
		}
		if (v.Dial == byProxy) != (v.Proxy != "") {
			t.Errorf("%s: a proxy is dialled or it is not there", v.key())
		}
		if !v.Mesh && (len(v.AgentArgs) > 0 || len(v.PodLabels) > 0) {
			t.Errorf("%s: arguments for an agent that does not run", v.key())
		}
	}
	for _, s := range settings {
		if !slices.ContainsFunc(variants, func(v *Variant) bool { return v.Setting == s && v.Name == s.base() }) {
			t.Errorf("%s has no %s to compare with", s, s.base())
		}
	}
	for _, g := range goals {
		if !slices.ContainsFunc(variants, func(v *Variant) bool { return v.Setting == g.setting && v.Name == g.variant }) {
			t.Errorf("a goal for %s, which is no variant", g.variant)
		}
		if !slices.ContainsFunc(metrics, func(m metric) bool { return m.name == g.metric && m.cost }) {
			t.Errorf("a goal for %s, which has no ratio", g.metric)
		}
	}
}

func TestChoose(t *testing.T) {
	all, err := choose(variants, nil)
	if err != nil || len(all) != len(variants) {
		t.Errorf("all variants: %d, %v", len(all), err)
	}
	some, err := choose(variants, []string{"haproxy"})
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, v := range some {
		names = append(names, v.Name)
	}
	if want := []string{direct, "haproxy", directPodIP}; !slices.Equal(names, want) {
		t.Errorf("haproxy and what it is compared with: %v, want %v", names, want)
	}
	if _, err := choose(variants, []string{"traefik"}); err == nil {
		t.Error("a variant that does not exist is measured")
	}
}

func TestKubeProxyRules(t *testing.T) {
	own := rule{"own", netip.MustParseAddrPort("10.96.2.1:80"), []netip.AddrPort{netip.MustParseAddrPort("10.244.1.9:8080")}}
	text := kubeProxyRules(append(fillerRules(), own))
	for _, part := range []string{
		"10.96.2.1 . tcp . 80 : goto service-own,",
		"chain service-own {",
		"numgen random mod 1 vmap { 0 : goto endpoint-own-0, }",
		"meta l4proto tcp dnat to 10.244.1.9:8080",
		"ct state invalid drop",
	} {
		if !strings.Contains(text, part) {
			t.Errorf("the rules have no %q", part)
		}
	}
	if n := strings.Count(text, "chain service-filler-"); n != fillers {
		t.Errorf("%d services besides, want %d", n, fillers)
	}
	seen := map[netip.AddrPort]bool{}
	for _, r := range fillerRules() {
		if seen[r.address] {
			t.Errorf("two services have the address %s", r.address)
		}
		seen[r.address] = true
	}
}
