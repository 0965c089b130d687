package virtualsts

import (
	"encoding/json"
	"errors"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/countersign-proxy/countersign/rolesession"
)

// state is what a session token carries of a virtual session, beside identity,
// role and expiry: the calls that make it again, or the session itself.
type state struct {
	Links  []rolesession.Link `json:"links,omitempty"`
	Sealed *sealed            `json:"sealed,omitempty"`
	// Narrowed says of a sealed session that a session policy holds for it.
	Narrowed bool `json:"narrowed,omitempty"`
	// Bucket is the directory bucket of a sealed session of S3 Express, which is
	// good for nothing else.
	Bucket string `json:"bucket,omitempty"`
}

// sealed is a real session. It leaves the process only inside a sealed token.
type sealed struct {
	AccessKeyID     string `json:"k"`
	SecretAccessKey string `json:"s"`
	SessionToken    string `json:"t"`
	Expires         int64  `json:"e"` // Unix seconds
	RoleARN         string `json:"r,omitempty"`
	SessionName     string `json:"n,omitempty"`
	AccountID       string `json:"a,omitempty"`
	ARN             string `json:"p,omitempty"`
}

// String keeps the session from being printed.
func (s *sealed) String() string { return "sealed session " + s.ARN }

// GoString keeps %#v from printing the session.
func (s *sealed) GoString() string { return s.String() }

func seal(s rolesession.Session) *sealed {
	return &sealed{
		AccessKeyID: s.Credentials.AccessKeyID, SecretAccessKey: s.Credentials.SecretAccessKey, SessionToken: s.Credentials.SessionToken,
		Expires: s.Credentials.Expires.Unix(), RoleARN: s.RoleARN, SessionName: s.SessionName, AccountID: s.AccountID, ARN: s.ARN,
	}
}

func (s *sealed) session() rolesession.Session {
	return rolesession.Session{
		Credentials: aws.Credentials{
			AccessKeyID: s.AccessKeyID, SecretAccessKey: s.SecretAccessKey, SessionToken: s.SessionToken,
			Source: "countersign", CanExpire: true, Expires: time.Unix(s.Expires, 0).UTC(),
		},
		RoleARN: s.RoleARN, SessionName: s.SessionName, AccountID: s.AccountID, ARN: s.ARN,
	}
}

func (s state) encode() ([]byte, error) {
	return json.Marshal(s)
}

var errState = errors.New("the session token was made by a version of countersign that this one does not understand")

// decodeState reads what encode wrote; nothing at all is the role's own session.
func decodeState(b []byte) (*state, error) {
	var s state
	if len(b) == 0 {
		return &s, nil
	}
	if err := json.Unmarshal(b, &s); err != nil || (len(s.Links) == 0) == (s.Sealed == nil) {
		return nil, errState
	}
	return &s, nil
}

// chain appends a call to what leads to the session in force. base is the session
// to sign with where it cannot be made again.
func (s *state) chain(role string, l rolesession.Link) (links []rolesession.Link, base *rolesession.Session) {
	switch {
	case s.Sealed != nil:
		session := s.Sealed.session()
		return []rolesession.Link{{Role: role}, l}, &session
	case len(s.Links) > 0:
		return append(slices.Clone(s.Links), l), nil
	default:
		return []rolesession.Link{{Role: role}, l}, nil
	}
}

// narrowed says whether a client's session policy holds for the session in force.
func (s *state) narrowed() bool { return s.Narrowed || narrowed(s.Links) }

func narrowed(links []rolesession.Link) bool {
	return slices.ContainsFunc(links, func(l rolesession.Link) bool {
		return l.Policy != "" || len(l.PolicyARNs) > 0 || l.Operation == rolesession.OpGetFederationToken || l.Operation == rolesession.OpAssumeRoot
	})
}
