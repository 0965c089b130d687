// Package signer verifies AWS signatures and makes them anew.
package signer
