package inject

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"go.yaml.in/yaml/v3"
)

// Manifests adds the sidecar to every pod of a YAML or JSON stream that asks for
// it, as Object does, and returns the stream as YAML and how many it were. Lists
// of kind List are gone through. Comments are not kept.
func Manifests(r io.Reader, opt Options) ([]byte, int, error) {
	in := yaml.NewDecoder(r)
	var out bytes.Buffer
	to := yaml.NewEncoder(&out)
	to.SetIndent(2)
	count := 0
	for number := 1; ; number++ {
		var doc any
		err := in.Decode(&doc)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, 0, fmt.Errorf("document %d: %w", number, err)
		}
		if doc == nil {
			continue
		}
		o, ok := doc.(object)
		if !ok {
			return nil, 0, fmt.Errorf("document %d is not an object of Kubernetes", number)
		}
		n, err := each(o, opt)
		if err != nil {
			return nil, 0, fmt.Errorf("%s: %w", describe(o, number), err)
		}
		count += n
		if err := to.Encode(o); err != nil {
			return nil, 0, err
		}
	}
	return out.Bytes(), count, to.Close()
}

// each goes through the items of a List.
func each(o object, opt Options) (int, error) {
	if o["kind"] != "List" {
		changed, err := Object(o, opt)
		if changed {
			return 1, err
		}
		return 0, err
	}
	items, err := list(o, "items")
	if err != nil {
		return 0, err
	}
	count := 0
	for i, item := range items {
		n, err := each(item, opt)
		if err != nil {
			return 0, fmt.Errorf("%s: %w", describe(item, i+1), err)
		}
		count += n
	}
	return count, nil
}

func describe(o object, number int) string {
	metadata, _ := o["metadata"].(object)
	kind, name := o["kind"], metadata["name"]
	if kind == nil || name == nil {
		return fmt.Sprintf("document %d", number)
	}
	return fmt.Sprintf("%v %v", kind, name)
}
