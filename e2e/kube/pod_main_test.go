package kube

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/signal"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"

	"heddle.io/heddle/e2e/peer"
)

// inPod is what this binary does under the name peer: in pods, and on nodes.
func inPod(args []string) int {
	var err error
	switch {
	case len(args) == 3 && args[0] == "health":
		err = serveHealth(args[1], args[2])
	case len(args) == 2 && args[0] == "announce":
		err = announce(args[1])
	case len(args) == 1 && args[0] == "received":
		err = received()
	case len(args) == 1 && args[0] == "sink":
		err = sink()
	case len(args) == 3 && args[0] == "spray":
		err = spray(args[1], args[2])
	default:
		return peer.Main(args, os.Stdout, os.Stderr)
	}
	if err != nil {
		fmt.Println(err)
		return 1
	}
	return 0
}

// serveHealth answers HTTP and gRPC probes.
func serveHealth(overHTTP, overGRPC string) error {
	l, err := net.Listen("tcp", overGRPC)
	if err != nil {
		return err
	}
	s := grpc.NewServer()
	grpc_health_v1.RegisterHealthServer(s, health.NewServer())
	failed := make(chan error, 2)
	go func() { failed <- s.Serve(l) }()
	go func() {
		failed <- http.ListenAndServe(overHTTP, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") }))
	}()
	return <-failed
}

// received prints how many packets the pod's interface has taken.
func received() error {
	count, err := os.ReadFile("/sys/class/net/eth0/statistics/rx_packets")
	fmt.Print(string(count))
	return err
}

// sink prints what the interface had taken when the pod's first process started,
// and stays.
func sink() error {
	if err := received(); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGTERM)
	defer stop()
	<-ctx.Done()
	return nil
}

// spray sends a datagram to every address from first to last, again and again.
func spray(first, last string) error {
	from, err := netip.ParseAddr(first)
	if err != nil {
		return err
	}
	to, err := netip.ParseAddr(last)
	if err != nil {
		return err
	}
	socket, err := net.ListenUDP("udp4", nil)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGTERM)
	defer stop()
	for round := time.NewTicker(20 * time.Millisecond); ; {
		select {
		case <-ctx.Done():
			return nil
		case <-round.C:
		}
		for a := from; a.Compare(to) <= 0; a = a.Next() {
			// Nobody has most of them, which the network may say.
			_, _ = socket.WriteToUDPAddrPort([]byte("x"), netip.AddrPortFrom(a, 9))
		}
	}
}

// announce tells the agent of a pod that is not there, as the CNI plugin would.
// The answer is an error, which says how far the agent listened.
func announce(socket string) error {
	client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}}}
	body := `{"namespace":"shop","name":"stolen","uid":"1","netns":"/run/netns/none","interface":"none"}`
	request, err := http.NewRequest(http.MethodPut, "http://agent/v1/pods", bytes.NewBufferString(body))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/json")
	answer, err := client.Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(io.LimitReader(answer.Body, 4096))
	if err != nil {
		return err
	}
	return fmt.Errorf("%s: %s", answer.Status, text)
}
