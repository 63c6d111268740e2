// Command fetch is an HTTP client for pods of the test cluster:
//
//	fetch URL [TIMES]
//
// It opens a connection for each time and writes "STATUS BODY". Over https it
// trusts the cluster's authority and shows the pod's service account token, as
// any client of the API server does. It ends with 1 when a request has failed;
// every answer is a success, whatever its status.
//
// Debian's static busybox has a wget, which crashes where the libraries of its
// resolver are not.
package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"
)

const account = "/var/run/secrets/kubernetes.io/serviceaccount/"

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "fetch:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	times := 1
	if len(args) == 2 {
		var err error
		if times, err = strconv.Atoi(args[1]); err != nil {
			return err
		}
		args = args[:1]
	}
	if len(args) != 1 {
		return errors.New("usage: fetch URL [TIMES]")
	}
	transport := &http.Transport{DisableKeepAlives: true}
	token := ""
	if strings.HasPrefix(args[0], "https:") {
		ca, err := os.ReadFile(account + "ca.crt")
		if err != nil {
			return err
		}
		roots := x509.NewCertPool()
		roots.AppendCertsFromPEM(ca)
		transport.TLSClientConfig = &tls.Config{RootCAs: roots}
		b, err := os.ReadFile(account + "token")
		if err != nil {
			return err
		}
		token = string(b)
	}
	client := &http.Client{Transport: transport, Timeout: 2 * time.Second}
	var failures []error
	for range times {
		if err := fetch(client, args[0], token); err != nil {
			failures = append(failures, err)
		}
	}
	return errors.Join(failures...)
}

func fetch(client *http.Client, url, token string) error {
	req, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return err
	}
	fmt.Printf("%d %s\n", resp.StatusCode, strings.TrimRight(string(body), "\n"))
	return nil
}
