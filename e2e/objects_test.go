package e2e

import (
	"encoding/json"
	"strings"
	"testing"
)

// The keys and answers are those on which proxies have failed before: paths
// that a URL library cleans up, compressed objects that an HTTP library
// unpacks, answers without a body.
func TestObjectsAgainstStrictMoto(t *testing.T) {
	interpreter := python(t)
	compare(t, strictMoto(t), deployARN, func(t *testing.T, w way) string {
		output := w.must(t, t.TempDir(), nil, interpreter, script(t, "objects.py"))
		checkObjects(t, output)
		return output
	})
}

func TestObjectsAgainstVersity(t *testing.T) {
	interpreter := python(t)
	compare(t, versity(t), "", func(t *testing.T, w way) string {
		output := w.must(t, t.TempDir(), regionalS3, interpreter, script(t, "objects.py"), "--posix")
		checkObjects(t, output)
		return output
	})
}

// checkObjects makes sure that the run met the cases it is there for: that two
// ways agree says nothing if both failed.
func checkObjects(t *testing.T, output string) {
	t.Helper()
	var calls []struct {
		Call    string
		Status  int
		Headers map[string]string
	}
	if err := json.Unmarshal([]byte(output), &calls); err != nil {
		t.Fatal(err)
	}
	status := map[string]int{}
	for _, call := range calls {
		status[call.Call] = call.Status
		if call.Call == "get gzip" && !strings.HasPrefix(call.Headers["content-encoding"], "gzip") {
			t.Errorf("get gzip: headers %v", call.Headers)
		}
	}
	for call, want := range map[string]int{
		"get a b+c/é&=~%20": 200,
		"get plain":         200,
		"get empty":         200,
		"get gzip":          200,
		"range gzip":        206,
		"304 plain":         304,
		"412 plain":         412,
		"404":               404,
		"404 head":          404,
		"416":               416,
	} {
		if status[call] != want {
			t.Errorf("%s: status %d, want %d", call, status[call], want)
		}
	}
}
