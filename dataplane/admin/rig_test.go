package admin

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	api "heddle.io/heddle/api/admin"
	"heddle.io/heddle/bpf"
	"heddle.io/heddle/dataplane/plan"
	"heddle.io/heddle/dataplane/state"
	"heddle.io/heddle/dataplane/state/statetest"
)

const shop = `
node n1 zone=a
service shop/cart 10.96.0.10,fd00:96::10 affinity=30
  port http 80/tcp route=TCPRoute/shop/canary
    90 shop/cart/80/tcp shop/cart:80
    5 shop/canary/80/tcp shop/canary:80
    5 - shop/gone:80
service shop/cart@bank 10.96.0.10
  port http 80/tcp
    1 shop/canary/80/tcp shop/canary:80
service shop/dns 10.96.0.11
  port - 53/udp
    1 shop/dns/53/udp shop/dns:53
cluster shop/cart/80/tcp
  10.1.0.1:8080 node=n1 zone=a workload=shop/cart-0
  10.1.0.2:8080 node=n2 zone=b draining
  [fd00::1]:8080 node=n1
cluster shop/canary/80/tcp
  10.1.0.3:8080
cluster shop/dns/53/udp only-node
cluster shop/idle/80/tcp
  10.1.0.9:80
`

// stub is a node and its tables with fixed contents.
type stub struct {
	ejected  map[bpf.OutlierKey]time.Duration
	view     *View
	status   api.AgentStatus
	pods     []api.Pod
	stats    map[bpf.StatKey]bpf.StatVal
	refusals map[bpf.RefusalKey]uint64
	reasons  map[bpf.Reason]uint64
	ifaces   map[uint32]bpf.IfaceStat
	decide   func(bpf.ConnectIn) bpf.ConnectOut
	announce func(context.Context, api.PodRequest) (api.Pod, error)

	mu        sync.Mutex
	forgotten []string
}

func (s *stub) View() *View             { return s.view }
func (s *stub) Status() api.AgentStatus { return s.status }
func (s *stub) Pods() []api.Pod         { return append([]api.Pod(nil), s.pods...) }
func (s *stub) Usage() ([]api.Map, error) {
	return []api.Map{{Name: bpf.MapPods, Entries: 2, MaxEntries: 10, Bytes: 100}, {Name: bpf.MapConns, Entries: -1}}, nil
}
func (s *stub) Stats() (map[bpf.StatKey]bpf.StatVal, error)        { return s.stats, nil }
func (s *stub) Refusals() (map[bpf.RefusalKey]uint64, error)       { return s.refusals, nil }
func (s *stub) Ejected() (map[bpf.OutlierKey]time.Duration, error) { return s.ejected, nil }
func (s *stub) Reasons() (map[bpf.Reason]uint64, error)            { return s.reasons, nil }
func (s *stub) IfaceStats() (map[uint32]bpf.IfaceStat, error)      { return s.ifaces, nil }

func (s *stub) Dump(name string, limit int, _ plan.Names) (api.MapDump, error) {
	return api.MapDump{Name: name, Entries: []api.MapEntry{{Key: "1", Value: "a"}}}, nil
}

func (s *stub) Decide(in bpf.ConnectIn) (bpf.ConnectOut, error) {
	if s.decide == nil {
		return bpf.ConnectOut{}, errors.New("no kernel")
	}
	return s.decide(in), nil
}

func (s *stub) Announce(ctx context.Context, p api.PodRequest) (api.Pod, error) {
	return s.announce(ctx, p)
}

func (s *stub) Forget(_ context.Context, p api.PodRequest) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p.Name == "none" {
		return false, nil
	}
	s.forgotten = append(s.forgotten, p.Namespace+"/"+p.Name+p.UID+p.Netns)
	return true, nil
}

// forgot returns the pods that were forgotten.
func (s *stub) forgot() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.forgotten)
}

// newStub returns a node with a snapshot in force and two pods.
func newStub(t *testing.T, text string) *stub {
	t.Helper()
	snapshot, err := statetest.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	limits := plan.Limits{Pods: 10, Services: 100, Splits: 100, Clusters: 100, Endpoints: 100, Members: 100}
	contents, index, problems := plan.Build(snapshot, []plan.Pod{
		{Namespace: "shop", Name: "web", Netns: 7, Ifindex: 3},
		{Namespace: "bank", Name: "teller", Netns: 8, Ifindex: 4},
	}, limits, nil)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	return &stub{
		view: &View{Snapshot: snapshot, Contents: contents, Index: index, Records: map[PortKey]Record{}},
		pods: []api.Pod{
			{Namespace: "shop", Name: "web", Netns: 7, Ifindex: 3, Mode: "tcx", Enrolled: true},
			{Namespace: "bank", Name: "teller", Netns: 8, Ifindex: 4, Mode: "tcx", Enrolled: true},
			{Namespace: "other", Name: "outside", Netns: 9, Ifindex: 5},
		},
		stats: map[bpf.StatKey]bpf.StatVal{}, refusals: map[bpf.RefusalKey]uint64{},
		reasons: map[bpf.Reason]uint64{}, ifaces: map[uint32]bpf.IfaceStat{},
	}
}

// port returns a service port of the stub's plan.
func (s *stub) port(t *testing.T, resource string) *plan.ServicePort {
	t.Helper()
	for _, p := range s.view.Index.Ports {
		if p.Resource == resource {
			return p
		}
	}
	t.Fatalf("no port of %s", resource)
	return nil
}

// count sets the counters of an endpoint.
func (s *stub) count(service, cluster uint64, endpoint string, v bpf.StatVal) {
	at := netip.MustParseAddrPort(endpoint)
	s.stats[bpf.StatKey{Service: service, Cluster: cluster, Addr: bpf.AddrFrom(at.Addr()), PortBe: bpf.PortBE(at.Port())}] = v
}

// serve answers for s on a unix socket until the test ends.
func serve(t *testing.T, s *stub) (client *http.Client, socket string) {
	t.Helper()
	socket = filepath.Join(t.TempDir(), "run", "agent.sock")
	ctx, cancel := context.WithCancel(context.Background())
	l, err := Listen(ctx, socket)
	if err != nil {
		t.Fatal(err)
	}
	server := NewServer(s, s, NewMetrics(), slog.New(slog.DiscardHandler))
	server.http.ReadTimeout, server.http.WriteTimeout = 500*time.Millisecond, 500*time.Millisecond
	var serving sync.WaitGroup
	serving.Go(func() {
		if err := server.Serve(ctx, l); err != nil {
			t.Error(err)
		}
	})
	client = &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", socket)
		},
	}}
	t.Cleanup(func() {
		client.CloseIdleConnections()
		cancel()
		serving.Wait()
	})
	return client, socket
}

var portHTTP = PortKey{Resource: "shop/cart", Port: 80, Protocol: state.TCP}

func lines(lookups []api.Lookup) string {
	var b strings.Builder
	for _, l := range lookups {
		b.WriteString(l.Map + " " + l.Key + ": " + l.Value + "\n")
	}
	return b.String()
}
