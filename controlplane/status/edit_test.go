package status

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"heddle.io/heddle/controlplane/condition"
	"heddle.io/heddle/controlplane/model"
)

const liveRoute = `
kind: TCPRoute
metadata: {name: canary, namespace: shop, generation: 3}
spec:
  parentRefs:
  - {group: "", kind: Service, name: web}
  - {name: gateway}
  - {group: core, kind: Service, name: api, namespace: other, port: 80, sectionName: http}
status:
  parents:
  - parentRef: {group: "", kind: Service, name: gone}
    controllerName: heddle.io/controller
    conditions: [{type: Accepted, status: "True", reason: Accepted, message: "", lastTransitionTime: "2026-01-01T00:00:00Z"}]
  - parentRef: {name: gateway}
    controllerName: example.com/other
    unknown: [kept]
  - parentRef: {group: "", kind: Service, name: web}
    controllerName: heddle.io/controller
    conditions:
    - {type: Accepted, status: "True", reason: Accepted, message: "", lastTransitionTime: "2026-01-01T00:00:00Z", observedGeneration: 2}
    - {type: Theirs, status: "True", reason: Good, message: "", lastTransitionTime: "2026-01-01T00:00:00Z"}
`

func read(t *testing.T, text string) *unstructured.Unstructured {
	t.Helper()
	u := &unstructured.Unstructured{}
	body, err := yaml.YAMLToJSON([]byte(strings.Replace(text, "kind:", "apiVersion: v1\nkind:", 1)))
	if err != nil {
		t.Fatal(err)
	}
	if err := u.UnmarshalJSON(body); err != nil {
		t.Fatal(err)
	}
	return u
}

func accepted(ok bool) []condition.Condition {
	return []condition.Condition{{Type: condition.Accepted, True: ok, Reason: "Accepted"}}
}

func TestEditRoute(t *testing.T) {
	o := &condition.Object{Kind: "TCPRoute", Key: model.Key{Namespace: "shop", Name: "canary"}, Generation: 3, Parents: []condition.Parent{
		{Parent: model.Parent{Service: model.Key{Namespace: "shop", Name: "web"}}, Conditions: accepted(true)},
		{Parent: model.Parent{Service: model.Key{Namespace: "other", Name: "api"}, Port: 80, PortName: "http"}, Conditions: accepted(false)},
	}}
	live := read(t, liveRoute)
	changed, behind, err := edit(live, o)
	if err != nil || !changed || behind {
		t.Fatalf("changed %t, behind %t, %v", changed, behind, err)
	}
	entries, _, _ := unstructured.NestedSlice(live.Object, "status", "parents")
	var got []string
	for _, e := range entries {
		e := e.(map[string]any)
		text := fmt.Sprint(e["parentRef"].(map[string]any)["name"], " ", e["controllerName"])
		if e["unknown"] != nil {
			text += " kept"
		}
		list, _, _ := unstructured.NestedSlice(e, "conditions")
		for _, c := range list {
			c := c.(map[string]any)
			text += fmt.Sprintf(" %s=%s@%v", c["type"], c["status"], c["observedGeneration"])
			if c["lastTransitionTime"] == "2026-01-01T00:00:00Z" {
				text += " since then"
			}
		}
		got = append(got, text)
	}
	want := []string{
		"gateway example.com/other kept",
		"web heddle.io/controller Accepted=True@3 since then Theirs=True@<nil> since then",
		"api heddle.io/controller Accepted=False@3",
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if changed, _, err := edit(live, o); changed || err != nil {
		t.Errorf("the same again: changed %t, %v", changed, err)
	}
	o.Generation = 2
	if changed, behind, err := edit(live, o); changed || !behind || err != nil {
		t.Errorf("a newer object: changed %t, behind %t, %v", changed, behind, err)
	}
}

func TestEditPlain(t *testing.T) {
	live := read(t, "kind: MeshConfig\nmetadata: {name: default, generation: 1}\nspec: {}\n")
	o := &condition.Object{Kind: "MeshConfig", Key: model.Key{Name: "default"}, Generation: 1, Conditions: accepted(true)}
	if changed, _, err := edit(live, o); !changed || err != nil {
		t.Fatalf("changed %t, %v", changed, err)
	}
	list, _, _ := unstructured.NestedSlice(live.Object, "status", "conditions")
	if len(list) != 1 {
		t.Errorf("conditions %v", list)
	}
}
