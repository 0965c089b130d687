package console

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/countersign-proxy/countersign/awsapi"
)

// partition is where one of AWS's partitions signs people in.
type partition struct {
	name   string
	signin string // domain of the sign-in endpoints
	global string // sign-in host without a region; "": there is none
	home   string // domain of the console
	region string // for whoever names none
}

// The partitions whose sign-in hosts are public. AWS General Reference, "AWS
// Sign-In endpoints and quotas" and "AWS Management Console endpoints"; AWS
// European Sovereign Cloud General Reference, "Service endpoints".
var partitions = []partition{
	{"aws", "signin.aws.amazon.com", "signin.aws.amazon.com", "console.aws.amazon.com", "us-east-1"},
	{"aws-cn", "signin.amazonaws.cn", "signin.amazonaws.cn", "console.amazonaws.cn", "cn-north-1"},
	{"aws-us-gov", "signin.amazonaws-us-gov.com", "signin.amazonaws-us-gov.com", "console.amazonaws-us-gov.com", "us-gov-west-1"},
	{"aws-eusc", "signin.amazonaws-eusc.eu", "", "console.amazonaws-eusc.eu", "eusc-de-east-1"},
}

func partitionNamed(name string) (partition, error) {
	for _, p := range partitions {
		if p.name == name {
			return p, nil
		}
	}
	return partition{}, &Error{Kind: KindPartition, Message: fmt.Sprintf(
		"The partition %q has no console sign-in that this proxy knows; it knows %s. Use the role through the proxy (countersign exec, env).", name, partitionNames())}
}

func partitionNames() string {
	var names []string
	for _, p := range partitions {
		names = append(names, p.name)
	}
	return strings.Join(names, ", ")
}

var regionPattern = regexp.MustCompile(`^[a-z]{2,5}(-[a-z]+){1,3}-[0-9]{1,2}$`)

// has says whether the region is one of the partition's.
func (p partition) has(region string) bool {
	name, ok := awsapi.PartitionOf(region)
	return ok && name == p.name && regionPattern.MatchString(region)
}

// signinHosts are the sign-in hosts to try, in order: that of the region, and the
// one that needs none.
func (p partition) signinHosts(region string) []string {
	var hosts []string
	if !p.has(region) {
		region = p.region
	}
	hosts = append(hosts, region+"."+p.signin)
	if p.global != "" {
		hosts = append(hosts, p.global)
	}
	return hosts
}

// isConsole says whether a host, in lower case, serves pages of the console. AWS
// alone runs the names below a console domain.
func (p partition) isConsole(host string) bool {
	return host == p.home || strings.HasSuffix(host, "."+p.home)
}

// consoleOf finds the partition whose console the host belongs to.
func consoleOf(host string) (partition, bool) {
	i := slices.IndexFunc(partitions, func(p partition) bool { return p.isConsole(host) })
	if i < 0 {
		return partition{}, false
	}
	return partitions[i], true
}
