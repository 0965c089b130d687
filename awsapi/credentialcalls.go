package awsapi

import "strings"

// HandsOutKeys says whether the answer of an operation carries AWS keys (tier A of
// [Call.CredentialTier]). Service and operation are written as in a [Call], in any
// case. known is false for an operation that is in no table.
func HandsOutKeys(service, operation string) (yes, known bool) {
	m := modelNamed(strings.ToLower(service))
	if m == nil {
		return false, false
	}
	for name, op := range m.ops {
		if strings.EqualFold(name, operation) {
			return op.tier == "A", true
		}
	}
	return false, false
}
