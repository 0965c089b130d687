package virtualsts

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/countersign-proxy/countersign/awsapi"
	"github.com/countersign-proxy/countersign/identity"
	"github.com/countersign-proxy/countersign/rolesession"
)

const opCreateSession = "CreateSession"

// MaxS3Session bounds, in bytes, the answer to CreateSession that S3Session reads.
const MaxS3Session = 64 << 10

// HandlesS3Session says whether a call is CreateSession of S3 Express, whose answer
// [Service.S3Session] rewrites. Unlike the calls that Handles names it goes to AWS.
func HandlesS3Session(c *awsapi.Call) bool {
	return c.Unknown == "" && c.Service == "s3" && c.Operation == opCreateSession && c.Host.Service == "s3express" && c.Host.Bucket != ""
}

// S3SessionRequest is a CreateSession call that AWS has answered.
type S3SessionRequest struct {
	Call  *awsapi.Call
	Grant identity.Grant // whom the call was verified for
	// Session is what it was signed with.
	Session rolesession.Session
	Body    []byte // of the answer, status 200
}

// S3Session takes the session out of AWS's answer and returns the answer that the
// client gets in its place: with client credentials that stand for the session, and
// nothing else of what AWS sent. The session itself cannot be made again, so it
// travels inside the session token, sealed. It ends when AWS says, or with the
// credentials of the call if that is earlier.
//
// Calls under these credentials are answered by Session as all others are; that they
// go to the directory bucket alone is for the caller to see to, by [S3Bucket].
func (s *Service) S3Session(r S3SessionRequest) (Answer, error) {
	a := Answer{Identity: r.Grant.Identity.Name, Role: r.Grant.Role, RoleARN: r.Session.RoleARN, SessionName: r.Session.SessionName}
	creds, err := parseS3Session(r.Body)
	if err != nil {
		return a, err
	}
	session := r.Session
	session.Credentials = creds
	text, err := state{Sealed: seal(session), Narrowed: true, Bucket: r.Call.Host.Bucket}.encode()
	if err != nil {
		return a, err
	}
	expires := creds.Expires
	if limit := r.Grant.Expires; !r.Grant.Static() && limit.Before(expires) {
		expires = limit
	}
	if limit := s.opt.Now().Add(s.opt.Identities.MaxLifetime()); limit.Before(expires) {
		expires = limit
	}
	c, err := s.opt.Identities.Mint(identity.Grant{
		Identity: r.Grant.Identity, Role: r.Grant.Role, Expires: expires,
		Parents: append(slices.Clone(r.Grant.Parents), r.Grant.AccessKeyID), Session: text,
	})
	if err != nil {
		return a, err
	}
	s.remember(Issued{
		AccessKeyID: c.AccessKeyID, Identity: a.Identity, Role: a.Role, RoleARN: a.RoleARN, SessionName: a.SessionName,
		Operation: opCreateSession, Issued: s.opt.Now(), Expires: c.Expires,
	})
	a.AccessKeyID, a.Expires, a.Body = c.AccessKeyID, c.Expires, s3SessionXML(c)
	return a, nil
}

// S3Bucket returns the directory bucket that a grant is confined to, "" for one that
// did not come from CreateSession.
func S3Bucket(g identity.Grant) (string, error) {
	state, err := decodeState(g.Session)
	if err != nil {
		return "", err
	}
	return state.Bucket, nil
}

// errS3Session quotes nothing of the answer: it may hold keys.
var errS3Session = errors.New("the answer to CreateSession is not the XML of a session")

// parseS3Session reads the answer that the S3 API reference describes, and nothing
// that merely looks like it.
func parseS3Session(body []byte) (aws.Credentials, error) {
	var result struct {
		XMLName     xml.Name `xml:"CreateSessionResult"`
		Credentials []struct {
			AccessKeyID     []string `xml:"AccessKeyId"`
			SecretAccessKey []string `xml:"SecretAccessKey"`
			SessionToken    []string `xml:"SessionToken"`
			Expiration      []string `xml:"Expiration"`
		} `xml:"Credentials"`
	}
	if len(body) > MaxS3Session || xml.Unmarshal(body, &result) != nil || len(result.Credentials) != 1 {
		return aws.Credentials{}, errS3Session
	}
	c := &result.Credentials[0]
	for _, field := range [][]string{c.AccessKeyID, c.SecretAccessKey, c.SessionToken, c.Expiration} {
		if len(field) != 1 || strings.TrimSpace(field[0]) == "" {
			return aws.Credentials{}, errS3Session
		}
	}
	expires, err := time.Parse(time.RFC3339, strings.TrimSpace(c.Expiration[0]))
	if err != nil {
		return aws.Credentials{}, errS3Session
	}
	return aws.Credentials{
		AccessKeyID: strings.TrimSpace(c.AccessKeyID[0]), SecretAccessKey: strings.TrimSpace(c.SecretAccessKey[0]),
		SessionToken: strings.TrimSpace(c.SessionToken[0]), CanExpire: true, Expires: expires,
	}, nil
}

func s3SessionXML(c identity.Credentials) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s<CreateSessionResult xmlns=%q>", xml.Header, "http://s3.amazonaws.com/doc/2006-03-01/")
	toXML(&b, []member{{"Credentials", []member{
		{"SessionToken", c.SessionToken}, {"SecretAccessKey", c.SecretAccessKey}, {"AccessKeyId", c.AccessKeyID}, {"Expiration", c.Expires},
	}}})
	b.WriteString("</CreateSessionResult>")
	return b.Bytes()
}
