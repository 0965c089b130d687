package main

import (
	"strings"
	"testing"
)

func TestTheWayOutIsNotTheWayIn(t *testing.T) {
	for _, c := range []struct {
		listen, setting, env string
		loop                 bool
	}{
		{"127.0.0.1:8800", "env", "http://127.0.0.1:8800", true},
		{"127.0.0.1:8800", "env", "http://localhost:8800/", true},
		{"127.0.0.1:8800", "env", "localhost:8800", true},
		{"127.0.0.1:8800", "env", "http://user:secret@127.0.0.1:8800", true},
		{"localhost:8800", "env", "http://[::1]:8800", true},
		{"0.0.0.0:8800", "env", "http://127.0.0.1:8800", true},
		{":8800", "http://127.0.0.1:8800", "", true},
		{"proxy.example:8800", "https://proxy.example:8800", "", true},
		{"127.0.0.1:8800", "none", "http://127.0.0.1:8800", false},
		{"127.0.0.1:8800", "http://other.example:8800", "http://127.0.0.1:8800", false},
		{"127.0.0.1:8800", "env", "http://127.0.0.1:3128", false},
		{"127.0.0.1:8800", "env", "http://proxy.example:8800", false},
		{"127.0.0.1:0", "env", "http://127.0.0.1:0", false},
		{"127.0.0.1:8800", "env", "", false},
	} {
		err := notThroughItself(c.setting, c.listen, in(map[string]string{"HTTPS_PROXY": c.env}))
		if (err != nil) != c.loop {
			t.Errorf("%+v: %v", c, err)
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("the message repeats a password: %v", err)
		}
	}
}
