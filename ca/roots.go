package ca

import (
	"golang.org/x/crypto/x509roots/fallback/bundle"
)

// systemFiles and systemFolders are where Linux distributions and BSDs keep
// the public roots, in the order of Go's crypto/x509/root_linux.go and
// root_bsd.go. The variables SSL_CERT_FILE and SSL_CERT_DIR are read elsewhere.
var (
	systemFiles = []string{
		"/etc/ssl/certs/ca-certificates.crt",                // Debian, Ubuntu, Gentoo
		"/etc/pki/tls/certs/ca-bundle.crt",                  // Fedora, RHEL 6
		"/etc/ssl/ca-bundle.pem",                            // OpenSUSE
		"/etc/pki/tls/cacert.pem",                           // OpenELEC
		"/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem", // CentOS, RHEL 7
		"/etc/ssl/cert.pem",                                 // Alpine, OpenBSD, macOS
		"/usr/local/etc/ssl/cert.pem",                       // FreeBSD
		"/usr/local/share/certs/ca-root-nss.crt",            // DragonFly
	}
	systemFolders = []string{
		"/etc/ssl/certs",               // SLES
		"/etc/pki/tls/certs",           // Fedora, RHEL
		"/system/etc/security/cacerts", // Android
	}
)

// Embedded is the Path of the roots that come with the program.
const Embedded = "Mozilla's roots that come with the program"

// SystemRoots returns the public roots of this machine, or, where it has none
// in a file (Windows, empty containers), those of Mozilla that were current
// when the program was built. Certificates that macOS and Windows users added
// to the system's keychain or store are not seen; name them in SSL_CERT_FILE.
func SystemRoots() (Source, error) { return rootsOf(systemFiles, systemFolders) }

func rootsOf(files, folders []string) (Source, error) {
	for _, places := range [][]string{files, folders} {
		for _, path := range places {
			if found, err := readTrust(path); err == nil && len(found) > 0 {
				return Source{Path: path, Certificates: found}, nil
			}
		}
	}
	s := Source{Path: Embedded}
	for root := range bundle.Roots() {
		// A root that is trusted only for certificates issued before some day
		// would lose that condition in a file of plain certificates.
		if root.Constraint == nil {
			s.Certificates = append(s.Certificates, root.Certificate)
		}
	}
	if len(s.Certificates) == 0 {
		return Source{}, &Error{Reason: BadTrust, What: "this machine has no public roots, and none came with the program",
			Mend: "install the package ca-certificates, or name a file of roots in SSL_CERT_FILE"}
	}
	return s, nil
}
