package main

import "testing"

func TestPHPScanDir(t *testing.T) {
	for existing, want := range map[string]string{
		"":                 ":/s",
		"/etc/php/conf.d":  "/etc/php/conf.d:/s",
		":/opt/php":        ":/opt/php:/s",
		":/s":              ":/s",
		":/s:/opt/php":     ":/opt/php:/s",
		":/tmp/outer-exec": ":/tmp/outer-exec:/s",
	} {
		got := phpScanDir(existing, "/s")
		if got != want {
			t.Errorf("phpScanDir(%q) = %q, want %q", existing, got, want)
		}
		if again := phpScanDir(got, "/s"); again != got {
			t.Errorf("phpScanDir(%q) = %q grows when it is repeated: %q", existing, got, again)
		}
	}
}
