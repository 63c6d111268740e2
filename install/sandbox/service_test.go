package sandbox

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

// completed parses a Service in namespace ns, named svc, with this spec.
func completed(t *testing.T, c *clusterIPs, spec string, before *corev1.Service) (*corev1.Service, error) {
	t.Helper()
	objects, err := parse([]byte("apiVersion: v1\nkind: Service\nmetadata: {name: svc, namespace: ns}\nspec: " + spec))
	if err != nil {
		t.Fatal(err)
	}
	svc := objects[0].service
	return svc, c.complete(svc, before)
}

func TestServiceAddresses(t *testing.T) {
	for _, tt := range []struct{ name, spec, want string }{
		{"default", `{ports: [{port: 80}]}`, "10.96.0.32 SingleStack IPv4"},
		{"dual", `{ipFamilyPolicy: PreferDualStack, ports: [{port: 80}]}`, "10.96.0.32,fd00:10:96::20 PreferDualStack IPv4,IPv6"},
		{"dual, v6 first", `{ipFamilyPolicy: RequireDualStack, ipFamilies: [IPv6], ports: [{port: 80}]}`, "fd00:10:96::20,10.96.0.32 RequireDualStack IPv6,IPv4"},
		{"v6 only", `{ipFamilies: [IPv6], ports: [{port: 80}]}`, "fd00:10:96::20 SingleStack IPv6"},
		{"two families", `{ipFamilies: [IPv4, IPv6], ports: [{port: 80}]}`, "10.96.0.32,fd00:10:96::20 RequireDualStack IPv4,IPv6"},
		{"given", `{clusterIP: 10.96.7.7, ports: [{port: 80}]}`, "10.96.7.7 SingleStack IPv4"},
		{"given v6", `{clusterIP: "fd00:10:96::77", ports: [{port: 80}]}`, "fd00:10:96::77 SingleStack IPv6"},
		{"given and dual", `{clusterIP: 10.96.7.7, ipFamilyPolicy: PreferDualStack, ports: [{port: 80}]}`, "10.96.7.7,fd00:10:96::20 PreferDualStack IPv4,IPv6"},
		{"given list", `{clusterIPs: [10.96.7.7, "fd00:10:96::77"], ports: [{port: 80}]}`, "10.96.7.7,fd00:10:96::77 RequireDualStack IPv4,IPv6"},
		{"headless", `{clusterIP: None, ports: [{port: 80}]}`, "None SingleStack IPv4"},
		{"external name", `{type: ExternalName, externalName: example.org}`, "  "},
		{"given twice", `{clusterIP: 10.96.0.1, ports: [{port: 80}]}`, "Service ns/svc: clusterIP 10.96.0.1 already belongs to Service kube/api"},
		{"no address", `{clusterIP: here, ports: [{port: 80}]}`, `Service ns/svc: clusterIP "here" is no address`},
		{"single stack of two", `{ipFamilyPolicy: SingleStack, ipFamilies: [IPv4, IPv6], ports: [{port: 80}]}`, "Service ns/svc: ipFamilyPolicy SingleStack with two ipFamilies"},
		{"wrong family", `{clusterIP: 10.96.7.7, clusterIPs: [10.96.7.7], ipFamilies: [IPv6], ports: [{port: 80}]}`, "Service ns/svc: clusterIP 10.96.7.7 is not of family IPv6"},
		{"no ports", `{}`, "Service ns/svc: spec.ports is required"},
		{"unnamed ports", `{ports: [{port: 80}, {port: 81}]}`, "Service ns/svc: with several ports each needs a name"},
		{"port 0", `{ports: [{port: 0}]}`, "Service ns/svc: port 0 is not between 1 and 65535"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			api := &corev1.Service{}
			api.Namespace, api.Name = "kube", "api"
			api.Spec.ClusterIPs = []string{"10.96.0.1"}
			svc, err := completed(t, newClusterIPs(0, []*corev1.Service{api}), tt.spec, nil)
			got := ""
			if err != nil {
				got = err.Error()
			} else {
				got = strings.Join(svc.Spec.ClusterIPs, ",") + " "
				if svc.Spec.IPFamilyPolicy != nil {
					got += string(*svc.Spec.IPFamilyPolicy)
				}
				var families []string
				for _, f := range svc.Spec.IPFamilies {
					families = append(families, string(f))
				}
				got += " " + strings.Join(families, ",")
			}
			if got != tt.want {
				t.Errorf("got  %q\nwant %q", got, tt.want)
			}
		})
	}
}

func TestServiceKeepsItsAddress(t *testing.T) {
	c := newClusterIPs(0, nil)
	first, err := completed(t, c, `{ports: [{port: 80}]}`, nil)
	if err != nil {
		t.Fatal(err)
	}
	again, err := completed(t, newClusterIPs(c.last, []*corev1.Service{first}), `{ports: [{port: 81}], ipFamilyPolicy: PreferDualStack}`, first)
	if err != nil {
		t.Fatal(err)
	}
	if got := again.Spec.ClusterIPs; len(got) != 2 || got[0] != "10.96.0.32" || got[1] != "fd00:10:96::21" {
		t.Errorf("addresses %v: the first must stay, the second be the next free", got)
	}
}

func TestServiceDefaults(t *testing.T) {
	svc, err := completed(t, newClusterIPs(0, nil), `{ports: [{port: 80}]}`, nil)
	if err != nil {
		t.Fatal(err)
	}
	p := svc.Spec.Ports[0]
	if p.Protocol != "TCP" || p.TargetPort.IntValue() != 80 || svc.Spec.Type != "ClusterIP" || svc.Spec.SessionAffinity != "None" || *svc.Spec.InternalTrafficPolicy != "Cluster" {
		t.Errorf("defaults are not filled in: %+v", svc.Spec)
	}
}
