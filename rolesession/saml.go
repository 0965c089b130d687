package rolesession

import (
	"context"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sts"
)

// SAML is a client's AssumeRoleWithSAML call.
type SAML struct {
	PrincipalARN string
	Assertion    string // base64; never logged or repeated
	Duration     int32  // seconds; 0: what the assertion and the entry say
	Policy       string
	PolicyARNs   []string
}

// SAMLSubject is what STS said of the assertion.
type SAMLSubject struct {
	Subject, SubjectType, Issuer, Audience, NameQualifier string
}

// AssumeWithSAML makes the session of a configured role from a SAML assertion,
// which is good for this one call: the session is not kept here. The entry's
// duration and session policy hold; the session's name is the assertion's.
// Errors are of type *[Error], or the context's.
func (m *Manager) AssumeWithSAML(ctx context.Context, name string, in SAML) (Result, SAMLSubject, error) {
	r, ok := (*m.roles.Load())[name]
	if !ok || r.ARN == "" {
		return Result{}, SAMLSubject{}, &Error{Kind: KindUnknownRole, Role: name, Message: fmt.Sprintf("There is no role %q with an ARN in the configuration.", name)}
	}
	c := &call{Operation: "AssumeRoleWithSAML", RoleARN: r.ARN, Duration: in.Duration}
	if r.Duration > 0 && (c.Duration == 0 || c.Duration > int32(r.Duration/time.Second)) {
		c.Duration = int32(r.Duration / time.Second)
	}
	if err := addPolicy(r, c, Link{Policy: in.Policy, PolicyARNs: in.PolicyARNs}); err != nil {
		return Result{}, SAMLSubject{}, err
	}
	timed, cancel := context.WithTimeout(ctx, m.opt.CallTimeout)
	defer cancel()
	select {
	case m.slots <- struct{}{}:
		defer func() { <-m.slots }()
	case <-timed.Done():
		return Result{}, SAMLSubject{}, &Error{Kind: KindThrottled, Role: name, RoleARN: r.ARN, Message: "Too many STS calls are in progress in the proxy: try again."}
	}
	begin := m.opt.Now()
	out, err := m.client(aws.Credentials{}).AssumeRoleWithSAML(timed, &sts.AssumeRoleWithSAMLInput{
		RoleArn: aws.String(r.ARN), PrincipalArn: aws.String(in.PrincipalARN), SAMLAssertion: aws.String(in.Assertion),
		DurationSeconds: number(c.Duration), Policy: text(c.Policy), PolicyArns: descriptors(c.PolicyARNs),
	})
	if ctx.Err() != nil {
		return Result{}, SAMLSubject{}, ctx.Err()
	}
	event := Event{Once: true, Role: name, RoleARN: r.ARN, Operation: c.Operation, Outcome: OutcomeOK, Duration: m.opt.Now().Sub(begin)}
	var made Result
	if err == nil {
		made, err = result(out.Credentials, out.ResultMetadata)
	}
	if err != nil {
		known := m.callError(err, c, name, false)
		event.Outcome, event.Err = Outcome(known.Kind), known
		m.opt.Observe(event)
		return Result{}, SAMLSubject{}, known
	}
	event.Expires = made.Credentials.Expires
	m.opt.Observe(event)
	//lint:ignore SA1019 clients read it, and its successor is not in every answer yet
	made.RoleARN, made.AccountID, made.SourceIdentity, made.PackedPolicySize = r.ARN, accountOf(r.ARN), aws.ToString(out.SourceIdentity), out.PackedPolicySize
	if u := out.AssumedRoleUser; u != nil {
		made.ARN, made.ID = aws.ToString(u.Arn), aws.ToString(u.AssumedRoleId)
		made.SessionName = lastPart(made.ARN)
	}
	return made, SAMLSubject{
		Subject: aws.ToString(out.Subject), SubjectType: aws.ToString(out.SubjectType), Issuer: aws.ToString(out.Issuer),
		Audience: aws.ToString(out.Audience), NameQualifier: aws.ToString(out.NameQualifier),
	}, nil
}

func lastPart(arn string) string {
	for i := len(arn) - 1; i >= 0; i-- {
		if arn[i] == '/' {
			return arn[i+1:]
		}
	}
	return ""
}
