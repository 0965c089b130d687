package awsapi

import (
	"archive/zip"
	"bytes"
	_ "embed"
	"io"
	"slices"
	"sync"
)

//go:generate go run ./gen -dir .

// The tables are archives of text, one section a service, so that a process
// unpacks only what its calls name.
var (
	//go:embed tables/operations.zip
	operationsZip []byte
	//go:embed tables/actions.zip
	actionsZip []byte
)

// archive is an embedded zip file. It unpacks a section when it is first asked
// for, and keeps nothing: callers cache what they parse.
type archive struct {
	files map[string]*zip.File
}

func openArchive(b []byte) *archive {
	z, err := zip.NewReader(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		panic("awsapi: embedded table: " + err.Error())
	}
	a := &archive{files: make(map[string]*zip.File, len(z.File))}
	for _, f := range z.File {
		a.files[f.Name] = f
	}
	return a
}

// text returns a section, "" when there is none of that name.
func (a *archive) text(name string) string {
	f := a.files[name]
	if f == nil {
		return ""
	}
	r, err := f.Open()
	if err != nil {
		panic("awsapi: embedded table: " + err.Error())
	}
	b, err := io.ReadAll(r)
	if err != nil {
		panic("awsapi: embedded table: " + err.Error())
	}
	return string(b)
}

func (a *archive) names() []string {
	out := make([]string, 0, len(a.files))
	for n := range a.files {
		out = append(out, n)
	}
	slices.Sort(out)
	return out
}

var operationsArchive = sync.OnceValue(func() *archive { return openArchive(operationsZip) })
var actionsArchive = sync.OnceValue(func() *archive { return openArchive(actionsZip) })

// lazy is a cache of parsed sections. Sections are read-only once parsed.
type lazy[T any] struct{ m sync.Map }

func (l *lazy[T]) get(name string, parse func() *T) *T {
	if v, ok := l.m.Load(name); ok {
		return v.(*T)
	}
	v, _ := l.m.LoadOrStore(name, parse())
	return v.(*T)
}
