package feed

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc/codes"

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

// What does not fit is named, and told again only when it is something else.
func TestIncompleteNamesWhatLacks(t *testing.T) {
	f, err := New(Options{Node: "n1", Server: "unix:///nobody", Confirm: true})
	if err != nil {
		t.Fatal(err)
	}
	respond(f, "1", xds.NodeType, xds.ClusterType, xds.WorkloadType)
	f.accept(&discovery.DeltaDiscoveryResponse{TypeUrl: xds.ServiceType, Nonce: "1Service", Resources: []*discovery.Resource{{Name: "a/b"}}})
	u := <-f.Updates()
	told := func(err error, want string) {
		t.Helper()
		f.Applied(u.Seq, err)
		var got []string
		for _, a := range f.takeAnswers() {
			got = append(got, fmt.Sprintf("%s %v %v", a.ResponseNonce, codes.Code(a.ErrorDetail.GetCode()), namedBy(a.ErrorDetail)))
		}
		if strings.Join(got, ", ") != want {
			t.Errorf("%v: %q, want %q", err, got, want)
		}
	}
	all := func(code, names string) string {
		return fmt.Sprintf("1Node %[1]s %[2]s, 1Cluster %[1]s %[2]s, 1Workload %[1]s %[2]s, 1Service ", code, names)
	}
	told(Incomplete{"x": "full"}, all("Internal", "[x]")+"InvalidArgument [x a/b]")
	told(Incomplete{"x": "fuller"}, "")
	told(Incomplete{"x": "full", "y": "full"}, all("Internal", "[x y]")+"InvalidArgument [x y a/b]")
	told(errors.New("bad"), all("Internal", "[]")+"Internal []")
	told(nil, all("OK", "[]")+"InvalidArgument [a/b]")
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
