package mitm

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// target is a host and port in canonical form: equal targets are equal values.
type target struct {
	host string // lower case, no trailing dot, no brackets
	port int
}

// authority is t as in a URL of scheme https.
func (t target) authority() string {
	if t.port == 443 {
		if strings.Contains(t.host, ":") {
			return "[" + t.host + "]"
		}
		return t.host
	}
	return t.address()
}

// address is t as net.Dial wants it.
func (t target) address() string { return net.JoinHostPort(t.host, strconv.Itoa(t.port)) }

// isLiteral reports whether the host is an IP address.
func (t target) isLiteral() bool {
	_, err := netip.ParseAddr(t.host)
	return err == nil
}

var errNoPort = errors.New("the port is missing")

// parseAuthority reads "host", "host:port", "[v6]" or "[v6]:port". Without a
// port defaultPort is taken, and 0 means that there is no default.
func parseAuthority(s string, defaultPort int) (target, error) {
	host, port := s, ""
	hasPort := false
	switch {
	case strings.HasPrefix(s, "["):
		end := strings.IndexByte(s, ']')
		if end < 0 {
			return target{}, errors.New("']' is missing")
		}
		host = s[1:end]
		rest := s[end+1:]
		if rest != "" {
			if rest[0] != ':' {
				return target{}, errors.New("']' must be followed by ':' and the port")
			}
			port, hasPort = rest[1:], true
		}
		addr, err := netip.ParseAddr(host)
		if err != nil || !addr.Is6() || addr.Zone() != "" {
			return target{}, errors.New("brackets must hold an IPv6 address without a zone")
		}
		host = addr.String()
	default:
		if i := strings.IndexByte(s, ':'); i >= 0 {
			host, port, hasPort = s[:i], s[i+1:], true
		}
		var err error
		if host, err = canonicalName(host); err != nil {
			return target{}, err
		}
	}
	if !hasPort {
		if defaultPort == 0 {
			return target{}, errNoPort
		}
		return target{host, defaultPort}, nil
	}
	// Only digits: strconv would take a sign.
	if port == "" || len(port) > 5 || strings.Trim(port, "0123456789") != "" {
		return target{}, fmt.Errorf("%q is not a port", port)
	}
	n, err := strconv.Atoi(port)
	if err != nil || n < 1 || n > 65535 {
		return target{}, fmt.Errorf("%q is not a port", port)
	}
	return target{host, n}, nil
}

// canonicalName checks and normalises a DNS name or IPv4 literal. Underscores
// occur in names of real hosts. A name that ends in a number is an IPv4 address
// in one of the forms that inet_aton reads (127.1, 0x7f.1, 2130706433; see the
// host parser of the WHATWG URL standard), and refused unless it is the usual
// one, since programs differ in what they connect to.
func canonicalName(s string) (string, error) {
	name := strings.TrimSuffix(strings.ToLower(s), ".")
	if name == "" {
		return "", errors.New("the host is missing")
	}
	if len(name) > 253 {
		return "", errors.New("the host is longer than 253 bytes")
	}
	last := ""
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || len(label) > 63 {
			return "", errors.New("the host has an empty label, or one longer than 63 bytes")
		}
		for i := range len(label) {
			switch c := label[i]; {
			case 'a' <= c && c <= 'z', '0' <= c && c <= '9', c == '-', c == '_':
			default:
				return "", fmt.Errorf("the host contains %q: write international names in their xn-- form", label[i:i+1])
			}
		}
		last = label
	}
	if strings.Trim(last, "0123456789") == "" || strings.HasPrefix(last, "0x") && strings.Trim(last[2:], "0123456789abcdef") == "" {
		addr, err := netip.ParseAddr(name)
		if err != nil {
			return "", errors.New("the host is an IPv4 address in an unusual form: write it as four decimal numbers")
		}
		return addr.String(), nil
	}
	return name, nil
}
