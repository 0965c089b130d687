package inject

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// keyVariables hold real credentials. A manifest that sets them would give the
// program what this is here to keep from it.
var keyVariables = []string{
	"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_SECURITY_TOKEN",
	"AWS_ACCESS_KEY", "AWS_SECRET_KEY", bearerToken,
}

// bearerToken is taken by botocore even when it is empty. A call that carries one
// has no signature, so the sidecar does not let it pass.
const bearerToken = "AWS_BEARER_TOKEN_BEDROCK"

// roleVariables are what the webhook of EKS sets, for IRSA and for Pod Identity.
var roleVariables = []string{
	"AWS_ROLE_ARN", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_ROLE_SESSION_NAME",
	"AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
}

// besideRole are what it sets with them, and what may stay with the container.
var besideRole = []string{"AWS_REGION", "AWS_DEFAULT_REGION", "AWS_STS_REGIONAL_ENDPOINTS"}

// An awsIdentity is what a webhook gave to a container: how it comes to a role.
type awsIdentity struct{ env, mounts []object }

// identityOf returns the AWS identity that a container was given by others.
func identityOf(c object, field string, tokens []string) (id awsIdentity, err error) {
	env, err := list(c, "env")
	if err != nil {
		return id, refuse(field+".env", "it is not a list of variables")
	}
	mounts, err := list(c, "volumeMounts")
	if err != nil {
		return id, refuse(field+".volumeMounts", "it is not a list of mounts")
	}
	for _, v := range env {
		if foreignRole(v) {
			id.env = append(id.env, v)
		}
	}
	if len(id.env) == 0 {
		return awsIdentity{}, nil
	}
	for _, v := range env {
		if name, _ := v["name"].(string); slices.Contains(besideRole, name) {
			id.env = append(id.env, v)
		}
	}
	for _, m := range mounts {
		if name, _ := m["name"].(string); slices.Contains(tokens, name) {
			id.mounts = append(id.mounts, m)
		}
	}
	return id, nil
}

// foreignRole says whether a variable leads to a role otherwise than by the sidecar.
func foreignRole(v object) bool {
	name, _ := v["name"].(string)
	text, _ := v["value"].(string)
	return slices.Contains(roleVariables, name) && !strings.HasPrefix(text, "http://127.0.0.1:") &&
		!strings.HasPrefix(text, ShareDir+"/") && !strings.HasPrefix(text, tokenMount+"/")
}

// takeAWS takes the pod's own AWS identity from a container, and refuses keys
// that somebody wrote into the manifest. Keys that would come from a ConfigMap or
// Secret by envFrom cannot be seen here: they are overridden by nothing, which all
// SDKs take for no key.
func takeAWS(c object, field string, tokens []string) error {
	env, err := list(c, "env")
	if err != nil {
		return refuse(field+".env", "it is not a list of variables")
	}
	for i, v := range env {
		if name, _ := v["name"].(string); slices.Contains(keyVariables, name) && !empty(v) {
			return refuse(fmt.Sprintf("%s.env[%d]", field, i), "%s gives the container a key of AWS; remove it, and let the sidecar sign", name)
		}
	}
	env = slices.DeleteFunc(env, foreignRole)
	from, err := list(c, "envFrom")
	if err != nil {
		return refuse(field+".envFrom", "it is not a list of sources")
	}
	if len(from) > 0 {
		for _, name := range keyVariables {
			if name == bearerToken {
				continue
			}
			env = put(env, object{"name": name, "value": ""}, false)
		}
	}
	if c["env"] != nil || len(env) > 0 {
		c["env"] = anyList(env)
	}
	mounts, err := list(c, "volumeMounts")
	if err != nil {
		return refuse(field+".volumeMounts", "it is not a list of mounts")
	}
	if len(mounts) > 0 {
		c["volumeMounts"] = anyList(slices.DeleteFunc(mounts, func(m object) bool {
			name, _ := m["name"].(string)
			return slices.Contains(tokens, name)
		}))
	}
	return nil
}

// empty says whether a variable is set to nothing. The API server leaves such a
// value out.
func empty(v object) bool { return v["valueFrom"] == nil && (v["value"] == nil || v["value"] == "") }

// awsTokenVolumes names the volumes that hold service account tokens for AWS.
func awsTokenVolumes(volumes []object) []string {
	var names []string
	for _, v := range volumes {
		name, _ := v["name"].(string)
		text, err := json.Marshal(v["projected"])
		if err != nil || name == tokenVolume {
			continue
		}
		var projected struct {
			Sources []struct {
				ServiceAccountToken struct{ Audience string }
			}
		}
		if json.Unmarshal(text, &projected) != nil {
			continue // the API server will refuse it
		}
		for _, s := range projected.Sources {
			if a := s.ServiceAccountToken.Audience; a == "sts.amazonaws.com" || a == "pods.eks.amazonaws.com" || strings.HasPrefix(a, "sts.") {
				names = append(names, name)
			}
		}
	}
	return names
}
