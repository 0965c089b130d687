package mitm

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"syscall"
)

// AddressError says that a tunnel's host resolved to an address to which no
// tunnel may lead.
type AddressError struct {
	Address netip.AddrPort
	Class   string // "a private address" …
}

func (e *AddressError) Error() string {
	return fmt.Sprintf("%s is %s, and tunnels lead to public addresses only", e.Address.Addr(), e.Class)
}

type addressRange struct {
	prefix netip.Prefix
	class  string
}

// The IANA special-purpose registries (RFC 6890), as far as they are not
// globally reachable, and what else is no unicast address of the internet.
// More specific ranges come first.
var ipv4Ranges = []addressRange{
	{netip.MustParsePrefix("0.0.0.0/8"), "an unspecified address"},
	{netip.MustParsePrefix("10.0.0.0/8"), "a private address"},
	{netip.MustParsePrefix("100.64.0.0/10"), "a carrier's shared address"},
	{netip.MustParsePrefix("127.0.0.0/8"), "a loopback address"},
	// Azure's machines reach their host there, which hands out certificates and settings.
	{netip.MustParsePrefix("168.63.129.16/32"), "a metadata address"},
	{netip.MustParsePrefix("169.254.0.0/16"), "a link-local or metadata address"},
	{netip.MustParsePrefix("172.16.0.0/12"), "a private address"},
	{netip.MustParsePrefix("192.0.0.0/24"), "a protocol's reserved address"},
	{netip.MustParsePrefix("192.0.2.0/24"), "a documentation address"},
	{netip.MustParsePrefix("192.88.99.0/24"), "a 6to4 relay address"},
	{netip.MustParsePrefix("192.168.0.0/16"), "a private address"},
	{netip.MustParsePrefix("198.18.0.0/15"), "a benchmarking address"},
	{netip.MustParsePrefix("198.51.100.0/24"), "a documentation address"},
	{netip.MustParsePrefix("203.0.113.0/24"), "a documentation address"},
	{netip.MustParsePrefix("224.0.0.0/4"), "a multicast address"},
	{netip.MustParsePrefix("240.0.0.0/4"), "a reserved or broadcast address"},
}

// Only 2000::/3 is allocated for global unicast (RFC 4291, 2.4); the rest is
// named here for the message. 6to4 and Teredo are refused whatever IPv4 address
// they embed: both are dead, and a relay may stand anywhere.
var ipv6Ranges = []addressRange{
	{netip.MustParsePrefix("::/128"), "an unspecified address"},
	{netip.MustParsePrefix("::1/128"), "a loopback address"},
	{netip.MustParsePrefix("64:ff9b:1::/48"), "a local translation address"},
	{netip.MustParsePrefix("2001::/23"), "a protocol's reserved address"},
	{netip.MustParsePrefix("2001:db8::/32"), "a documentation address"},
	{netip.MustParsePrefix("2002::/16"), "a 6to4 address"},
	{netip.MustParsePrefix("3fff::/20"), "a documentation address"},
	{netip.MustParsePrefix("fc00::/7"), "a private or metadata address"},
	{netip.MustParsePrefix("fe80::/10"), "a link-local address"},
	{netip.MustParsePrefix("fec0::/10"), "a site-local address"},
	{netip.MustParsePrefix("ff00::/8"), "a multicast address"},
}

var (
	globalUnicast = netip.MustParsePrefix("2000::/3")
	// DNS64 makes addresses of this prefix in networks without IPv4; the last
	// four bytes are the IPv4 address that is meant (RFC 6052).
	nat64 = netip.MustParsePrefix("64:ff9b::/96")
)

// addressClass says what keeps addr from being public; "" means that it is.
func addressClass(addr netip.Addr) string {
	if !addr.IsValid() {
		return "not an address"
	}
	if addr.Zone() != "" {
		return "an address with a zone"
	}
	addr = addr.Unmap()
	if nat64.Contains(addr) {
		b := addr.As16()
		addr = netip.AddrFrom4([4]byte(b[12:]))
	}
	ranges := ipv6Ranges
	if addr.Is4() {
		ranges = ipv4Ranges
	}
	for _, r := range ranges {
		if r.prefix.Contains(addr) {
			return r.class
		}
	}
	if addr.Is6() && !globalUnicast.Contains(addr) {
		return "a reserved address"
	}
	return ""
}

// control is the net.Dialer.ControlContext of tunnels. It sees every address
// that is about to be connected to, after resolution, so a name that resolves
// differently on the second look gains nothing.
func (s *Server) control(_ context.Context, network, address string, _ syscall.RawConn) error {
	target, err := netip.ParseAddrPort(address)
	if err != nil || network != "tcp4" && network != "tcp6" {
		return &AddressError{Class: fmt.Sprintf("not a TCP address (%s %s)", network, address)}
	}
	class := addressClass(target.Addr())
	if class == "" {
		class = s.ownAddress(target.Addr().Unmap())
	}
	if class == "" || s.opt.PermitAddress != nil && s.opt.PermitAddress(target) {
		return nil
	}
	return &AddressError{Address: target, Class: class}
}

// ownAddress refuses the public addresses of this machine: what listens on all
// interfaces would be reached by them as by the loopback address.
func (s *Server) ownAddress(addr netip.Addr) string {
	own, err := s.localAddrs()
	if err != nil {
		return "perhaps an address of this machine, whose addresses cannot be listed"
	}
	for _, a := range own {
		if n, ok := a.(*net.IPNet); ok {
			if ip, ok := netip.AddrFromSlice(n.IP); ok && ip.Unmap().WithZone("") == addr {
				return "an address of the proxy's own machine"
			}
		}
	}
	return ""
}
