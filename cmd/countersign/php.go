package main

import (
	"runtime"
	"slices"
	"strings"
)

// phpINI has PHP trust what the AWS command line interface trusts. libcurl inside of
// PHP, which the AWS SDK goes through, reads a file of roots from php.ini alone.
const phpINI = `; Written by countersign, and named by PHP_INI_SCAN_DIR: PHP trusts the proxy's CA.
curl.cainfo = "${AWS_CA_BUNDLE}"
openssl.cafile = "${AWS_CA_BUNDLE}"
`

// phpScanDir adds a folder to those that PHP reads settings from, as the last, which
// wins. The empty entry is the folder that PHP was built to read (PHP manual, "The
// configuration file", "Scan directories").
func phpScanDir(existing, dir string) string {
	separator := ":"
	if runtime.GOOS == "windows" && !strings.HasPrefix(dir, "/") { // a sidecar's folder is one of Linux
		separator = ";"
	}
	dirs := slices.DeleteFunc(strings.Split(existing, separator), func(d string) bool { return d == dir })
	return strings.Join(append(dirs, dir), separator)
}
