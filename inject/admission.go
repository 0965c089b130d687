package inject

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"net/http"
)

// maxReview bounds an AdmissionReview. etcd takes objects of 1.5 MiB, and a
// review holds two at most.
const maxReview = 8 << 20

// The parts of an AdmissionReview that matter here.
// https://kubernetes.io/docs/reference/access-authn-authz/extensible-admission-controllers/
type review struct {
	APIVersion string    `json:"apiVersion"`
	Kind       string    `json:"kind"`
	Request    *request  `json:"request,omitempty"`
	Response   *response `json:"response,omitempty"`
}

type request struct {
	UID       string          `json:"uid"`
	Kind      groupKind       `json:"kind"`
	Name      string          `json:"name"`
	Namespace string          `json:"namespace"`
	Operation string          `json:"operation"`
	Object    json.RawMessage `json:"object"`
}

type groupKind struct {
	Group   string `json:"group"`
	Version string `json:"version"`
	Kind    string `json:"kind"`
}

type response struct {
	UID       string   `json:"uid"`
	Allowed   bool     `json:"allowed"`
	PatchType string   `json:"patchType,omitempty"`
	Patch     []byte   `json:"patch,omitempty"` // base64 in JSON
	Status    *status  `json:"status,omitempty"`
	Warnings  []string `json:"warnings,omitempty"`
}

type status struct {
	Message string `json:"message"`
	Code    int    `json:"code"`
}

// operation is one step of a JSON patch, RFC 6902.
type operation struct {
	Op    string `json:"op"`
	Path  string `json:"path"`
	Value any    `json:"value"`
}

// A Reviewed says what became of one pod.
type Reviewed struct {
	Namespace string
	Pod       string // its name, or the beginning of it (generateName) while it has none
	Changed   bool
	Err       error // why it was refused; nil: it was not
}

// Handler is a mutating admission webhook for pods. It has no side effects, so
// it may be called for dry runs, and any number of times. Everything that it
// cannot understand is an error, which a failurePolicy of Fail makes a refusal.
// record, if not nil, is called once for each pod; it must be safe for
// concurrent use.
func Handler(opt Options, record func(Reviewed)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost {
			w.Header().Set("Allow", http.MethodPost)
			http.Error(w, "an AdmissionReview is posted", http.StatusMethodNotAllowed)
			return
		}
		if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
			http.Error(w, "an AdmissionReview is application/json", http.StatusUnsupportedMediaType)
			return
		}
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxReview))
		if err != nil {
			http.Error(w, "the AdmissionReview cannot be read, or is too large", http.StatusBadRequest)
			return
		}
		answer, reviewed, err := admit(body, opt)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		if record != nil {
			record(reviewed)
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(answer) // the API server may have left
	})
}

// admit answers one review.
func admit(body []byte, opt Options) ([]byte, Reviewed, error) {
	var in review
	if err := json.Unmarshal(body, &in); err != nil {
		return nil, Reviewed{}, fmt.Errorf("this is no AdmissionReview: %w", err)
	}
	if in.APIVersion != "admission.k8s.io/v1" || in.Kind != "AdmissionReview" || in.Request == nil || in.Request.UID == "" {
		return nil, Reviewed{}, fmt.Errorf("this is no AdmissionReview of admission.k8s.io/v1 with a request")
	}
	reviewed := Reviewed{Namespace: in.Request.Namespace, Pod: nameOf(in.Request)}
	out := response{UID: in.Request.UID}
	patch, err := patchPod(in.Request, opt)
	switch {
	case err != nil:
		reviewed.Err = err
		out.Status = &status{Message: "countersign: " + err.Error(), Code: http.StatusUnprocessableEntity}
	case patch == nil:
		out.Allowed = true
	default:
		reviewed.Changed = true
		out.Allowed, out.PatchType, out.Patch = true, "JSONPatch", patch
	}
	answer, err := json.Marshal(review{APIVersion: in.APIVersion, Kind: in.Kind, Response: &out})
	return answer, reviewed, err
}

// nameOf is what the logs call a pod.
func nameOf(r *request) string {
	var pod struct {
		Metadata struct{ Name, GenerateName string }
	}
	if json.Unmarshal(r.Object, &pod) != nil {
		return r.Name // patchPod says what is wrong
	}
	return cmp.Or(r.Name, pod.Metadata.Name, pod.Metadata.GenerateName)
}

// patchPod returns the patch that adds the sidecar, or nil for a pod that does
// not ask for one.
func patchPod(r *request, opt Options) ([]byte, error) {
	if r.Kind.Group != "" || r.Kind.Kind != "Pod" {
		return nil, refuse("kind", "this webhook is for pods, and was sent a %s; correct its registration", r.Kind.Kind)
	}
	if r.Operation != "CREATE" {
		return nil, refuse("operation", "this webhook is for CREATE, and was sent %s; correct its registration", r.Operation)
	}
	decoder := json.NewDecoder(bytes.NewReader(r.Object))
	decoder.UseNumber() // numbers go out as they came in
	var pod object
	if err := decoder.Decode(&pod); err != nil || pod == nil {
		return nil, refuse("object", "the pod cannot be read: %v", err)
	}
	changed, err := Pod(pod, opt)
	if err != nil || !changed {
		return nil, err
	}
	// The API server compares before and after itself: whole values are as good
	// as small steps, and cannot go wrong.
	metadata := pod["metadata"].(object)
	return json.Marshal([]operation{
		{"add", "/metadata/annotations", metadata["annotations"]},
		{"add", "/spec", pod["spec"]},
	})
}
