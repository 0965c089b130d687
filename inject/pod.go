package inject

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// A wish is what the annotations of one pod ask for.
type wish struct {
	opt        Options
	image      string
	role       string // a name, or an ARN
	config     string
	source     string
	containers []string // empty: all
	injected   string
	skipped    string   // what the pod told the EKS webhook already
	skip       []string // what it is told now
	identity   awsIdentity
	region     []object // what a webhook said of the region, to the sidecar alone
	near       string   // a region in which the sidecar may ask STS; empty: its default
}

// user is the image's: without rights, and not root in any other container.
const user = 65532

const (
	stateMount  = "/var/lib/countersign"
	configMount = "/etc/countersign"
	tokenMount  = "/var/run/secrets/countersign.dev/aws"
)

// apply changes the spec of a pod.
func (w *wish) apply(spec object) error {
	if err := refuseSharing(spec); err != nil {
		return err
	}
	if err := refuseNode(spec); err != nil {
		return err
	}
	inits, err := list(spec, "initContainers")
	if err != nil {
		return err
	}
	apps, err := list(spec, "containers")
	if err != nil {
		return err
	}
	volumes, err := list(spec, "volumes")
	if err != nil {
		return err
	}
	if err := w.refuseNames(inits, apps, volumes); err != nil {
		return err
	}
	realTokens := awsTokenVolumes(volumes)
	if err := refuseHostPaths(volumes); err != nil {
		return err
	}
	if err := w.takeIdentity(inits, apps, realTokens); err != nil {
		return err
	}
	if err := w.takeRegion(inits); err != nil {
		return err
	}
	// The cluster's region, if it is known, else that of the first container.
	w.near = cmp.Or(regionIn(w.identity.env), regionIn(w.region))
	used := map[string]bool{}
	for _, x := range []struct {
		field string
		list  []object
	}{{"spec.initContainers", inits}, {"spec.containers", apps}} {
		for i, c := range x.list {
			name, _ := c["name"].(string)
			if name == Sidecar || name == Prepare {
				continue
			}
			field := fmt.Sprintf("%s[%d]", x.field, i)
			if !containerName.MatchString(name) {
				return refuse(field, "its name is %q, which is none for a container", name)
			}
			used[name] = true
			w.skip = append(w.skip, name)
			if err := takeAWS(c, field, realTokens); err != nil {
				return err
			}
			if err := confine(c, field); err != nil {
				return err
			}
			if len(w.containers) > 0 && !slices.Contains(w.containers, name) {
				continue
			}
			if err := w.client(c, field); err != nil {
				return err
			}
		}
	}
	for _, name := range w.containers {
		if !used[name] {
			return refuse("metadata.annotations", "%s names %q, and the pod has no such container", ContainersAnnotation, name)
		}
	}
	for name := range strings.SplitSeq(w.skipped, ",") {
		if name = strings.TrimSpace(name); name != "" && name != Sidecar && !slices.Contains(w.skip, name) {
			w.skip = append(w.skip, name)
		}
	}

	if !slices.Contains(w.skip, Prepare) {
		w.skip = append(w.skip, Prepare)
	}
	inits = put(inits, w.sidecar(), true)
	inits = put(inits, w.prepare(), true)
	spec["initContainers"] = anyList(inits)
	for _, v := range w.volumes() {
		volumes = put(volumes, v, false)
	}
	spec["volumes"] = anyList(volumes)
	return nil
}

// takeIdentity finds the AWS identity that other webhooks have given to the pod
// by now: that of the sidecar, if they came after it was injected, else that of
// the first container that has one. An identity that was asked for by annotation
// stands in its place.
func (w *wish) takeIdentity(inits, apps []object, tokens []string) error {
	if w.source != "" {
		return nil
	}
	for _, x := range []struct {
		field   string
		list    []object
		sidecar bool
	}{{"spec.initContainers", inits, true}, {"spec.containers", apps, false}, {"spec.initContainers", inits, false}} {
		for i, c := range x.list {
			if (c["name"] == Sidecar) != x.sidecar || c["name"] == Prepare {
				continue
			}
			id, err := identityOf(c, fmt.Sprintf("%s[%d]", x.field, i), tokens)
			if err != nil {
				return err
			}
			if len(id.env) > 0 {
				w.identity = id
				return nil
			}
		}
	}
	return nil
}

// takeRegion finds the region that the webhook of EKS has given to the sidecar. It
// skips the other containers, and had they not asked for a sidecar, they would have
// it too.
func (w *wish) takeRegion(inits []object) error {
	for i, c := range inits {
		if c["name"] != Sidecar {
			continue
		}
		env, err := list(c, "env")
		if err != nil {
			return refuse(fmt.Sprintf("spec.initContainers[%d].env", i), "it is not a list of variables")
		}
		for _, v := range env {
			if isRegion(v) {
				w.region = append(w.region, v)
			}
		}
	}
	return nil
}

// regionIn returns the region that variables name, if they name one outright.
func regionIn(env []object) string {
	for _, v := range env {
		if text, _ := v["value"].(string); isRegion(v) && regionName.MatchString(text) {
			return text
		}
	}
	return ""
}

var regionName = regexp.MustCompile(`^[a-z]{2,4}(-[a-z]{1,16}){1,3}-[0-9]{1,2}$`)

// isRegion says whether a variable names the region.
func isRegion(v object) bool { return v["name"] == "AWS_REGION" || v["name"] == "AWS_DEFAULT_REGION" }

// list returns the objects of a list, which may be missing.
func list(spec object, name string) ([]object, error) {
	switch v := spec[name].(type) {
	case nil:
		return nil, nil
	case []any:
		out := make([]object, len(v))
		for i, item := range v {
			o, ok := item.(object)
			if !ok {
				return nil, refuse(fmt.Sprintf("spec.%s[%d]", name, i), "it is not an object")
			}
			out[i] = o
		}
		return out, nil
	}
	return nil, refuse("spec."+name, "it is not a list")
}

func anyList(list []object) []any {
	out := make([]any, len(list))
	for i, o := range list {
		out[i] = o
	}
	return out
}

// put replaces the object of the same name where it stands, so that webhooks
// which put theirs first do not fight; else it adds it.
func put(list []object, o object, first bool) []object {
	for i := range list {
		if list[i]["name"] == o["name"] {
			list[i] = o
			return list
		}
	}
	if first {
		return append([]object{o}, list...)
	}
	return append(list, o)
}

// client makes a container use the sidecar.
func (w *wish) client(c object, field string) error {
	env, err := list(c, "env")
	if err != nil {
		return refuse(field+".env", "it is not a list of variables")
	}
	existing := func(name string) string {
		for _, v := range env {
			if v["name"] == name {
				value, _ := v["value"].(string)
				return value
			}
		}
		return ""
	}
	for _, v := range w.opt.Environment(w.configured(), existing) {
		env = put(env, object{"name": v.Name, "value": v.Value}, false)
	}
	if w.opt.Removed != nil {
		env = slices.DeleteFunc(env, func(v object) bool {
			name, _ := v["name"].(string)
			return w.opt.Removed(name) && name != "AWS_CONTAINER_CREDENTIALS_FULL_URI" && name != "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"
		})
	}
	if !slices.ContainsFunc(env, isRegion) {
		env = append(env, w.region...)
	}
	if w.near == "" {
		w.near = regionIn(env)
	}
	c["env"] = anyList(env)
	mounts, err := list(c, "volumeMounts")
	if err != nil {
		return refuse(field+".volumeMounts", "it is not a list of mounts")
	}
	c["volumeMounts"] = anyList(put(mounts, object{"name": shareVolume, "mountPath": ShareDir, "readOnly": true}, false))
	return nil
}

// configured is what the sidecar's configuration calls the role.
func (w *wish) configured() string {
	if strings.HasPrefix(w.role, "arn:") {
		return GivenRole
	}
	return w.role
}

func value(name, value string) object { return object{"name": name, "value": value} }

func fieldValue(name, path string) object {
	return object{"name": name, "valueFrom": object{"fieldRef": object{"fieldPath": path}}}
}

// own is what the sidecar and what prepares it have in common.
func (w *wish) own(name string, args ...any) object {
	env := []any{
		fieldValue("POD_NAMESPACE", "metadata.namespace"),
		fieldValue("POD_SERVICE_ACCOUNT", "spec.serviceAccountName"),
		value("GOMEMLIMIT", "220MiB"), // of 256Mi: what is above is the runtime's own, and files in memory
		value("COUNTERSIGN_LISTEN", "127.0.0.1:"+strconv.Itoa(ProxyPort)),
		value("COUNTERSIGN_ADMIN_LISTEN", "127.0.0.1:"+strconv.Itoa(AdminPort)),
		value("COUNTERSIGN_METRICS_LISTEN", ":"+strconv.Itoa(MetricsPort)),
		value("COUNTERSIGN_STATE_DIR", stateMount+"/state"),
		value("COUNTERSIGN_LIMITS_BODY_BUFFER", "48MiB"),
		value("COUNTERSIGN_LIMITS_BODY_BUFFER_SUM", "64MiB"),
	}
	mounts := []any{object{"name": stateVolume, "mountPath": stateMount}}
	if w.config != "" {
		env = append(env, value("COUNTERSIGN_CONFIG", configMount+"/countersign.yaml"))
		mounts = append(mounts, object{"name": configVolume, "mountPath": configMount, "readOnly": true})
	} else {
		env = append(env,
			value("COUNTERSIGN_ROLES_APP_ARN", w.role),
			// What CloudTrail shows: which workload, since the identity is "local" in every pod.
			value("COUNTERSIGN_ROLES_APP_SESSION_NAME", "$(POD_NAMESPACE).$(POD_SERVICE_ACCOUNT)"))
	}
	c := object{
		"name":  name,
		"image": w.image,
		"args":  args,
		"env":   env,
		"resources": object{
			"requests": object{"cpu": "25m", "memory": "64Mi"},
			"limits":   object{"memory": "256Mi"},
		},
		"securityContext": object{
			"runAsNonRoot": true, "runAsUser": int64(user), "runAsGroup": int64(user),
			"readOnlyRootFilesystem": true, "allowPrivilegeEscalation": false,
			"capabilities": object{"drop": []any{"ALL"}}, "seccompProfile": object{"type": "RuntimeDefault"},
		},
		"volumeMounts": mounts,
	}
	if w.opt.PullPolicy != "" {
		c["imagePullPolicy"] = w.opt.PullPolicy
	}
	return c
}

// prepare makes CA and token, and lays out what the other containers may see.
func (w *wish) prepare() object {
	c := w.own(Prepare, "inject", "prepare", "--role", w.configured(), "--dir", ShareDir)
	c["volumeMounts"] = append(c["volumeMounts"].([]any), object{"name": shareVolume, "mountPath": ShareDir})
	return c
}

// sidecar is the proxy: an init container that goes on running, is ready before
// the next container starts, and ends after the last one.
// https://kubernetes.io/docs/concepts/workloads/pods/sidecar-containers/
func (w *wish) sidecar() object {
	c := w.own(Sidecar, "serve")
	c["restartPolicy"] = "Always"
	c["ports"] = []any{object{"name": "cs-metrics", "containerPort": int64(MetricsPort), "protocol": "TCP"}}
	ready := object{"path": "/readyz", "port": int64(MetricsPort)}
	c["startupProbe"] = object{"httpGet": ready, "periodSeconds": int64(1), "failureThreshold": int64(60)}
	c["readinessProbe"] = object{"httpGet": ready, "periodSeconds": int64(5)}
	c["livenessProbe"] = object{"httpGet": object{"path": "/healthz", "port": int64(MetricsPort)}, "periodSeconds": int64(10), "failureThreshold": int64(6)}
	// A configuration has its own source.region. Elsewhere than near, STS may be out of
	// reach (VPC endpoints), or forbidden by a policy of the organisation.
	if w.config == "" && w.near != "" {
		c["env"] = append(c["env"].([]any), value("COUNTERSIGN_SOURCE_REGION", w.near))
	}
	if w.source != "" {
		c["env"] = append(c["env"].([]any),
			value("AWS_ROLE_ARN", w.source),
			value("AWS_WEB_IDENTITY_TOKEN_FILE", tokenMount+"/token"),
			value("AWS_EC2_METADATA_DISABLED", "true"))
		c["volumeMounts"] = append(c["volumeMounts"].([]any), object{"name": tokenVolume, "mountPath": tokenMount, "readOnly": true})
	}
	for _, v := range w.identity.env {
		c["env"] = append(c["env"].([]any), v)
	}
	if !slices.ContainsFunc(w.identity.env, isRegion) {
		c["env"] = append(c["env"].([]any), anyList(w.region)...)
	}
	for _, m := range w.identity.mounts {
		c["volumeMounts"] = append(c["volumeMounts"].([]any), m)
	}
	return c
}

func (w *wish) volumes() []object {
	memory := func(name string) object {
		return object{"name": name, "emptyDir": object{"medium": "Memory", "sizeLimit": "16Mi"}}
	}
	out := []object{memory(stateVolume), memory(shareVolume)}
	if w.config != "" {
		out = append(out, object{"name": configVolume, "configMap": object{"name": w.config}})
	}
	if w.source != "" {
		out = append(out, object{"name": tokenVolume, "projected": object{
			// The user of the sidecar is not the pod's; others have no mount.
			"defaultMode": int64(0o444),
			"sources": []any{object{"serviceAccountToken": object{
				"audience": "sts.amazonaws.com", "expirationSeconds": int64(3600), "path": "token",
			}}},
		}})
	}
	return out
}
