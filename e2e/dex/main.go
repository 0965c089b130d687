// Command dex serves one OpenID provider for a test: Dex's own server and connectors,
// with storage in memory. Its main program cannot be built from the module proxy any
// more (a storage for Kubernetes and etcd needs packages that are gone), so the parts
// that matter are put together here.
//
//	dex WEB    configuration as JSON on standard input, until that ends
//
// It prints where it listens, without TLS. Connectors are opened as Dex opens them,
// and a key that they do not know is an error; people are those of the first.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"

	"github.com/dexidp/dex/server"
	"github.com/dexidp/dex/storage"
	"github.com/dexidp/dex/storage/memory"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"
)

type config struct {
	Issuer        string           `json:"issuer"`
	StaticClients []storage.Client `json:"staticClients"`
	Connectors    []struct {
		Type   string          `json:"type"`
		ID     string          `json:"id"`
		Name   string          `json:"name"`
		Config json.RawMessage `json:"config"`
	} `json:"connectors"`
	OAuth2 struct {
		SkipApprovalScreen bool `json:"skipApprovalScreen"`
	} `json:"oauth2"`
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "dex:", err)
		os.Exit(1)
	}
}

func run() error {
	var c config
	in := json.NewDecoder(os.Stdin)
	in.DisallowUnknownFields()
	if err := in.Decode(&c); err != nil {
		return err
	}
	log := logrus.New()
	log.Out = os.Stderr
	var connectors []storage.Connector
	for i, x := range c.Connectors {
		kind, ok := server.ConnectorsConfig[x.Type]
		if !ok {
			return fmt.Errorf("no connector %q", x.Type)
		}
		own := kind()
		decoder := json.NewDecoder(bytes.NewReader(x.Config))
		decoder.DisallowUnknownFields()
		if err := decoder.Decode(own); err != nil && len(x.Config) > 0 {
			return fmt.Errorf("%s: %w", x.ID, err)
		}
		if _, err := own.Open(x.ID, log); err != nil {
			return fmt.Errorf("%s: %w", x.ID, err)
		}
		if i == 0 {
			connectors = append(connectors, storage.Connector{ID: x.ID, Type: x.Type, Name: x.Name, Config: x.Config})
		}
	}
	store := storage.WithStaticClients(memory.New(log), c.StaticClients)
	store = storage.WithStaticConnectors(store, connectors)
	handler, err := server.NewServer(context.Background(), server.Config{
		Issuer: c.Issuer, Storage: store, SkipApprovalScreen: c.OAuth2.SkipApprovalScreen, Logger: log,
		Web: server.WebConfig{Dir: os.Args[1]}, PrometheusRegistry: prometheus.NewRegistry(),
	})
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println("http://" + listener.Addr().String())
	go func() {
		_, _ = io.Copy(io.Discard, io.MultiReader(in.Buffered(), os.Stdin))
		os.Exit(0)
	}()
	return http.Serve(listener, handler)
}
