package ca

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"golang.org/x/net/publicsuffix"
)

// hostname returns name in the form in which it is put into a certificate:
// lower case, without the final dot. IP addresses, wildcards and everything
// that is not letters, digits, hyphens, underscores (old S3 buckets have them)
// and dots is refused.
func hostname(name string) (string, error) {
	host := strings.ToLower(strings.TrimSuffix(name, "."))
	bad := func(what string) (string, error) {
		return "", &Error{Reason: BadName, Host: name, What: fmt.Sprintf("%q %s", clip(name), what)}
	}
	if host == "" {
		return bad("is not a host name")
	}
	if len(host) > 253 {
		return bad("is longer than 253 characters")
	}
	if _, err := netip.ParseAddr(strings.Trim(host, "[]")); err == nil {
		return bad("is an IP address, and this authority is not permitted to vouch for addresses")
	}
	for label := range strings.SplitSeq(host, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return bad("is not a host name")
		}
		for _, c := range []byte(label) {
			if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' {
				return bad("is not a host name")
			}
		}
	}
	return host, nil
}

// clip keeps what a stranger sent from filling a log.
func clip(s string) string {
	if len(s) > 300 {
		return s[:300] + "…"
	}
	return s
}

// Suffixes returns the list as it would be permitted to an authority: a
// leading "*." or "." is dropped, since RFC 5280 section 4.2.1.10 lets a name
// permit itself and everything below it; duplicates and names below another of
// the list are dropped; sorted. A registry suffix such as "com" or "co.uk" is
// an error: an authority for it could impersonate strangers.
func Suffixes(list []string) ([]string, error) {
	var names []string
	for _, s := range list {
		name, err := hostname(strings.TrimPrefix(strings.TrimPrefix(s, "*"), "."))
		if err != nil {
			return nil, &Error{Reason: BadSuffix, Host: s, What: fmt.Sprintf("%q cannot be a permitted DNS suffix", clip(s)),
				Mend: `write a domain name such as "amazonaws.com"`, Err: err}
		}
		if registry, icann := publicsuffix.PublicSuffix(name); icann && registry == name {
			return nil, &Error{Reason: BadSuffix, Host: s,
				What: fmt.Sprintf("%q is a registry's suffix: an authority permitted to sign for it could impersonate strangers", name),
				Mend: "name the domain below it"}
		}
		names = append(names, name)
	}
	slices.Sort(names)
	names = slices.Compact(names)
	return slices.DeleteFunc(names, func(name string) bool {
		return slices.ContainsFunc(names, func(other string) bool { return strings.HasSuffix(name, "."+other) })
	}), nil
}

// covers reports whether one of the suffixes permits host.
func covers(suffixes []string, host string) bool {
	return slices.ContainsFunc(suffixes, func(s string) bool {
		return host == s || strings.HasSuffix(host, "."+s)
	})
}
