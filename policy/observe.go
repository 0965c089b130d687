package policy

import (
	"net/netip"
	"strconv"
	"strings"

	"github.com/countersign-proxy/countersign/awsapi"
)

// Observation is one call that was seen: in full (Needs), or as an audit line keeps it
// (Actions and Resources, without saying which belongs to which).
type Observation struct {
	Needs     []awsapi.Need
	Actions   []string
	Resources []string

	Service, Operation string // for the report
	Region             string
	AccessLevel        string
	Unknown            string // why the call was not understood, "" when it was
}

// Observe keeps of a call what Learn needs.
func Observe(c *awsapi.Call) Observation {
	return Observation{
		Needs: c.Needs, Service: c.Service, Operation: c.Operation, Region: c.Region,
		AccessLevel: c.AccessLevel, Unknown: c.Unknown,
	}
}

// needs pairs actions with resources: an action goes with the ARNs of its own service.
// Without such an ARN it goes with those that no other action claims, and without
// these with "*".
func (o *Observation) needs() []awsapi.Need {
	if len(o.Needs) > 0 {
		return o.Needs
	}
	claimed := make(map[string]bool)
	own := func(action, arn string) bool {
		prefix, _, _ := strings.Cut(action, ":")
		return strings.EqualFold(arnService(arn), prefix)
	}
	for _, r := range o.Resources {
		for _, a := range o.Actions {
			claimed[r] = claimed[r] || own(a, r)
		}
	}
	var out []awsapi.Need
	for _, a := range o.Actions {
		n := awsapi.Need{Action: a}
		add := func(r string) {
			// Names of objects may hold anything. Elsewhere a wildcard stands for what
			// the call left open.
			if r != "*" && arnService(r) != "s3" && strings.ContainsAny(r, "*?") {
				n.ResourceUnknown = true
				n.Patterns = append(n.Patterns, r)
				return
			}
			n.Resources = append(n.Resources, r)
		}
		for _, r := range o.Resources {
			if own(a, r) {
				add(r)
			}
		}
		if len(n.Resources)+len(n.Patterns) == 0 {
			for _, r := range o.Resources {
				if !claimed[r] {
					add(r)
				}
			}
		}
		if len(n.Resources)+len(n.Patterns) == 0 {
			n.Resources = []string{"*"}
		}
		out = append(out, n)
	}
	return out
}

func arnService(arn string) string {
	f := strings.SplitN(arn, ":", 4)
	if len(f) < 4 || f[0] != "arn" {
		return ""
	}
	return f[2]
}

// Query asks about an observation again, with condition values given by hand; the
// keys may be in any case. A value of aws:CurrentTime is a date as in a policy.
func (o Observation) Query(context map[string][]string) Query {
	q := Query{
		Call: &awsapi.Call{
			Service: o.Service, Operation: o.Operation, Region: o.Region, Needs: o.needs(),
			AccessLevel: o.AccessLevel, Unknown: o.Unknown, Conditions: make(map[string][]string),
		},
		SecureTransport: true,
		Extra:           make(map[string][]string),
	}
	for key, values := range context {
		low := strings.ToLower(key)
		one := ""
		if len(values) == 1 {
			one = values[0]
		}
		switch low {
		case "aws:securetransport":
			q.SecureTransport, _ = strconv.ParseBool(strings.ToLower(one))
		case "aws:sourceip":
			q.SourceIP, _ = netip.ParseAddr(one)
		case "aws:currenttime", "aws:epochtime":
			if t, ok := parseDate(one); ok {
				q.Time = t
			}
		case "aws:useragent":
			q.UserAgent = one
		case "aws:username":
			q.Username = one
		case "aws:principalarn":
			q.PrincipalARN = one
		case "aws:principalaccount":
			q.PrincipalAccount = one
		case "aws:requestedregion":
			q.Call.Region = one
		default:
			q.Extra[low] = values
		}
	}
	if q.Call.Region == "" {
		for _, n := range q.Call.Needs {
			for _, r := range n.Resources {
				if f := strings.SplitN(r, ":", 6); len(f) == 6 && f[3] != "*" && q.Call.Region == "" {
					q.Call.Region = f[3]
				}
			}
		}
	}
	return q
}
