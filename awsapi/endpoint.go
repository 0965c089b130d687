package awsapi

import (
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync"
)

// endpoints maps signing names to the templates of their plain hosts, the
// preferred one first.
var endpoints = sync.OnceValue(func() map[string][]string {
	out := make(map[string][]string)
	for key, rows := range hostTable() {
		if strings.Contains(key, "-fips") || strings.Contains(key, "fips-") || strings.Contains(key, "{account}") ||
			strings.Contains(key, "dualstack") || strings.Contains(key, "accelerate") {
			continue
		}
		for _, row := range rows {
			out[row.service] = append(out[row.service], key)
		}
	}
	for service, keys := range out {
		slices.SortFunc(keys, func(a, b string) int {
			if x, y := endpointRank(service, a), endpointRank(service, b); x != y {
				return x - y
			}
			return strings.Compare(a, b)
		})
	}
	return out
})

// endpointRank orders the hosts of a signing name: the host that is named like
// it comes first, dual-stack names last.
func endpointRank(service, key string) int {
	rank := strings.Count(key, ".")
	if !strings.Contains(key, "{region}") {
		rank += 5 // names without a region are slower to reach and fail together
	}
	if !strings.HasPrefix(key, service+".") {
		rank += 10
	}
	if strings.HasSuffix(key, "{dual}") {
		rank += 100
	}
	return rank
}

// EndpointFor returns the usual endpoint of a signing name in a region. Where
// several endpoints share the signing name it is the one named like it.
func EndpointFor(service, region string) (string, bool) {
	hosts := EndpointsFor(service, region)
	if len(hosts) == 0 {
		return "", false
	}
	return hosts[0], true
}

// EndpointsFor returns the endpoints that a signing name may mean in a region,
// the usual one first: a service such as Amazon Lex has one for its models and
// one for its runtime.
func EndpointsFor(service, region string) []string {
	p := partitionOf(region)
	if p == nil {
		return nil
	}
	var out []string
	for _, key := range endpoints()[service] {
		row := hostTable()[key]
		i := slices.IndexFunc(row, func(r hostRow) bool { return r.service == service })
		if !slices.Contains(row[i].partitions, p.id) {
			continue
		}
		name := key
		switch {
		case strings.Contains(key, "{region}"):
			name = strings.NewReplacer("{region}", region, "{dns}", p.dns, "{dual}", p.dual).Replace(key)
		case row[i].region != "*" && row[i].region != region:
			continue
		}
		out = append(out, name)
	}
	return out
}

// EndpointForRequest returns the endpoint that a request with a credential
// scope of this signing name and region was meant for, when it came in under
// another host name. Where several endpoints share the signing name it is the
// one that has the request's operation.
func EndpointForRequest(service, region string, r *http.Request) (string, bool) {
	names := EndpointsFor(service, region)
	for _, name := range names {
		h, verdict := LookupHost(name)
		if verdict != HostAPI {
			continue
		}
		rq, err := readHead(h, r)
		if err != nil {
			continue
		}
		if _, err := rq.operations(); err == nil || errors.Is(err, errNoBody) {
			return name, true
		}
	}
	if len(names) == 0 {
		return "", false
	}
	return names[0], true
}
