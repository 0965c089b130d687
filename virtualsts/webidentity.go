package virtualsts

import (
	"context"
	"errors"
	"net/http"

	"github.com/countersign-proxy/countersign/identity"
	"github.com/countersign-proxy/countersign/rolesession"
)

// webIdentity answers AssumeRoleWithWebIdentity by the rules of the token's
// issuer. The token stays here.
func (s *Service) webIdentity(ctx context.Context, p *parameters) (Answer, *output, *Error) {
	who, err := s.opt.Identities.WebIdentity(ctx, p.webIdentityToken, s.opt.Now())
	if err != nil {
		return Answer{}, nil, tokenError(err)
	}
	role, ok := s.roleWithARN(who.Identity, "", p.roleARN)
	if !ok {
		return Answer{Identity: who.Identity.Name}, nil, denied(ReasonNotGranted, "Not authorized to perform sts:AssumeRoleWithWebIdentity: the rules of the issuer %s grant %q no role with the ARN %s.", who.Identity.Issuer, who.Identity.Name, p.roleARN)
	}
	link := p.link()
	link.Role = role
	a, out, refused := s.hand(ctx, handing{operation: opAssumeRoleWithWebIdentity, id: who.Identity, role: role, links: []rolesession.Link{link}})
	if refused != nil {
		return a, nil, refused
	}
	out.subject, out.audience, out.provider = who.Subject, who.Audience, who.Identity.Issuer
	return a, out, nil
}

// saml answers AssumeRoleWithSAML with the real call: the assertion is its proof,
// and good for that one call.
func (s *Service) saml(ctx context.Context, p *parameters) (Answer, *output, *Error) {
	for name, r := range s.roles {
		if r.SAML == "" || r.ARN != p.roleARN {
			continue
		}
		result, said, err := s.opt.Sessions.AssumeWithSAML(ctx, name, rolesession.SAML{
			PrincipalARN: p.principalARN, Assertion: p.samlAssertion, Duration: p.duration, Policy: p.policy, PolicyARNs: p.policyARNs,
		})
		if err != nil {
			return Answer{Identity: r.SAML, Role: name}, nil, sessionError(err)
		}
		id := identity.Identity{Name: r.SAML, Attributes: map[string]string{"saml_subject": truncate(said.Subject, identity.MaxAttributeValue)}}
		h := handing{operation: opAssumeRoleWithSAML, id: id, role: name, links: []rolesession.Link{{Role: name, Policy: p.policy, PolicyARNs: p.policyARNs}}}
		a, out, refused := s.mint(h, result)
		if refused != nil {
			return a, nil, refused
		}
		out.subject, out.subjectType, out.samlIssuer = said.Subject, said.SubjectType, said.Issuer
		out.samlAud, out.nameQualifier = said.Audience, said.NameQualifier
		return a, out, nil
	}
	return Answer{}, nil, denied(ReasonNotGranted, "Not authorized to perform sts:AssumeRoleWithSAML: no role with the ARN %s is configured for it.", p.roleARN)
}

func truncate(s string, most int) string {
	if len(s) > most {
		return s[:most]
	}
	return s
}

// tokenError turns what the issuer's rules say into what STS would say.
func tokenError(err error) *Error {
	var e *identity.TokenError
	if !errors.As(err, &e) {
		return &Error{Reason: ReasonToken, Status: http.StatusServiceUnavailable, Code: "ServiceUnavailable", Message: "The request was cancelled before the token was verified."}
	}
	out := &Error{Reason: ReasonToken, Status: http.StatusBadRequest, Code: "InvalidIdentityToken", Message: e.Message}
	switch e.Reason {
	case identity.TokenExpired:
		out.Code = "ExpiredTokenException"
	case identity.TokenNoMatch, identity.TokenRevoked:
		out.Status, out.Code = http.StatusForbidden, "AccessDenied"
	case identity.TokenUnavailable:
		// STS's own word for it; SDKs send the request again.
		out.Code = "IDPCommunicationError"
	}
	return out
}
