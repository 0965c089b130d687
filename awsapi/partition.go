package awsapi

import "strings"

// partition is one of AWS's separate clouds.
type partition struct {
	id       string
	dns      string // suffix of IPv4 names
	dual     string // suffix of dual-stack names
	prefixes []string
}

// The partitions, from the SDKs' partitions.json. A test fails when the
// host table names one that is not here. A region belongs to the partition whose
// prefix, followed by a direction and a number, is its name; thus regions that
// open after this list was made are known too.
var partitions = []partition{
	{"aws", "amazonaws.com", "api.aws", []string{"us", "eu", "ap", "sa", "ca", "me", "af", "il", "mx"}},
	{"aws-cn", "amazonaws.com.cn", "api.amazonwebservices.com.cn", []string{"cn"}},
	{"aws-eusc", "amazonaws.eu", "api.amazonwebservices.eu", []string{"eusc-de"}},
	{"aws-iso", "c2s.ic.gov", "api.aws.ic.gov", []string{"us-iso"}},
	{"aws-iso-b", "sc2s.sgov.gov", "api.aws.scloud", []string{"us-isob"}},
	{"aws-iso-e", "cloud.adc-e.uk", "api.cloud-aws.adc-e.uk", []string{"eu-isoe"}},
	{"aws-iso-f", "csp.hci.ic.gov", "api.aws.hci.ic.gov", []string{"us-isof"}},
	{"aws-us-gov", "amazonaws.com", "api.aws", []string{"us-gov"}},
}

// PartitionOf returns the partition that a region belongs to.
func PartitionOf(region string) (string, bool) {
	if p := partitionOf(region); p != nil {
		return p.id, true
	}
	return "", false
}

func partitionOf(region string) *partition {
	for i := range partitions {
		for _, prefix := range partitions[i].prefixes {
			rest, ok := strings.CutPrefix(region, prefix+"-")
			if !ok {
				continue
			}
			direction, number, ok := strings.Cut(rest, "-")
			if ok && allIn(direction, isLower) && allIn(number, isDigit) && len(number) <= 2 {
				return &partitions[i]
			}
		}
	}
	return nil
}

func isLower(c byte) bool { return 'a' <= c && c <= 'z' }
func isDigit(c byte) bool { return '0' <= c && c <= '9' }

// allIn reports whether s is not empty and holds only bytes that in accepts.
func allIn(s string, in func(byte) bool) bool {
	for i := 0; i < len(s); i++ {
		if !in(s[i]) {
			return false
		}
	}
	return s != ""
}

// awsSuffixes are the names under which AWS keeps API endpoints, beside other
// things. The longest comes first where one ends in another.
var awsSuffixes = func() []string {
	var out []string
	seen := make(map[string]bool)
	for _, p := range partitions {
		for _, s := range []string{p.dns, p.dual} {
			if !seen[s] {
				seen[s] = true
				out = append(out, s)
			}
		}
	}
	return append(out, "on.aws")
}()

// SuffixesOfAWS returns the DNS suffixes under which API endpoints are found.
// A name under one of them is not an endpoint for that reason alone: use
// LookupHost.
func SuffixesOfAWS() []string { return append([]string(nil), awsSuffixes...) }
