package kube

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"

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
