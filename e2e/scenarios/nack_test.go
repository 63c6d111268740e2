package scenarios

import (
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/anypb"

	"heddle.io/heddle/api/xds"
)

// A control plane that sends what cannot be decoded: the agent refuses it by
// name, takes the rest, keeps what it had, and everybody can see it.
func TestNack(t *testing.T) {
	m := up(t, "shop.yaml")
	m.waitServices("shop/web")
	m.must(m.StopController(t.Context(), syscall.SIGKILL))

	garbage := &anypb.Any{TypeUrl: xds.ServiceType, Value: []byte("\xff\xff\xff not a message")}
	tooLong, err := anypb.New(&xds.Service{Namespace: "shop", Name: "odd", Addresses: [][]byte{{1, 2, 3}}})
	m.must(err)
	good, err := anypb.New(&xds.Service{
		Namespace: "shop", Name: "good", Addresses: [][]byte{{10, 96, 5, 1}},
		Ports: []*xds.ServicePort{{Name: "web", Port: 80, Protocol: xds.Protocol_TCP,
			Clusters: []*xds.WeightedCluster{{Weight: 1, Backend: "shop/nowhere:80"}}}},
	})
	m.must(err)
	socket := filepath.Join(m.Dir(), "xds.sock")
	m.must(os.Remove(socket)) // of the controller
	listener, err := net.Listen("unix", socket)
	m.must(err)
	server := grpc.NewServer()
	discovery.RegisterAggregatedDiscoveryServiceServer(server, &rogue{resources: []*discovery.Resource{
		{Name: "shop/garbage", Version: "1", Resource: garbage},
		{Name: "shop/odd", Version: "1", Resource: tooLong},
		{Name: "shop/good", Version: "1", Resource: good},
	}})
	go server.Serve(listener)
	t.Cleanup(server.Stop)

	m.eventually("the agent refuses", func() error {
		status, err := m.Agent("node1").Status(t.Context())
		if err != nil {
			return err
		}
		if nack := status.Feed.LastNack; status.Feed.Nacks == 0 || nack == nil || !slices.Contains([]string{"shop/garbage", "shop/odd"}, nack.Resource) {
			return fmt.Errorf("%d refusals, the last %+v", status.Feed.Nacks, nack)
		}
		return nil
	})
	m.waitStatus("shop/garbage")
	m.waitKnown("shop/good", "shop/web") // good ones are taken; what was not sent again stays
	m.reach("shop/client", 20, "10.96.1.2:80")
}

// rogue is a control plane that sends its resources once, and then listens.
type rogue struct {
	discovery.UnimplementedAggregatedDiscoveryServiceServer
	resources []*discovery.Resource
}

func (r *rogue) DeltaAggregatedResources(s discovery.AggregatedDiscoveryService_DeltaAggregatedResourcesServer) error {
	for sent := false; ; {
		req, err := s.Recv()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if req.GetTypeUrl() != xds.ServiceType || sent {
			continue
		}
		sent = true
		err = s.Send(&discovery.DeltaDiscoveryResponse{
			TypeUrl: xds.ServiceType, Nonce: "1", SystemVersionInfo: "1", Resources: r.resources,
		})
		if err != nil {
			return err
		}
	}
}
