package main

import (
	"fmt"
	"net"
	"net/url"
	"strings"

	"github.com/countersign-proxy/countersign/config"
)

// notThroughItself refuses a way out, as upstream.proxy says, that leads back in.
func notThroughItself(proxy, listen string, getenv func(string) string) error {
	ways := map[string]string{"upstream.proxy": proxy}
	if proxy == "" || proxy == "env" {
		ways = map[string]string{"HTTPS_PROXY": getenv("HTTPS_PROXY"), "https_proxy": getenv("https_proxy")}
	}
	for _, name := range sortedNames(ways) {
		if way, ok := leadsTo(ways[name], listen); ok {
			return fmt.Errorf("%s is %s, which is this proxy itself: its own calls would come back to it; start it from a shell without the settings of `countersign env`", name, way)
		}
	}
	return nil
}

// leadsTo says whether a proxy's URL, or its address alone, is that of a listener of
// this machine, and returns the URL without what is secret in it.
func leadsTo(proxy, listen string) (way string, ok bool) {
	if proxy == "" || proxy == "none" {
		return "", false
	}
	if !strings.Contains(proxy, "://") {
		proxy = "http://" + proxy
	}
	u, err := url.Parse(proxy)
	if err != nil {
		return "", false
	}
	u.User = nil
	host, port, err := net.SplitHostPort(listen)
	if err != nil || u.Port() != port || port == "0" {
		return "", false
	}
	return u.String(), u.Hostname() == host || config.LoopbackAddress(u.Host) && (everywhere(host) || config.LoopbackAddress(listen))
}
