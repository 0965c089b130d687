package identity

// Issuer turns the tokens of one OIDC issuer into identities.
type Issuer struct {
	url string
}

// URL is the issuer's identifier, as its tokens carry it in "iss".
func (i *Issuer) URL() string { return i.url }
