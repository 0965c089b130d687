package inject

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// refuseSharing refuses pods whose containers would share with each other, or
// with the node, what the sidecar needs for itself.
func refuseSharing(spec object) error {
	for _, x := range []struct{ field, why string }{
		{"hostNetwork", "everybody on the node could use the sidecar's listener"},
		{"hostPID", "other processes of the node could read the sidecar's keys"},
		{"shareProcessNamespace", "the other containers could read the sidecar's keys"},
	} {
		switch v := spec[x.field].(type) {
		case nil:
		case bool:
			if v {
				return refuse("spec."+x.field, "%s; use a gateway for this pod", x.why)
			}
		default:
			return refuse("spec."+x.field, "it is neither true nor false")
		}
	}
	if system, ok := spec["os"].(object); ok && system["name"] == "windows" {
		return refuse("spec.os", "there is no sidecar for Windows; use a gateway for this pod")
	}
	return nil
}

// refuseNames refuses pods that use names or ports of ours for something else.
func (w *wish) refuseNames(inits, apps, volumes []object) error {
	for i, c := range apps {
		if c["name"] == Sidecar || c["name"] == Prepare {
			return refuse(fmt.Sprintf("spec.containers[%d]", i), "the name %s is the sidecar's; rename the container", c["name"])
		}
	}
	if w.injected == "" {
		for i, c := range inits {
			if c["name"] == Sidecar || c["name"] == Prepare {
				return refuse(fmt.Sprintf("spec.initContainers[%d]", i), "the name %s is the sidecar's; rename the container", c["name"])
			}
		}
		for i, v := range volumes {
			if name, _ := v["name"].(string); slices.Contains([]string{stateVolume, shareVolume, configVolume, tokenVolume}, name) {
				return refuse(fmt.Sprintf("spec.volumes[%d]", i), "the name %s is the sidecar's; rename the volume", name)
			}
		}
	}
	for _, x := range []struct {
		field string
		list  []object
	}{{"spec.initContainers", inits}, {"spec.containers", apps}} {
		for i, c := range x.list {
			if c["name"] == Sidecar || c["name"] == Prepare {
				continue
			}
			field := fmt.Sprintf("%s[%d]", x.field, i)
			ports, _ := c["ports"].([]any)
			for _, p := range ports {
				if port, ok := p.(object); ok && taken(port["containerPort"]) {
					return refuse(field+".ports", "the sidecar listens on %v; let the container use another port", port["containerPort"])
				}
			}
			mounts, _ := c["volumeMounts"].([]any)
			for _, m := range mounts {
				mount, ok := m.(object)
				if !ok {
					continue
				}
				name, _ := mount["name"].(string)
				if slices.Contains([]string{stateVolume, tokenVolume, configVolume}, name) {
					return refuse(field+".volumeMounts", "the volume %s is for the sidecar alone", name)
				}
			}
		}
	}
	return nil
}

func taken(port any) bool {
	switch text := fmt.Sprint(port); text {
	case fmt.Sprint(ProxyPort), fmt.Sprint(AdminPort), fmt.Sprint(MetricsPort):
		return true
	default:
		return false
	}
}

// keyVariables hold real credentials. A manifest that sets them would give the
// program what this is here to keep from it.
var keyVariables = []string{
	"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_SECURITY_TOKEN",
	"AWS_ACCESS_KEY", "AWS_SECRET_KEY", "AWS_BEARER_TOKEN_BEDROCK",
}

// roleVariables are what the webhook of EKS sets, for IRSA and for Pod Identity.
var roleVariables = []string{
	"AWS_ROLE_ARN", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_ROLE_SESSION_NAME",
	"AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
}

// takeAWS takes the pod's own AWS identity from a container, and refuses keys
// that somebody wrote into the manifest.
func takeAWS(c object, field string, tokens []string) error {
	env, err := list(c, "env")
	if err != nil {
		return refuse(field+".env", "it is not a list of variables")
	}
	for i, v := range env {
		if name, _ := v["name"].(string); slices.Contains(keyVariables, name) {
			return refuse(fmt.Sprintf("%s.env[%d]", field, i), "%s gives the container a key of AWS; remove it, and let the sidecar sign", name)
		}
	}
	if len(env) > 0 {
		env = slices.DeleteFunc(env, func(v object) bool {
			name, _ := v["name"].(string)
			text, _ := v["value"].(string)
			return slices.Contains(roleVariables, name) && !strings.HasPrefix(text, "http://127.0.0.1:") && !strings.HasPrefix(text, ShareDir+"/")
		})
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
