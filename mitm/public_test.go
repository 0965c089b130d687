package mitm

import (
	"errors"
	"net"
	"net/netip"
	"testing"
)

func TestAddressClass(t *testing.T) {
	for addr, want := range map[string]string{
		"8.8.8.8": "", "1.1.1.1": "", "52.94.236.248": "", "99.83.0.1": "", "100.63.255.255": "", "100.128.0.0": "",
		"172.15.255.255": "", "172.32.0.0": "", "192.0.1.1": "", "198.17.255.255": "", "198.20.0.0": "", "223.255.255.255": "",
		"2600:1f00::1": "", "2a00:1450:4001::200e": "", "2001:4860:4860::8888": "", "2620:107:3000::1": "",
		"::ffff:8.8.8.8": "", "64:ff9b::808:808": "",

		"0.0.0.0": "an unspecified address", "0.1.2.3": "an unspecified address",
		"10.0.0.0": "a private address", "10.255.255.255": "a private address",
		"172.16.0.1": "a private address", "172.31.255.255": "a private address", "192.168.1.1": "a private address",
		"100.64.0.0": "a carrier's shared address", "100.127.255.255": "a carrier's shared address", "100.100.100.200": "a carrier's shared address",
		"127.0.0.1": "a loopback address", "127.255.255.255": "a loopback address",
		"169.254.0.1": "a link-local or metadata address", "169.254.169.254": "a link-local or metadata address",
		"169.254.170.2": "a link-local or metadata address", "169.254.170.23": "a link-local or metadata address",
		"168.63.129.15": "", "168.63.129.16": "a metadata address", "::ffff:168.63.129.16": "a metadata address",
		"192.0.0.192": "a protocol's reserved address", "192.0.2.1": "a documentation address",
		"192.88.99.1": "a 6to4 relay address", "198.18.0.1": "a benchmarking address", "198.19.255.255": "a benchmarking address",
		"198.51.100.1": "a documentation address", "203.0.113.1": "a documentation address",
		"224.0.0.1": "a multicast address", "239.255.255.250": "a multicast address",
		"240.0.0.1": "a reserved or broadcast address", "255.255.255.255": "a reserved or broadcast address",
		"::ffff:127.0.0.1": "a loopback address", "::ffff:10.0.0.1": "a private address", "::ffff:169.254.169.254": "a link-local or metadata address",

		"::": "an unspecified address", "::1": "a loopback address", "::2": "a reserved address", "::127.0.0.1": "a reserved address",
		"64:ff9b::7f00:1": "a loopback address", "64:ff9b::a00:1": "a private address", "64:ff9b::a9fe:a9fe": "a link-local or metadata address",
		"64:ff9b:1::1": "a local translation address", "100::1": "a reserved address",
		"2001::1": "a protocol's reserved address", "2001:db8::1": "a documentation address", "2002:a00:1::1": "a 6to4 address",
		"2002:808:808::1": "a 6to4 address", "3fff::1": "a documentation address", "4000::1": "a reserved address", "5f00::1": "a reserved address",
		"fc00::1": "a private or metadata address", "fd00:ec2::254": "a private or metadata address", "fd00:ec2::23": "a private or metadata address",
		"fd20:ce::254": "a private or metadata address", "fe80::1": "a link-local address", "fec0::1": "a site-local address",
		"ff02::1": "a multicast address", "fe80::1%eth0": "an address with a zone", "2600::1%eth0": "an address with a zone",
	} {
		if got := addressClass(netip.MustParseAddr(addr)); got != want {
			t.Errorf("%s: got %q, want %q", addr, got, want)
		}
	}
	if got := addressClass(netip.Addr{}); got != "not an address" {
		t.Errorf("no address: got %q", got)
	}
}

// A service that listens on all interfaces is reached by the machine's public
// address as by its loopback one.
func TestOwnPublicAddressIsRefused(t *testing.T) {
	p := startProxy(t, Options{PermitAddress: nobody})
	p.localAddrs = func() ([]net.Addr, error) {
		return []net.Addr{
			&net.IPNet{IP: net.ParseIP("52.1.2.3"), Mask: net.CIDRMask(32, 32)},
			&net.IPNet{IP: net.ParseIP("2600:1f00::7"), Mask: net.CIDRMask(64, 128)},
		}, nil
	}
	for address, want := range map[string]string{
		"52.1.2.3:443":       "52.1.2.3 is an address of the proxy's own machine, and tunnels lead to public addresses only",
		"[2600:1f00::7]:443": "2600:1f00::7 is an address of the proxy's own machine, and tunnels lead to public addresses only",
		"52.1.2.4:443":       "",
		"[2600:1f00::8]:443": "",
	} {
		network := "tcp4"
		if address[0] == '[' {
			network = "tcp6"
		}
		got := ""
		if err := p.control(t.Context(), network, address, nil); err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%s: got %q, want %q", address, got, want)
		}
	}
	p.localAddrs = func() ([]net.Addr, error) { return nil, errors.New("no netlink") }
	if err := p.control(t.Context(), "tcp4", "52.1.2.4:443", nil); err == nil {
		t.Error("allowed although the machine's addresses are unknown")
	}
	if err := p.control(t.Context(), "udp4", "52.1.2.4:443", nil); err == nil {
		t.Error("a datagram socket was allowed")
	}
}
