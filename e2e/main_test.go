package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"
)

// program and sdkClient are the binaries under test and the Go SDK client,
// both built once by TestMain.
var program, sdkClient string

// patience is how long a test waits for what is bound to happen. It only says when
// to give up: a machine with much else to do, or one that was stopped for a while,
// makes no test fail.
const patience = 2 * time.Minute

// scratch holds what all tests share; it is removed when the run ends.
var scratch string

func TestMain(m *testing.M) {
	os.Exit(run(m))
}

func run(m *testing.M) int {
	// Where this process was started in the background, it ignores interrupts, and so
	// would all that it starts.
	for _, s := range []os.Signal{os.Interrupt, syscall.SIGHUP} {
		if signal.Ignored(s) {
			signal.Notify(make(chan os.Signal, 1), s)
		}
	}
	dir, err := os.MkdirTemp("", "countersign-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	scratch = dir
	program = filepath.Join(dir, "countersign")
	sdkClient = filepath.Join(dir, "gosdk")
	for output, source := range map[string]string{
		program:   "../cmd/countersign",
		sdkClient: "./gosdk",
	} {
		build := exec.Command("go", "build", "-trimpath", "-o", output, source)
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		build.Stderr = os.Stderr
		if err := build.Run(); err != nil {
			fmt.Fprintf(os.Stderr, "e2e: building %s: %v\n", source, err)
			return 1
		}
	}
	defer stopServers()
	return m.Run()
}

// needs skips a test whose tool is missing, or fails it where CI=true: there a
// test that silently did not run would be worse than one that failed.
func needs(t testing.TB, what string, err error) {
	t.Helper()
	if err == nil {
		return
	}
	if os.Getenv("CI") == "true" {
		t.Fatalf("%s is missing and CI=true: %v", what, err)
	}
	t.Skipf("%s is missing (`make tools` installs it): %v", what, err)
}

// toolDirs is where the project installs what its tests need.
func toolDirs() (dirs []string) {
	for _, dir := range []string{"venv/bin", "bin"} {
		if dir, err := filepath.Abs(filepath.Join("..", ".tools", dir)); err == nil {
			dirs = append(dirs, dir)
		}
	}
	return dirs
}

// tool finds an executable by name in .tools or PATH.
func tool(t testing.TB, name string) string {
	t.Helper()
	for _, dir := range toolDirs() {
		path := filepath.Join(dir, name)
		if info, err := os.Stat(path); err == nil && !info.IsDir() {
			return path
		}
	}
	path, err := exec.LookPath(name)
	needs(t, name, err)
	return path
}

// fromEnvironment returns the path that a variable names, or else a path below
// the project's own .tools.
func fromEnvironment(t testing.TB, variable string, tools ...string) string {
	t.Helper()
	path := os.Getenv(variable)
	if path == "" {
		path = filepath.Join(append([]string{"..", ".tools"}, tools...)...)
	}
	path, err := filepath.Abs(path)
	if err == nil {
		_, err = os.Stat(path)
	}
	needs(t, variable, err)
	return path
}

func python(t testing.TB) string {
	return fromEnvironment(t, "COUNTERSIGN_PYTHON", "venv", "bin", "python")
}

func nodeModules(t testing.TB) string {
	return fromEnvironment(t, "COUNTERSIGN_NODE_MODULES", "node", "node_modules")
}

// servers are started when the first test asks and stopped after the last.
var servers struct {
	sync.Mutex
	stop []func()
}

func atEnd(stop func()) {
	servers.Lock()
	defer servers.Unlock()
	servers.stop = append(servers.stop, stop)
}

func stopServers() {
	servers.Lock()
	defer servers.Unlock()
	for i := len(servers.stop) - 1; i >= 0; i-- {
		servers.stop[i]()
	}
}
