package awsapi

import "slices"

// Verdict says what kind of host a name is.
type Verdict int

// The verdicts. The zero value is the one that is never signed for.
const (
	// HostForeign is not an AWS API: another party's host, one of AWS that takes no signature, or one under an AWS
	// suffix that a customer controls (load balancers, execute-api, databases …).
	HostForeign Verdict = iota
	// HostUnknown has the shape of an API endpoint under an AWS suffix, but the
	// tables do not know it.
	HostUnknown
	// HostAPI is an AWS API endpoint.
	HostAPI
)

// Host is what the name of an AWS API endpoint says.
type Host struct {
	Name      string   // lower-case, without port
	Service   string   // signing name, such as "s3"
	Others    []string // further signing names that the endpoint accepts; mostly nil
	Region    string   // signing region; "" when any region of the partition may sign
	Partition string   // such as "aws" or "aws-cn"
	Models    []string // botocore model names whose endpoint this is, sorted
	Bucket    string   // S3: bucket, access point or alias that the name carries
	AccountID string   // account that the name carries
	FIPS      bool
	DualStack bool
	S3        bool // path and query follow S3's canonical form
	RegionSet bool // SigV4A: signatures carry a region set
}

// Accepts reports whether a credential scope of this signing name and region
// belongs to the host. The region is not looked at for SigV4A, which has none
// in its scope: pass "".
func (h Host) Accepts(service, region string) bool {
	if service != h.Service && !slices.Contains(h.Others, service) {
		return false
	}
	if region == "" {
		return h.RegionSet
	}
	if h.Region != "" {
		return region == h.Region
	}
	p, ok := PartitionOf(region)
	return ok && p == h.Partition
}

// Protocol is the wire protocol of a call.
type Protocol string

// The protocols of AWS services, as the Smithy models name them.
const (
	ProtocolUnknown  Protocol = ""
	ProtocolQuery    Protocol = "query"
	ProtocolEC2      Protocol = "ec2"
	ProtocolJSON     Protocol = "json"
	ProtocolRESTJSON Protocol = "rest-json"
	ProtocolRESTXML  Protocol = "rest-xml"
	ProtocolS3       Protocol = "s3" // rest-xml with S3's own error body
	ProtocolCBOR     Protocol = "rpc-v2-cbor"
)
