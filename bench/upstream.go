package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

const (
	region     = "us-east-1"
	s3Host     = "s3.us-east-1.amazonaws.com"
	dynamoHost = "dynamodb.us-east-1.amazonaws.com"
	stsHost    = "sts.us-east-1.amazonaws.com"
)

// Of STS, countersign asks once whose its source credentials are.
const caller = `<GetCallerIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><GetCallerIdentityResult>
<Arn>arn:aws:iam::123456789012:user/bench</Arn><UserId>AIDABENCHBENCHBENCH22</UserId><Account>123456789012</Account>
</GetCallerIdentityResult></GetCallerIdentityResponse>`

// serveUpstream stands for AWS. It verifies nothing: it is there to cost as
// little as TLS allows, so that what is measured is the way to it.
func serveUpstream(s settings) error {
	pair, err := tls.LoadX509KeyPair(s.Chain, s.Key)
	if err != nil {
		return err
	}
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		if r.Host == stsHost {
			w.Header().Set("Content-Type", "text/xml")
			io.WriteString(w, caller)
			return
		}
		size, err := strconv.ParseInt(r.Header.Get("X-Amz-Meta-Size"), 10, 64)
		if err != nil {
			w.Header().Set("Content-Type", "application/x-amz-json-1.0")
			io.WriteString(w, "{}")
			return
		}
		w.Header().Set("Content-Type", "binary/octet-stream")
		w.Header().Set("Content-Length", strconv.FormatInt(size, 10))
		io.Copy(w, &zeros{size})
	})
	return announceAndServe(&http.Server{
		Handler:           handler,
		ReadHeaderTimeout: 10 * time.Second,
		TLSConfig:         &tls.Config{Certificates: []tls.Certificate{pair}},
	})
}

// authority makes a CA and a certificate for the hosts that are asked for. The
// CA also signs for the proxies that bring none.
func authority(dir string) (settings, error) {
	now := time.Now()
	rootKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return settings{}, err
	}
	root := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "bench"},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	rootDER, err := x509.CreateCertificate(rand.Reader, root, root, rootKey.Public(), rootKey)
	if err != nil {
		return settings{}, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return settings{}, err
	}
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "bench server"},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(23 * time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames: []string{s3Host, dynamoHost, stsHost},
	}
	leafDER, err := x509.CreateCertificate(rand.Reader, leaf, root, key.Public(), rootKey)
	if err != nil {
		return settings{}, err
	}
	s := settings{
		Root:    filepath.Join(dir, "root.pem"),
		RootKey: filepath.Join(dir, "root.key"),
		Chain:   filepath.Join(dir, "server.pem"),
		Key:     filepath.Join(dir, "server.key"),
	}
	for file, block := range map[string]*pem.Block{
		s.Root:  {Type: "CERTIFICATE", Bytes: rootDER},
		s.Chain: {Type: "CERTIFICATE", Bytes: leafDER},
	} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			return settings{}, err
		}
	}
	for file, key := range map[string]*ecdsa.PrivateKey{s.RootKey: rootKey, s.Key: key} {
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			return settings{}, err
		}
		if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600); err != nil {
			return settings{}, err
		}
	}
	return s, nil
}
