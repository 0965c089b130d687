package inject

import (
	"fmt"
	"path"
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
	return nil
}

// refuseNode refuses pods that run where the sidecar does not.
func refuseNode(spec object) error {
	const why = "there is no sidecar for Windows; use a gateway for this pod"
	if system, ok := spec["os"].(object); ok && system["name"] == "windows" {
		return refuse("spec.os", why)
	}
	selector, _ := spec["nodeSelector"].(object)
	for _, label := range []string{"kubernetes.io/os", "beta.kubernetes.io/os"} {
		if selector[label] == "windows" {
			return refuse("spec.nodeSelector", why)
		}
	}
	return nil
}

// keyPlaces are where a node has the volumes of its pods, the processes in them,
// and the sockets of those who start them.
var keyPlaces = []string{
	"/proc", "/var/lib/kubelet", "/var/lib/containerd", "/var/lib/docker",
	"/run/containerd", "/run/crio", "/run/docker.sock", "/run/k3s",
}

// refuseHostPaths refuses pods that mount a folder of the node from which the
// sidecar's keys can be had, as a privileged container could.
func refuseHostPaths(volumes []object) error {
	for i, v := range volumes {
		host, ok := v["hostPath"].(object)
		if !ok {
			continue
		}
		given, _ := host["path"].(string)
		at := path.Clean("/" + given)
		if rest, ok := strings.CutPrefix(at, "/var/run"); ok && (rest == "" || rest[0] == '/') {
			at = "/run" + rest // the one is a link to the other
		}
		for _, place := range keyPlaces {
			if within(place, at) || within(at, place) {
				return refuse(fmt.Sprintf("spec.volumes[%d].hostPath", i), "by %s of the node the sidecar's keys could be read; use a gateway for this pod", given)
			}
		}
	}
	return nil
}

// within says whether a path is a folder, or below it.
func within(at, folder string) bool {
	return at == folder || strings.HasPrefix(at, strings.TrimSuffix(folder, "/")+"/")
}

// confine keeps a container from the sidecar's traffic. Containers of a pod share
// its network, and one that may open raw sockets (packet(7)) reads along when the
// sidecar is given its AWS credentials by the agent of EKS Pod Identity or by a
// machine, which is plain HTTP. Runtimes give NET_RAW to whoever runs as root; so
// it is dropped, unless the manifest asks for it by name. A privileged container
// has the node, and with it the sidecar's keys.
func confine(c object, field string) error {
	field += ".securityContext"
	security, err := child(c, "securityContext", field)
	if err != nil {
		return err
	}
	switch security["privileged"] {
	case nil, false:
	case true:
		return refuse(field+".privileged", "the container could read the sidecar's keys; use a gateway for this pod")
	default:
		return refuse(field+".privileged", "it is neither true nor false")
	}
	capabilities, err := child(security, "capabilities", field+".capabilities")
	if err != nil {
		return err
	}
	has := func(list string) (bool, error) {
		switch v := capabilities[list].(type) {
		case nil:
			return false, nil
		case []any:
			return slices.ContainsFunc(v, func(name any) bool {
				return slices.Contains([]any{"ALL", "NET_RAW", "CAP_NET_RAW"}, name)
			}), nil
		}
		return false, refuse(field+".capabilities."+list, "it is not a list")
	}
	added, err := has("add")
	if err != nil {
		return err
	}
	dropped, err := has("drop")
	if err != nil || added || dropped {
		return err
	}
	drop, _ := capabilities["drop"].([]any)
	capabilities["drop"] = append(slices.Clone(drop), "NET_RAW")
	security["capabilities"] = capabilities
	c["securityContext"] = security
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
