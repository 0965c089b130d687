package awsapi

// modelsSignedAs returns the models that use a signing name, sorted.
func modelsSignedAs(service string) []string { return nil }

// protocolsOf returns the protocols of a host's models.
func protocolsOf(h Host) []Protocol { return nil }
