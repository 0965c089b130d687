// Package e2e proves the built program with real clients against real servers.
//
// The tests build cmd/countersign and run it as a user would: aws-cli, boto3,
// the Go and JavaScript SDKs and Terraform behind it; in front of it moto
// wrapped in a strict signature check (strictmoto.py) and versitygw, both of
// which verify every request with code that is not ours.
//
// A test here compares: what a client saw and what the server saw, once through
// a tunnel that touches nothing and once through countersign, must be equal
// except for signature material.
//
// Tools that are not installed make their tests skip, or fail where CI=true.
// `make test` installs them.
package e2e
