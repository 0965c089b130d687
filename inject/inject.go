// Package inject adds the sidecar to a pod, so that its containers reach AWS
// through a countersign of their own and hold no AWS credentials.
//
// A pod asks for it with the annotation countersign.dev/role. What comes out is
// the same however often it is done, and a pod that cannot be served safely is
// refused, never passed on without the sidecar.
//
// The trap is what containers of one pod share. The network is shared always:
// another container may reach the metadata service as well as the sidecar can,
// so a NetworkPolicy has to close it, and could read along when the sidecar does,
// so the others lose the right to raw sockets. Processes and the host's network
// must not be shared, because then the sidecar's keys and its listener are not its
// own; such pods, and those with privileged containers, are refused.
//
// Objects are handled as decoded JSON and not as typed structures, so that
// fields of Kubernetes versions to come pass through untouched.
package inject

import (
	"cmp"
	"errors"
	"fmt"
	"regexp"
	"strings"
)

// Annotations of a pod (of the pod template, where something else makes the pods).
const (
	// RoleAnnotation names a role of the configuration, or is the ARN of one.
	RoleAnnotation = "countersign.dev/role"
	// ConfigAnnotation names the ConfigMap that holds countersign.yaml and the
	// files that it names. Without it, the role is given by its ARN.
	ConfigAnnotation = "countersign.dev/config"
	// SourceAnnotation is the ARN of the role that the sidecar itself has, by a
	// service account token that no other container gets. Without it the sidecar
	// takes what the cluster gives the pod: EKS Pod Identity, or a webhook's.
	SourceAnnotation = "countersign.dev/source-role-arn"
	// ContainersAnnotation lists the containers that use the sidecar, separated by
	// commas. Without it all do, init containers included.
	ContainersAnnotation = "countersign.dev/containers"
	// InjectedAnnotation is set by this package.
	InjectedAnnotation = "countersign.dev/injected"
)

// skipAnnotation makes the EKS webhook leave containers alone.
// https://github.com/aws/amazon-eks-pod-identity-webhook
const skipAnnotation = "eks.amazonaws.com/skip-containers"

// Names of what is added to a pod.
const (
	Sidecar = "countersign"         // the proxy
	Prepare = "countersign-prepare" // makes what the other containers need before it starts

	stateVolume  = "countersign-state"     // the CA's key and the sealing key: for these two alone
	shareVolume  = "countersign-share"     // trust bundles and the token: for the containers
	configVolume = "countersign-config"    // the ConfigMap
	tokenVolume  = "countersign-aws-token" // the sidecar's own AWS identity
)

// ShareDir is where containers find what Prepare has made for them, and the
// names of the files there.
const (
	ShareDir   = "/run/countersign"
	BundleFile = "bundle.pem" // our root and the public ones
	NodeFile   = "node.pem"   // our root alone
	JavaFile   = "bundle.jks"
	TokenFile  = "token" // what proves to the sidecar who fetches credentials

	NodeProxyFile = "node-proxy.cjs"  // what makes Node.js go through the sidecar
	PHPFile       = "countersign.ini" // what makes PHP trust the bundle
)

// Ports of the sidecar. The first two are on loopback.
const (
	ProxyPort   = 8800
	AdminPort   = 8801
	MetricsPort = 8802
)

// GivenRole is the sidecar's name of a role that was given by its ARN.
const GivenRole = "app"

// Repository is where the image of the sidecar is.
const Repository = "ghcr.io/countersign-proxy/countersign"

// DefaultImage is the image of the sidecar.
const DefaultImage = Repository + ":latest"

// A Variable is one setting of a container's environment.
type Variable struct{ Name, Value string }

// Options say how sidecars are made. Environment must be set.
type Options struct {
	Image      string // default DefaultImage
	PullPolicy string // default: the cluster's
	Role       string // of pods without RoleAnnotation; default: they are left alone
	Config     string // ConfigMap of pods without ConfigAnnotation; default: none

	// Environment returns the settings of a container that uses the sidecar under
	// a role, given what the container's manifest says already.
	Environment func(role string, existing func(name string) string) []Variable
	// Removed says which variables of a container lead around the sidecar.
	Removed func(name string) bool
}

// A Refusal says why a pod cannot have a sidecar.
type Refusal struct {
	Field   string // where in the pod
	Message string // what is wrong, and what to do
}

func (e *Refusal) Error() string { return e.Field + ": " + e.Message }

func refuse(field, format string, args ...any) error {
	return &Refusal{field, fmt.Sprintf(format, args...)}
}

type object = map[string]any

// Object adds the sidecar to the pod that a manifest describes, or to the pod
// template in it, and says whether it did. Objects that have no pods, and pods
// that do not ask for a sidecar, are left as they are. After an error the object
// is half changed and must not be used.
func Object(o object, opt Options) (bool, error) {
	path := map[string][]string{
		"Pod":                   {},
		"PodTemplate":           {"template"},
		"Deployment":            {"spec", "template"},
		"ReplicaSet":            {"spec", "template"},
		"ReplicationController": {"spec", "template"},
		"StatefulSet":           {"spec", "template"},
		"DaemonSet":             {"spec", "template"},
		"Job":                   {"spec", "template"},
		"CronJob":               {"spec", "jobTemplate", "spec", "template"},
	}
	kind, _ := o["kind"].(string)
	steps, ok := path[kind]
	if !ok {
		return false, nil
	}
	pod := o
	for i, step := range steps {
		next, ok := pod[step].(object)
		if !ok {
			return false, refuse(strings.Join(steps[:i+1], "."), "it is missing from the %s", kind)
		}
		pod = next
	}
	return Pod(pod, opt)
}

// Pod adds the sidecar to a pod or pod template that asks for it, and says
// whether it does.
func Pod(pod object, opt Options) (bool, error) {
	if opt.Environment == nil {
		return false, errors.New("inject: Options.Environment is not set")
	}
	metadata, err := child(pod, "metadata", "metadata")
	if err != nil {
		return false, err
	}
	annotations, err := child(metadata, "annotations", "metadata.annotations")
	if err != nil {
		return false, err
	}
	text := func(name string) (string, error) {
		switch v := annotations[name].(type) {
		case nil:
			return "", nil
		case string:
			return strings.TrimSpace(v), nil
		}
		return "", refuse("metadata.annotations", "%s is not a text", name)
	}
	w := wish{opt: opt, image: cmp.Or(opt.Image, DefaultImage)}
	var containers string
	var errs []error
	for _, x := range []struct {
		annotation, fallback string
		value                *string
	}{
		{RoleAnnotation, opt.Role, &w.role},
		{ConfigAnnotation, opt.Config, &w.config},
		{SourceAnnotation, "", &w.source},
		{ContainersAnnotation, "", &containers},
		{InjectedAnnotation, "", &w.injected},
		{skipAnnotation, "", &w.skipped},
	} {
		v, err := text(x.annotation)
		errs = append(errs, err)
		*x.value = cmp.Or(v, x.fallback)
	}
	if err := errors.Join(errs...); err != nil {
		return false, err
	}
	if _, asked := annotations[RoleAnnotation]; asked && w.role == "" {
		return false, refuse("metadata.annotations", "%s is empty; it names a role, or is the ARN of one", RoleAnnotation)
	}
	if w.role == "" {
		return false, nil
	}
	if err := w.check(); err != nil {
		return false, err
	}
	for name := range strings.SplitSeq(containers, ",") {
		if name = strings.TrimSpace(name); name != "" {
			w.containers = append(w.containers, name)
		}
	}
	pod["metadata"], metadata["annotations"] = metadata, annotations
	spec, err := child(pod, "spec", "spec")
	if err != nil {
		return false, err
	}
	pod["spec"] = spec
	if err := w.apply(spec); err != nil {
		return false, err
	}
	annotations[RoleAnnotation] = w.role
	annotations[InjectedAnnotation] = injectedVersion
	if w.config != "" {
		annotations[ConfigAnnotation] = w.config
	}
	annotations[skipAnnotation] = strings.Join(w.skip, ",")
	return true, nil
}

// injectedVersion tells pods that have a sidecar from those that only look so.
const injectedVersion = "v1"

// child returns an object within an object, or a new one if there is none.
func child(o object, name, field string) (object, error) {
	switch v := o[name].(type) {
	case nil:
		return object{}, nil
	case object:
		return v, nil
	}
	return nil, refuse(field, "it is not an object")
}

var (
	// IAM user guide, "IAM and AWS STS quotas": path and name.
	roleARN = regexp.MustCompile(`^arn:aws[a-z-]*:iam::[0-9]{12}:role/[\w+=,.@/-]{1,512}$`)
	// What the configuration takes as a name of a role.
	roleName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$`)
	// RFC 1123, as Kubernetes has it for names of containers and ConfigMaps.
	containerName = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)
	objectName    = regexp.MustCompile(`^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$`)
)

// check returns an error if an annotation is wrong.
func (w *wish) check() error {
	switch {
	case w.source != "" && !roleARN.MatchString(w.source):
		return refuse("metadata.annotations", "%s is %q, which is no ARN of a role", SourceAnnotation, w.source)
	case w.config != "" && !objectName.MatchString(w.config):
		return refuse("metadata.annotations", "%s is %q, which is not a valid ConfigMap name", ConfigAnnotation, w.config)
	case roleARN.MatchString(w.role):
		if w.config != "" {
			// The configuration decides which roles there are.
			return refuse("metadata.annotations", "%s is an ARN, while %s names a configuration; give the name that the role has there", RoleAnnotation, ConfigAnnotation)
		}
		return nil
	case strings.HasPrefix(w.role, "arn:"):
		return refuse("metadata.annotations", "%s is %q, which is no ARN of a role", RoleAnnotation, w.role)
	case !roleName.MatchString(w.role):
		return refuse("metadata.annotations", "%s is %q, which is not a valid role name", RoleAnnotation, w.role)
	case w.config == "":
		return refuse("metadata.annotations", "%s names the role %q, and %s does not say which ConfigMap describes it; name one, or give the role's ARN", RoleAnnotation, w.role, ConfigAnnotation)
	}
	return nil
}
