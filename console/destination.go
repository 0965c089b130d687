package console

import (
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/countersign-proxy/countersign/awsapi"
)

// MaxDestination is the longest destination that is accepted, in bytes: it travels
// in a URL together with the sign-in token.
const MaxDestination = 2048

// Place is a page of the console that can be asked for by name.
type Place struct {
	Name  string // as in --destination
	Title string
	path  string // below the console's host
	hash  string
}

// places are the names whose page is not at /NAME/home, and those that the web
// page offers.
var places = []Place{
	{"home", "Home", "console/home", ""},
	{"s3", "S3", "s3/home", ""},
	{"ec2", "EC2", "ec2/home", ""},
	{"lambda", "Lambda", "lambda/home", ""},
	{"cloudwatch", "CloudWatch", "cloudwatch/home", ""},
	{"logs", "CloudWatch Logs", "cloudwatch/home", "logsV2:log-groups"},
	{"cloudformation", "CloudFormation", "cloudformation/home", ""},
	{"cloudtrail", "CloudTrail", "cloudtrailv2/home", ""},
	{"dynamodb", "DynamoDB", "dynamodbv2/home", ""},
	{"rds", "RDS", "rds/home", ""},
	{"iam", "IAM", "iam/home", ""},
	{"eks", "EKS", "eks/home", ""},
	{"ecs", "ECS", "ecs/v2/clusters", ""},
	{"vpc", "VPC", "vpcconsole/home", ""},
	{"ssm", "Systems Manager", "systems-manager/home", ""},
	{"secretsmanager", "Secrets Manager", "secretsmanager/home", ""},
	{"sqs", "SQS", "sqs/v3/home", ""},
	{"sns", "SNS", "sns/v3/home", ""},
	{"route53", "Route 53", "route53/v2/home", ""},
	{"billing", "Billing", "billing/home", ""},
	{"elasticloadbalancing", "", "ec2/home", "LoadBalancers:"},
	{"autoscaling", "", "ec2/home", "AutoScalingGroups:"},
	{"cloudfront", "", "cloudfront/v4/home", ""},
	{"ecr", "", "ecr/private-registry/repositories", ""},
	{"organizations", "", "organizations/v2/home", ""},
	{"codepipeline", "", "codesuite/codepipeline/home", ""},
	{"codebuild", "", "codesuite/codebuild/home", ""},
}

// Places returns the pages that are worth a choice of their own.
func Places() []Place {
	return slices.DeleteFunc(slices.Clone(places), func(p Place) bool { return p.Title == "" })
}

// Destination is a page of the console.
type Destination struct {
	URL       string
	Region    string // "" where the URL names none
	partition partition
}

// Recorded is the destination as it may be written down: without query and
// fragment, which can hold anything.
func (d Destination) Recorded() string {
	u, err := url.Parse(d.URL)
	if err != nil {
		return ""
	}
	return "https://" + u.Host + u.EscapedPath()
}

// ParseDestination understands what a person asks for: "" is the console's home, a
// name is a service (s3, ec2, logs), anything else is a whole address of a console
// page, which must be one of the role's partition. region is where a service is
// shown; an address keeps the region that it names. Errors are of type *[Error].
func ParseDestination(text, partitionName, region string) (Destination, error) {
	p, err := partitionNamed(partitionName)
	if err != nil {
		return Destination{}, err
	}
	if region != "" && !p.has(region) {
		return Destination{}, badDestination("The region %.40q is not one of the partition %s.", region, p.name)
	}
	if region == "" {
		region = p.region
	}
	if text == "" {
		text = "home"
	}
	if !strings.Contains(text, "/") {
		return placeNamed(text, p, region)
	}
	return parseAddress(text, p)
}

func placeNamed(name string, p partition, region string) (Destination, error) {
	name = strings.ToLower(name)
	path, hash := name+"/home", ""
	if i := slices.IndexFunc(places, func(x Place) bool { return x.Name == name }); i >= 0 {
		path, hash = places[i].path, places[i].hash
	} else if _, known := slices.BinarySearch(awsapi.Services(), name); !known {
		return Destination{}, badDestination("%.60q is neither a service that this proxy knows (s3, ec2, logs …) nor the address of a console page (https://%s/…).", name, p.home)
	}
	u := url.URL{Scheme: "https", Host: region + "." + p.home, Path: "/" + path, RawQuery: "region=" + region, Fragment: hash}
	return Destination{URL: u.String(), Region: region, partition: p}, nil
}

// parseAddress takes an address apart and puts it together again, so that what is
// sent on is what was checked. Browsers drop tabs and line ends and take a
// backslash for a slash (WHATWG URL Standard, section 4.4); such text is refused.
func parseAddress(text string, p partition) (Destination, error) {
	if len(text) > MaxDestination {
		return Destination{}, badDestination("The destination is longer than %d bytes.", MaxDestination)
	}
	if strings.ContainsFunc(text, func(r rune) bool {
		return r <= ' ' || r == 0x7f || r == '\\' || strings.ContainsRune(`"<>`, r) || r > 0x7f
	}) {
		return Destination{}, badDestination("The destination holds characters that an address cannot have; copy it from the browser's address bar.")
	}
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "https" || u.Opaque != "" {
		return Destination{}, badDestination("The destination is not an https address.")
	}
	if u.User != nil {
		return Destination{}, badDestination("The destination holds a user name.")
	}
	host := strings.ToLower(u.Host)
	if port := u.Port(); port != "" {
		if port != "443" {
			return Destination{}, badDestination("The destination names a port.")
		}
		host = strings.TrimSuffix(host, ":443")
	}
	for _, c := range []byte(host) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '.' && c != '-' {
			return Destination{}, badDestination("The destination's host is not a host name.")
		}
	}
	if !p.isConsole(host) {
		if other, ok := consoleOf(host); ok {
			return Destination{}, badDestination("The destination is in the partition %s, but the role is in %s.", other.name, p.name)
		}
		return Destination{}, badDestination("The destination is on %.80q, which is not the AWS console: it must be on %s or below it.", host, p.home)
	}
	u.Host = host
	d := Destination{URL: u.String(), partition: p}
	if first, _, _ := strings.Cut(host, "."); p.has(first) {
		d.Region = first
	} else if r := u.Query().Get("region"); p.has(r) {
		d.Region = r
	}
	return d, nil
}

func badDestination(format string, args ...any) error {
	return &Error{Kind: KindDestination, Message: fmt.Sprintf(format, args...)}
}
