package status

import (
	"fmt"
	"reflect"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/json"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"heddle.io/heddle/controlplane/condition"
	"heddle.io/heddle/controlplane/model"
)

// ControllerName marks the entries that are Heddle's.
const ControllerName = "heddle.io/controller"

// maxEntries is how many parents and ancestors Gateway API lets a status have.
const (
	maxParents   = 32
	maxAncestors = 16
)

// edit puts the status of o into the object as it is now, and tells whether that
// changed anything. It does nothing when the object is newer than o.
func edit(live *unstructured.Unstructured, o *condition.Object) (changed, behind bool, err error) {
	if !o.Refused && live.GetGeneration() != o.Generation {
		return false, true, nil
	}
	before, _, _ := unstructured.NestedMap(live.Object, "status")
	switch o.Kind {
	case "ExternalService", "MeshConfig":
		err = editConditions(live, o)
	case "TrafficPolicy":
		err = editEntries(live, o, "ancestors", "ancestorRef", maxAncestors, targets)
	default:
		err = editEntries(live, o, "parents", "parentRef", maxParents, parents)
	}
	if err != nil {
		return false, false, fmt.Errorf("status of %s: %w", o.Name(), err)
	}
	after, _, _ := unstructured.NestedMap(live.Object, "status")
	return !reflect.DeepEqual(before, after), false, nil
}

// merge puts conditions in place of those of the same types. The time of one that
// stays true, or false, stays.
func merge(old []metav1.Condition, conditions []condition.Condition, generation int64) []metav1.Condition {
	for _, c := range conditions {
		status := metav1.ConditionFalse
		if c.True {
			status = metav1.ConditionTrue
		}
		meta.SetStatusCondition(&old, metav1.Condition{Type: c.Type, Status: status, Reason: c.Reason, Message: c.Message, ObservedGeneration: generation})
	}
	return old
}

func editConditions(live *unstructured.Unstructured, o *condition.Object) error {
	var status struct {
		Conditions []metav1.Condition `json:"conditions"`
	}
	if raw, ok := live.Object["status"].(map[string]any); ok {
		if err := decode(raw, &status); err != nil {
			return err
		}
	}
	status.Conditions = merge(status.Conditions, o.Conditions, live.GetGeneration())
	return set(live, "conditions", plain(status.Conditions))
}

// An entry is the conditions of an object with one of its parents or targets.
type entry struct {
	ref        any
	conditions []condition.Condition
}

// editEntries replaces Heddle's entries in a list of the status. Those of other
// controllers stay, untouched and in their places; those of parents that the object
// no longer has go.
func editEntries(live *unstructured.Unstructured, o *condition.Object, list, refField string, most int, find func(*unstructured.Unstructured, *condition.Object) ([]entry, error)) error {
	wanted, err := find(live, o)
	if err != nil {
		return err
	}
	old, _, err := unstructured.NestedSlice(live.Object, "status", list)
	if err != nil {
		return err
	}
	var out []any
	ours := make(map[string][]metav1.Condition)
	for _, item := range old {
		e, ok := item.(map[string]any)
		if !ok || e["controllerName"] != ControllerName {
			out = append(out, item)
			continue
		}
		var c struct {
			Conditions []metav1.Condition `json:"conditions"`
		}
		if err := decode(e, &c); err != nil {
			return err
		}
		ours[fmt.Sprint(e[refField])] = c.Conditions
	}
	for _, w := range wanted[:min(len(wanted), max(0, most-len(out)))] {
		ref := plain(w.ref)
		out = append(out, map[string]any{
			refField:         ref,
			"controllerName": ControllerName,
			"conditions":     plain(merge(ours[fmt.Sprint(ref)], w.conditions, live.GetGeneration())),
		})
	}
	if len(out) == 0 && len(old) == 0 {
		return nil
	}
	if out == nil {
		out = []any{} // the field is required
	}
	return set(live, list, out)
}

// parents are the Services among the parents of a route.
func parents(live *unstructured.Unstructured, o *condition.Object) ([]entry, error) {
	var spec gatewayv1.CommonRouteSpec
	if err := decodeSpec(live, &spec); err != nil {
		return nil, err
	}
	var out []entry
	for _, ref := range spec.ParentRefs {
		if ref.Kind == nil || *ref.Kind != "Service" || ref.Group == nil || *ref.Group != "" && *ref.Group != "core" {
			continue
		}
		p := model.Parent{Service: model.Key{Namespace: live.GetNamespace(), Name: string(ref.Name)}}
		if ref.Namespace != nil {
			p.Service.Namespace = string(*ref.Namespace)
		}
		if ref.Port != nil {
			p.Port = uint16(*ref.Port)
		}
		if ref.SectionName != nil {
			p.PortName = string(*ref.SectionName)
		}
		out = append(out, entry{ref, conditionsOf(o, p)})
	}
	return out, nil
}

// targets are what a policy is for.
func targets(live *unstructured.Unstructured, o *condition.Object) ([]entry, error) {
	var spec struct {
		TargetRefs []gatewayv1.LocalPolicyTargetReferenceWithSectionName `json:"targetRefs"`
	}
	if err := decodeSpec(live, &spec); err != nil {
		return nil, err
	}
	var out []entry
	for _, t := range spec.TargetRefs {
		namespace := gatewayv1.Namespace(live.GetNamespace())
		ref := gatewayv1.ParentReference{Group: &t.Group, Kind: &t.Kind, Namespace: &namespace, Name: t.Name, SectionName: t.SectionName}
		p := model.Parent{Service: model.Key{Namespace: live.GetNamespace(), Name: string(t.Name)}}
		if t.SectionName != nil {
			p.PortName = string(*t.SectionName)
		}
		out = append(out, entry{ref, conditionsOf(o, p)})
	}
	return out, nil
}

// conditionsOf returns the conditions with a parent. A version that was refused may
// have parents that nobody looked at: for those the refusal is all there is.
func conditionsOf(o *condition.Object, p model.Parent) []condition.Condition {
	for _, known := range o.Parents {
		if known.Parent == p {
			return known.Conditions
		}
	}
	if len(o.Conditions) > 0 {
		return o.Conditions
	}
	if len(o.Parents) > 0 {
		return o.Parents[0].Conditions
	}
	return nil
}

func decodeSpec(live *unstructured.Unstructured, into any) error {
	raw, _, err := unstructured.NestedMap(live.Object, "spec")
	if err != nil {
		return err
	}
	return decode(raw, into)
}

func set(live *unstructured.Unstructured, field string, value any) error {
	return unstructured.SetNestedField(live.Object, value, "status", field)
}

// decode reads a part of an object.
func decode(raw, into any) error {
	body, err := json.Marshal(raw)
	if err != nil {
		return err
	}
	return json.Unmarshal(body, into)
}

// plain turns a value into what JSON makes of it.
func plain(v any) any {
	body, err := json.Marshal(v)
	var out any
	if err == nil {
		err = json.Unmarshal(body, &out) // whole numbers become int64, as in what is read
	}
	if err != nil {
		panic(fmt.Sprintf("a %T is no JSON: %v", v, err)) // the types here all are
	}
	return out
}
