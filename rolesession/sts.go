package rolesession

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/aws-sdk-go-v2/service/sts/types"
	"github.com/aws/smithy-go"
	smithymiddleware "github.com/aws/smithy-go/middleware"
)

// client returns an STS client that signs with the given credentials.
func (m *Manager) client(creds aws.Credentials) *sts.Client {
	o := sts.Options{
		Region:     m.opt.Region,
		HTTPClient: m.opt.HTTPClient,
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return creds, nil
		}),
		Retryer: retry.NewStandard(func(o *retry.StandardOptions) {
			o.MaxAttempts = 3
			o.MaxBackoff = 2 * time.Second
		}),
	}
	if m.opt.FIPS {
		o.EndpointOptions.UseFIPSEndpoint = aws.FIPSEndpointStateEnabled
	}
	if m.opt.Endpoint != "" {
		o.BaseEndpoint = aws.String(m.opt.Endpoint)
	}
	if m.opt.Client != nil {
		m.opt.Client(&o)
	}
	return sts.New(o)
}

// call makes the n-th call of the plan, signed with base.
func (m *Manager) call(ctx context.Context, p *plan, n int, base Session, background bool) (Result, error) {
	c := *p.calls[n-1]
	first := n == 1 && p.base == nil
	if first && m.sourceIsRole.Load() {
		c.Duration = min(c.Duration, int32(chainedDuration/time.Second))
	}
	result, err := m.observed(ctx, p, &c, base, first, background)
	// Credentials from EC2, EKS or SSO are a role session, and nothing but the
	// refusal of STS tells that in advance.
	if first && c.op() == OpAssumeRole && c.Duration > int32(chainedDuration/time.Second) && isChainingLimit(err) {
		m.sourceIsRole.Store(true)
		c.Duration = int32(chainedDuration / time.Second)
		result, err = m.observed(ctx, p, &c, base, first, background)
	}
	if err == nil {
		return result, nil
	}
	var known *Error
	if first && errors.As(err, &known) && known.Kind == KindSource {
		m.source.Invalidate()
	}
	return Result{}, err
}

func isChainingLimit(err error) bool {
	var known *Error
	return errors.As(err, &known) && known.Code == "ValidationError" &&
		strings.Contains(known.Detail, "DurationSeconds") && strings.Contains(known.Detail, "role chaining")
}

// observed makes one call and reports it.
func (m *Manager) observed(ctx context.Context, p *plan, c *call, base Session, first, background bool) (Result, error) {
	begin := m.opt.Now()
	result, err := m.send(ctx, c, base)
	event := Event{
		Role: p.role, RoleARN: c.RoleARN, Operation: c.op(), Outcome: OutcomeOK,
		Duration: m.opt.Now().Sub(begin), Expires: result.Credentials.Expires, Background: background, Once: p.once,
	}
	if err != nil {
		known := m.callError(err, c, p.role, first)
		event.Outcome, event.Err = Outcome(known.Kind), known
		m.opt.Observe(event)
		return Result{}, known
	}
	m.opt.Observe(event)
	return result, nil
}

// send makes the call as the SDK has it.
func (m *Manager) send(ctx context.Context, c *call, base Session) (Result, error) {
	client := m.client(base.Credentials)
	switch c.op() {
	case OpGetSessionToken:
		out, err := client.GetSessionToken(ctx, &sts.GetSessionTokenInput{
			DurationSeconds: number(c.Duration),
			SerialNumber:    text(c.serialNumber),
			TokenCode:       text(c.tokenCode),
		})
		if err != nil {
			return Result{}, err
		}
		r, err := result(out.Credentials, out.ResultMetadata)
		r.AccountID = base.AccountID
		return r, err
	case OpGetFederationToken:
		out, err := client.GetFederationToken(ctx, &sts.GetFederationTokenInput{
			Name:            aws.String(c.SessionName),
			DurationSeconds: number(c.Duration),
			Policy:          text(c.Policy),
			PolicyArns:      descriptors(c.PolicyARNs),
			Tags:            tags(c.Tags),
		})
		if err != nil {
			return Result{}, err
		}
		r, err := result(out.Credentials, out.ResultMetadata)
		//lint:ignore SA1019 clients read it, and its successor is not in every answer yet
		r.SessionName, r.PackedPolicySize = c.SessionName, out.PackedPolicySize
		if u := out.FederatedUser; u != nil {
			r.ARN, r.ID = aws.ToString(u.Arn), aws.ToString(u.FederatedUserId)
			r.AccountID = accountOf(r.ARN)
		}
		return r, err
	case OpAssumeRoot:
		out, err := client.AssumeRoot(ctx, &sts.AssumeRootInput{
			TargetPrincipal: aws.String(c.TargetPrincipal),
			TaskPolicyArn:   &types.PolicyDescriptorType{Arn: aws.String(c.TaskPolicyARN)},
			DurationSeconds: number(c.Duration),
		})
		if err != nil {
			return Result{}, err
		}
		r, err := result(out.Credentials, out.ResultMetadata)
		r.SourceIdentity = aws.ToString(out.SourceIdentity)
		r.AccountID = c.TargetPrincipal
		if strings.HasPrefix(c.TargetPrincipal, "arn:") {
			r.AccountID = accountOf(c.TargetPrincipal)
		}
		return r, err
	}
	out, err := client.AssumeRole(ctx, &sts.AssumeRoleInput{
		RoleArn:           aws.String(c.RoleARN),
		RoleSessionName:   aws.String(c.SessionName),
		DurationSeconds:   number(c.Duration),
		ExternalId:        text(c.ExternalID),
		SourceIdentity:    text(c.SourceIdentity),
		Policy:            text(c.Policy),
		PolicyArns:        descriptors(c.PolicyARNs),
		Tags:              tags(c.Tags),
		TransitiveTagKeys: c.TransitiveTagKeys,
		SerialNumber:      text(c.serialNumber),
		TokenCode:         text(c.tokenCode),
	})
	if err != nil {
		return Result{}, err
	}
	r, err := result(out.Credentials, out.ResultMetadata)
	r.RoleARN, r.SessionName, r.AccountID = c.RoleARN, c.SessionName, accountOf(c.RoleARN)
	//lint:ignore SA1019 clients read it, and its successor is not in every answer yet
	r.SourceIdentity, r.PackedPolicySize = aws.ToString(out.SourceIdentity), out.PackedPolicySize
	if u := out.AssumedRoleUser; u != nil {
		r.ARN, r.ID = aws.ToString(u.Arn), aws.ToString(u.AssumedRoleId)
	}
	return r, err
}

// result turns the credentials of an answer into a Result.
func result(c *types.Credentials, meta smithymiddleware.Metadata) (Result, error) {
	if c == nil || aws.ToString(c.AccessKeyId) == "" || aws.ToString(c.SecretAccessKey) == "" ||
		aws.ToString(c.SessionToken) == "" || c.Expiration == nil {
		return Result{}, &smithy.GenericAPIError{Code: "ServiceUnavailable", Message: "the answer holds no complete credentials"}
	}
	id, _ := middleware.GetRequestIDMetadata(meta)
	return Result{
		Session: Session{Credentials: aws.Credentials{
			AccessKeyID:     *c.AccessKeyId,
			SecretAccessKey: *c.SecretAccessKey,
			SessionToken:    *c.SessionToken,
			Source:          "countersign",
			CanExpire:       true,
			Expires:         c.Expiration.UTC(),
		}},
		RequestID: id,
	}, nil
}

func text(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

func number(n int32) *int32 {
	if n == 0 {
		return nil
	}
	return &n
}

func descriptors(arns []string) []types.PolicyDescriptorType {
	var out []types.PolicyDescriptorType
	for _, a := range arns {
		out = append(out, types.PolicyDescriptorType{Arn: aws.String(a)})
	}
	return out
}

func tags(list []Tag) []types.Tag {
	var out []types.Tag
	for _, t := range list {
		out = append(out, types.Tag{Key: aws.String(t.Key), Value: aws.String(t.Value)})
	}
	return out
}

// accountOf is the account id of an ARN, or "".
func accountOf(arn string) string {
	parts := strings.SplitN(arn, ":", 6)
	if len(parts) != 6 || len(parts[4]) != 12 {
		return ""
	}
	return parts[4]
}
