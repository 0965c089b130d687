package awsapi

import (
	"errors"
	"fmt"
	"strings"
)

// Call is one AWS request as understood from its bytes. It is a value: nothing
// in it refers back to the request, and a nil map or slice means "none".
type Call struct {
	Host Host // the endpoint that the request is addressed to

	Service   string // botocore model name, such as "dynamodb"; "" when unknown
	Operation string // operation name of the model, such as "GetItem"; "" when unknown
	Protocol  Protocol

	Region    string // region of the credential scope or of the host
	AccountID string // account that owns the resources, where it can be known

	// Needs lists every permission that AWS would check for the call. All of
	// them must be allowed. It is empty only when Unknown is set, or when the
	// operation needs no permission at all (such as sts:GetCallerIdentity).
	Needs []Need

	// Conditions holds the values of condition keys that the request itself
	// determines. Keys are lower-case. A key that is absent here is absent from
	// the request; a key listed in UnknownConditions may or may not be present.
	Conditions        map[string][]string
	UnknownConditions []string

	// AccessLevel is that of the Service Authorization Reference: List, Read,
	// Write, Tagging or Permissions management; the most powerful one when the
	// call needs several actions; "" when unknown.
	AccessLevel string

	// CredentialTier says that the answer carries credentials: "A" AWS keys,
	// "B" tokens, "C" secrets, "D" presigned URLs; "" for none.
	CredentialTier string

	// Unknown says why the call could not be understood; "" when it was.
	// An unknown call is never allowed by a rule that would need to understand it.
	Unknown string

	// Ambiguous says that a call is unknown because it can be read in two ways: it
	// names its operation, or a part of what it asks for, more than once, or its
	// body is not what its content type or the protocol says. Whatever it is allowed
	// to do, nobody can tell which of them AWS would do.
	Ambiguous bool
}

// ambiguity is an error that makes a call Ambiguous.
type ambiguity string

func (a ambiguity) Error() string { return string(a) }

func ambiguous(format string, args ...any) error {
	return ambiguity(fmt.Sprintf(format, args...))
}

// unreadable makes a call ambiguous whose body cannot be read here: what AWS makes
// of it is anybody's guess.
func unreadable(err error) error {
	if errors.Is(err, errMany) {
		return err // it is read in one way only
	}
	return ambiguous("the body cannot be read: %v", err)
}

// Need is one permission that a call requires.
type Need struct {
	Action string // IAM action, such as "s3:GetObject"
	// Resources are the ARNs that the action applies to; "*" alone for actions
	// that do not support resource-level permissions. Every one must be allowed.
	Resources []string
	// ResourceUnknown says that the action applies to resources which the
	// request does not name in a way that could be understood.
	ResourceUnknown bool
	// Patterns are ARNs in which "*" and "?" stand for parts that the request
	// leaves open: the random suffix of a secret that is given by its name, the
	// id of an instance that is yet to be made, the path of a role. A Deny that
	// overlaps with one of them may apply. Where ResourceUnknown is set, the
	// unknown resources are all within them (if there are any), so that an Allow
	// which covers each of them whole covers the need; "*" among them means that
	// nothing is known of some resource.
	Patterns []string
	// Conditions are values that hold for this need alone (such as iam:PassedToService);
	// they win over those of the call. Keys are lower-case.
	Conditions map[string][]string
}

// Actions returns the IAM actions of the call in order, without repeats.
func (c *Call) Actions() []string {
	var out []string
	seen := make(map[string]bool, len(c.Needs))
	for _, n := range c.Needs {
		if !seen[n.Action] {
			seen[n.Action] = true
			out = append(out, n.Action)
		}
	}
	return out
}

// Resources returns the ARNs of the call in order, without repeats. Where the
// request leaves a name open they have wildcards; those of S3 are left out, where
// names may hold wildcards themselves.
func (c *Call) Resources() []string {
	var out []string
	seen := make(map[string]bool)
	for _, n := range c.Needs {
		for _, r := range n.Resources {
			if !seen[r] {
				seen[r] = true
				out = append(out, r)
			}
		}
		for _, p := range n.Patterns {
			if !seen[p] && !strings.Contains(p, ":s3:") {
				seen[p] = true
				out = append(out, p)
			}
		}
	}
	return out
}
