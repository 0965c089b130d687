package awsapi

import (
	"slices"
	"strings"
)

// bedrockModel reads what a modelId names: a model by its id, an inference profile
// by its id, or any of them by its ARN (Amazon Bedrock API reference, InvokeModel,
// "modelId"). The tables cannot say it, since one member stands for all the types
// of resource that the action applies to. What no rule here reads stays open, as
// the tables have it.
func bedrockModel(rq *request, c *Call, m match, needs []Need) ([]Need, error) {
	id, ok := rq.labels["modelId"]
	if len(m.op.special) > 0 { // StartAsyncInvoke has it in the body
		values, st := rq.get(m.op.special[0])
		ok = st == present && len(values) == 1
		if ok {
			id = values[0]
		}
	}
	if !ok || len(needs) != 1 || !allIn(id, isModelID) {
		return needs, nil
	}
	action := needs[0].Action
	if strings.HasPrefix(id, "arn:") {
		f := strings.SplitN(id, ":", 6)
		if len(f) != 6 || f[1] != c.Host.Partition || f[2] != "bedrock" {
			return needs, nil
		}
		switch kind, name, _ := strings.Cut(f[5], "/"); {
		case name == "":
			return needs, nil
		case slices.Contains(bedrockModels, kind):
			return []Need{put(action, id, true)}, nil
		case slices.Contains(bedrockRoutes, kind):
			return []Need{c.bedrockRoute(action, id, name)}, nil
		}
		return needs, nil
	}
	first, name, ok := strings.Cut(id, ".")
	if !ok || first == "" || name == "" || strings.Contains(id, "/") || c.Region == "" || c.AccountID == "" {
		return needs, nil // the name of a provisioned throughput, or of something new
	}
	model := "arn:" + c.Host.Partition + ":bedrock:" + c.Region + "::foundation-model/" + id
	profile, _ := c.arnOf("bedrock", "inference-profile/"+id)
	switch {
	case slices.Contains(bedrockGeographies, first):
		return []Need{c.bedrockRoute(action, profile, id)}, nil
	case slices.Contains(bedrockProviders, first):
		return []Need{put(action, model, true)}, nil
	}
	// A provider or a geography that came later: it may be either.
	n := c.bedrockRoute(action, profile, id)
	n.Resources = append(n.Resources, model)
	return []Need{n}, nil
}

// bedrockRoute is the need for something that leads to models. AWS asks for leave to
// invoke those too, in whichever region answers: a policy that allows the profile is
// taken to mean them, but one that denies the model denies this way to it.
func (c *Call) bedrockRoute(action, arn, name string) Need {
	model := "*"
	n := Need{Action: action, Resources: []string{arn}}
	if geography, rest, ok := strings.Cut(name, "."); ok && slices.Contains(bedrockGeographies, geography) {
		model = rest
	}
	if strings.Contains(arn, "inference-profile/") {
		n.Conditions = map[string][]string{"bedrock:inferenceprofilearn": {arn}}
	}
	n.Patterns = []string{"arn:" + c.Host.Partition + ":bedrock:*::foundation-model/" + model}
	return n
}

// isModelID says whether a byte may stand in a modelId.
func isModelID(b byte) bool {
	return isLower(b) || isDigit(b) || 'A' <= b && b <= 'Z' || strings.IndexByte(".:/_-", b) >= 0
}

// bedrockModels are the types of ARNs that run as they are named, and bedrockRoutes
// those that choose among models.
var (
	bedrockModels = []string{"foundation-model", "provisioned-model", "imported-model", "custom-model-deployment"}
	bedrockRoutes = []string{"inference-profile", "application-inference-profile", "default-prompt-router", "prompt-router"}
)

// bedrockGeographies begin the ids of the inference profiles that AWS defines
// (Amazon Bedrock user guide, "Supported Regions and models for inference profiles").
var bedrockGeographies = []string{"us", "us-gov", "eu", "apac", "jp", "au", "ca", "global"}

// bedrockProviders begin the ids of foundation models (Amazon Bedrock user guide,
// "Supported foundation models").
var bedrockProviders = []string{"ai21", "amazon", "anthropic", "cohere", "deepseek", "google", "luma", "meta", "minimax", "mistral",
	"moonshot", "moonshotai", "nvidia", "openai", "qwen", "stability", "twelvelabs", "writer", "zai"}
