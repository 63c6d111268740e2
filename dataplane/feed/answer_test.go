package feed

import (
	"errors"
	"strings"
	"testing"

	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"

	"heddle.io/heddle/api/xds"
)

// respond gives a feed an empty answer of each type that is named.
func respond(f *Feed, nonce string, types ...string) {
	for _, url := range types {
		f.accept(&discovery.DeltaDiscoveryResponse{TypeUrl: url, Nonce: nonce + typeName(url)})
	}
}

func TestAcknowledgedWhenApplied(t *testing.T) {
	f, err := New(Options{Node: "n1", Server: "unix:///nobody", Confirm: true})
	if err != nil {
		t.Fatal(err)
	}
	respond(f, "1", xds.Types[:3]...)
	if got := texts(f.takeAnswers()); got != "" {
		t.Fatalf("before every type is known: %s", got)
	}
	respond(f, "1", xds.Types[3])
	u := <-f.Updates()
	if got := texts(f.takeAnswers()); got != "" {
		t.Fatalf("before it is applied: %s", got)
	}
	f.Applied(u.Seq, errors.New("map is full"))
	if got, want := texts(f.takeAnswers()), "no 1Node, no 1Cluster, no 1Service, no 1Workload"; got != want {
		t.Fatalf("after it failed: %s, want %s", got, want)
	}
	if got := texts(f.takeAnswers()); got != "" {
		t.Fatalf("refused again: %s", got)
	}
	f.Applied(u.Seq, nil)
	if got, want := texts(f.takeAnswers()), "ok 1Node, ok 1Cluster, ok 1Service, ok 1Workload"; got != want {
		t.Fatalf("after it succeeded: %s, want %s", got, want)
	}

	// What changes nothing is in force already.
	respond(f, "2", xds.ServiceType)
	if got, want := texts(f.takeAnswers()), "ok 2Service"; got != want {
		t.Errorf("an empty answer: %s, want %s", got, want)
	}
	s := f.Status()
	if s.Acks != 5 || s.Nacks != 4 {
		t.Errorf("%d acknowledged and %d refused, want 5 and 4", s.Acks, s.Nacks)
	}
}

// What cannot be decoded is refused also when the rest of it is in force.
func TestRefusedWhenApplied(t *testing.T) {
	f, err := New(Options{Node: "n1", Server: "unix:///nobody", Confirm: true})
	if err != nil {
		t.Fatal(err)
	}
	respond(f, "1", xds.NodeType, xds.ClusterType, xds.WorkloadType)
	f.accept(&discovery.DeltaDiscoveryResponse{TypeUrl: xds.ServiceType, Nonce: "1Service", Resources: []*discovery.Resource{{Name: "a/b"}}})
	u := <-f.Updates()
	f.Applied(u.Seq, nil)
	if got, want := texts(f.takeAnswers()), "ok 1Node, ok 1Cluster, ok 1Workload, no 1Service"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func texts(answers []*discovery.DeltaDiscoveryRequest) string {
	var out []string
	for _, a := range answers {
		word := "ok "
		if a.ErrorDetail != nil {
			word = "no "
		}
		out = append(out, word+a.ResponseNonce)
	}
	return strings.Join(out, ", ")
}
