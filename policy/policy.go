// Package policy judges calls: it parses documents of the IAM policy language
// and decides whether a call may pass.
//
// Evaluation is total and three-valued. A value that the proxy cannot know (the
// tags of a resource, the organisation of the caller, a resource that the request
// names indirectly) is neither present nor absent: an Allow that depends on it does
// not apply, a Deny that depends on it does. The traps:
//
//   - A nil or zero Set denies. A Set compiled without policies allows, because AWS
//     alone limits such a role; its regions, services, read-only rule and boundary
//     still hold.
//   - A missing key satisfies the negated operators, ...IfExists and ForAllValues.
//     An unknown key satisfies nothing.
//   - A call that was not understood is allowed only by an Allow of Action "*" on
//     Resource "*" without conditions, and denied by every Deny that might apply.
//   - Values put in place of policy variables never act as wildcards.
//   - Where AWS documents a rule in two ways, both readings are computed, and where
//     they differ the result is unknown, which is to say the stricter one wins.
//
// Reference: "IAM JSON policy reference" in the AWS IAM User Guide.
package policy

import "fmt"

// The versions of the policy language. Policy variables exist only in Version2012.
const (
	Version2008 = "2008-10-17"
	Version2012 = "2012-10-17"
)

// Limits of Parse.
const (
	MaxBytes      = 1 << 20 // of one document
	MaxDepth      = 16      // of nested JSON values; a policy needs 7
	MaxStatements = 10_000  // of one document
	maxErrors     = 20      // reported for one document
)

// Effect is what a statement does when it applies.
type Effect string

// The effects, spelled as in a policy.
const (
	Allow Effect = "Allow"
	Deny  Effect = "Deny"
)

// Policy is one parsed document. It is immutable after Parse and safe for
// concurrent use.
type Policy struct {
	Name       string // as given to Parse, for messages and the audit line
	Version    string // Version2008 when the document does not say
	ID         string
	Statements []Statement

	hasVersion bool
	source     []byte
	versionPos Position
}

// Statement is one statement of a policy.
type Statement struct {
	Sid         string
	Effect      Effect
	Not         Negation
	Actions     []Action   // of Action or NotAction
	Resources   []Resource // of Resource or NotResource
	Conditions  []Condition
	Pos         Position
	label       string // Sid, or "#n" counted from 1
	actionPos   Position
	resourcePos Position
	condPos     Position
	hasCond     bool
}

// Negation says which elements of a statement were written with Not.
type Negation struct {
	Action, Resource bool
}

// Label is the Sid of the statement or, without one, "#n" counted from 1.
func (s *Statement) Label() string { return s.label }

// Action is one entry of an Action or NotAction element.
type Action struct {
	Text string
	Pos  Position
	glob glob // of the lower-case text
}

// Resource is one entry of a Resource or NotResource element.
type Resource struct {
	Text string
	Pos  Position
	pat  pattern
}

// Condition is one key of one operator in a Condition element.
type Condition struct {
	Operator string // as written, such as "ForAllValues:StringLike"
	Key      string // as written
	Values   []string
	Pos      Position // of the operator
	KeyPos   Position

	op       operator
	key      string // lower-case
	operands []operand
	valuePos []Position
}

// Position is a place in a document; both numbers count from 1, columns in characters.
type Position struct {
	Line   int `json:"line"`
	Column int `json:"column"`
}

func (p Position) String() string { return fmt.Sprintf("%d:%d", p.Line, p.Column) }
