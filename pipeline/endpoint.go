package pipeline

import (
	"net/http"

	"github.com/countersign-proxy/countersign/awsapi"
	"github.com/countersign-proxy/countersign/signer"
)

// Endpoint handles requests of clients that cannot use a proxy and are told
// AWS_ENDPOINT_URL instead. Their Host is the proxy's own and is what they
// signed; which AWS endpoint they mean is what the credential scope says.
//
// Host prefixes are lost that way, so virtual-hosted S3 addressing and services
// that put an account or an id into the name cannot be reached; SDKs use
// path-style addressing for S3 when the endpoint is an IP address.
func (p *Pipeline) Endpoint() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.serve(w, r, func(sig *signer.Signature) (awsapi.Host, *refusal) {
			name, ok := awsapi.EndpointForRequest(sig.Service, sig.Region, r)
			if !ok {
				return awsapi.Host{}, refuse(awsapi.ErrScopeMismatch, "scope", "there is no AWS endpoint for service %q in region %q, which the signature names", sig.Service, sig.Region)
			}
			host, verdict := p.lookup(name)
			if verdict != awsapi.HostAPI {
				return awsapi.Host{}, refuse(awsapi.ErrAccessDenied, "unknown host", "%s is not an AWS API endpoint", name)
			}
			return host, nil
		})
	})
}
