//go:build !linux

package ca

// readOnlyMount is known on Linux only, where Kubernetes mounts Secrets.
func readOnlyMount(string) bool { return false }
