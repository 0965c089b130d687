package main

import (
	"crypto/x509"
	"path/filepath"

	"github.com/countersign-proxy/countersign/awsapi"
	"github.com/countersign-proxy/countersign/ca"
	"github.com/countersign-proxy/countersign/config"
)

// openAuthority opens the CA of the configuration, and makes one on first use.
func openAuthority(cfg *config.Config, opt ca.Options) (*ca.Authority, error) {
	dir, err := authorityDir(cfg)
	if err != nil {
		return nil, err
	}
	return ca.Open(dir, opt)
}

// authorityDir is where the CA is kept; the state directory is checked and made.
func authorityDir(cfg *config.Config) (string, error) {
	if filepath.Dir(cfg.CA.Dir) == cfg.StateDir {
		if err := config.MakeStateDir(cfg.StateDir); err != nil {
			return "", err
		}
	}
	return cfg.CA.Dir, nil
}

// authorityOptions are those of a CA whose certificates are counted.
func (p *proxy) authorityOptions(cfg *config.Config) ca.Options {
	opt := authorityOptions(cfg)
	opt.Issued = func(string) { p.metrics.CertificateIssued() }
	return opt
}

func authorityOptions(cfg *config.Config) ca.Options {
	return ca.Options{Suffixes: authoritySuffixes(cfg), RotateBefore: cfg.CA.RotateBefore, CacheSize: cfg.Limits.Certificates}
}

// authoritySuffixes are the names that the CA may sign for: AWS's, and those
// that rules name.
func authoritySuffixes(cfg *config.Config) []string {
	out := awsapi.SuffixesOfAWS()
	for _, h := range cfg.Hosts {
		out = append(out, h.Pattern)
	}
	for _, u := range cfg.Unsigned {
		out = append(out, u.Hosts...)
	}
	return out
}

// upstreamRoots reads what connections to AWS are checked against.
func upstreamRoots(getenv func(string) string) (*x509.CertPool, error) {
	roots, err := ca.EnvironmentRoots(ca.TrustOptions{Getenv: getenv})
	if err != nil {
		return nil, err
	}
	return certPool(roots), nil
}

// certPool is what AWS's certificates are checked against: the system's roots,
// and what the environment of this process trusts.
func certPool(sources []ca.Source) *x509.CertPool {
	pool := x509.NewCertPool()
	for _, s := range sources {
		for _, der := range s.Certificates {
			if c, err := x509.ParseCertificate(der); err == nil {
				pool.AddCert(c)
			}
		}
	}
	return pool
}
