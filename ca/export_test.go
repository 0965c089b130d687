package ca

// RootsOf is SystemRoots with other places to look in.
var RootsOf = rootsOf
