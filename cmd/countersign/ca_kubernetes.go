package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/countersign-proxy/countersign/ca"
	"github.com/countersign-proxy/countersign/config"
	"github.com/countersign-proxy/countersign/identity"
	"github.com/countersign-proxy/countersign/safefile"
)

const (
	// accountDir is where Kubernetes mounts a pod's service account.
	// https://kubernetes.io/docs/tasks/run-application/access-api-from-pod/
	accountDir = "/var/run/secrets/kubernetes.io/serviceaccount"

	authorityKey  = "authority.pem" // in the Secret, as ca.Open looks for it
	sealingKeyKey = "sealing.key"
	bundleKey     = "bundle.pem" // in the ConfigMap

	maxKubernetesBody = 4 << 20 // bytes of an answer; objects have at most 1 MiB and some
	kubernetesTimeout = 30 * time.Second
)

func newCAKubernetes(a *app) *cobra.Command {
	var k kubernetesKeys
	c := &cobra.Command{
		Use:   "kubernetes --secret NAME --configmap NAME",
		Short: "Make the keys that replicas share, in the cluster that this runs in",
		Long: "Put a CA and a sealing key into a Secret of the cluster that this runs in, unless the Secret\n" +
			"exists, and what clients have to trust into a ConfigMap. Existing keys are never changed.\n" +
			"The service account must be allowed to create secrets, to get the one of that name, and to\n" +
			"create and patch the ConfigMap.",
		Example: "  countersign ca kubernetes --secret gateway-keys --configmap gateway-trust",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if k.secret == "" || k.configMap == "" {
				return usagef("--secret and --configmap name the objects to make")
			}
			cfg, err := a.load()
			if err != nil {
				return err
			}
			return a.kubernetesKeys(c.Context(), cfg, k)
		},
	}
	c.Flags().StringVar(&k.secret, "secret", "", "`name` of the Secret")
	c.Flags().StringVar(&k.configMap, "configmap", "", "`name` of the ConfigMap")
	c.Flags().StringVar(&k.account, "service-account", accountDir, "`folder` with token, namespace and ca.crt of the service account")
	return c
}

type kubernetesKeys struct{ secret, configMap, account string }

func (a *app) kubernetesKeys(ctx context.Context, cfg *config.Config, names kubernetesKeys) error {
	cluster, err := inCluster(a.getenv, names.account)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "countersign-keys-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)

	kept, err := cluster.secret(ctx, names.secret)
	if err != nil {
		return err
	}
	made := false
	if kept == nil {
		if kept, err = freshKeys(cfg, dir); err != nil {
			return err
		}
		if made, err = cluster.createSecret(ctx, names.secret, kept); err != nil {
			return err
		}
		if !made { // somebody else did, in between
			if kept, err = cluster.secret(ctx, names.secret); err != nil {
				return err
			}
		}
	}
	for _, name := range []string{authorityKey, sealingKeyKey} {
		if len(kept[name]) == 0 {
			return fmt.Errorf("the secret %s/%s holds no %s; give the chart another name, or add it", cluster.namespace, names.secret, name)
		}
	}
	shown := filepath.Join(dir, "shown")
	if err := errors.Join(os.Mkdir(shown, 0o700), os.WriteFile(filepath.Join(shown, authorityKey), kept[authorityKey], 0o600)); err != nil {
		return err
	}
	authority, err := ca.Load(shown, authorityOptions(cfg))
	if err != nil {
		return err
	}
	bundle, err := authority.Trust(ca.TrustOptions{Getenv: func(string) string { return "" }})
	if err != nil {
		return err
	}
	if err := cluster.applyConfigMap(ctx, names.configMap, map[string]string{bundleKey: string(bundle.PEM())}); err != nil {
		return err
	}
	what := "Found the keys"
	if made {
		what = "Made the keys"
	}
	fmt.Fprintf(a.stdout, "%s in the secret %s/%s. Clients trust what is in the configmap %s/%s.\n", what, cluster.namespace, names.secret, cluster.namespace, names.configMap)
	return nil
}

// freshKeys makes a CA and a sealing key, as files have them.
func freshKeys(cfg *config.Config, dir string) (map[string][]byte, error) {
	fresh := filepath.Join(dir, "fresh")
	if _, err := ca.Open(fresh, authorityOptions(cfg)); err != nil {
		return nil, err
	}
	if _, err := identity.LoadOrCreateSealingKey(filepath.Join(dir, sealingKeyKey), rand.Reader); err != nil {
		return nil, err
	}
	authority, err := os.ReadFile(filepath.Join(fresh, authorityKey))
	if err != nil {
		return nil, err
	}
	sealing, err := os.ReadFile(filepath.Join(dir, sealingKeyKey))
	if err != nil {
		return nil, err
	}
	return map[string][]byte{authorityKey: authority, sealingKeyKey: sealing}, nil
}

// A kubernetesAPI is the API server of the cluster that this runs in, as far as
// one namespace goes.
type kubernetesAPI struct {
	base, token, namespace string
	client                 *http.Client
}

// inCluster finds the API server as Kubernetes tells pods where it is.
func inCluster(getenv func(string) string, account string) (*kubernetesAPI, error) {
	host, port := getenv("KUBERNETES_SERVICE_HOST"), getenv("KUBERNETES_SERVICE_PORT")
	if host == "" || port == "" {
		return nil, errors.New("KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are not set; this command is for a pod of the cluster")
	}
	roots, err := readRoots(filepath.Join(account, "ca.crt"))
	if err != nil {
		return nil, fmt.Errorf("the cluster's CA: %w", err)
	}
	token, err := safefile.ReadToken(filepath.Join(account, "token"))
	if err != nil {
		return nil, fmt.Errorf("the service account's token: %w", err)
	}
	namespace, err := safefile.ReadToken(filepath.Join(account, "namespace"))
	if err != nil {
		return nil, fmt.Errorf("the service account's namespace: %w", err)
	}
	return &kubernetesAPI{
		base: "https://" + net.JoinHostPort(host, port), token: token, namespace: namespace,
		// No proxy: the token is for the API server alone.
		client: &http.Client{
			Timeout: kubernetesTimeout,
			Transport: &http.Transport{
				TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}, DisableKeepAlives: true,
			},
			// Nor are the keys, which a redirect would have sent on.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}, nil
}

// secret returns what a Secret holds; nil: there is none.
func (k *kubernetesAPI) secret(ctx context.Context, name string) (map[string][]byte, error) {
	var o struct{ Data map[string][]byte }
	status, err := k.call(ctx, http.MethodGet, "secrets/"+url.PathEscape(name), nil, &o)
	if status == http.StatusNotFound {
		return nil, nil
	}
	if err == nil && o.Data == nil {
		o.Data = map[string][]byte{}
	}
	return o.Data, err
}

// createSecret says false if there is one of that name already.
func (k *kubernetesAPI) createSecret(ctx context.Context, name string, data map[string][]byte) (bool, error) {
	status, err := k.call(ctx, http.MethodPost, "secrets", map[string]any{
		"apiVersion": "v1", "kind": "Secret", "type": "Opaque", "metadata": map[string]any{"name": name}, "data": data,
	}, nil)
	if status == http.StatusConflict {
		return false, nil
	}
	return err == nil, err
}

func (k *kubernetesAPI) applyConfigMap(ctx context.Context, name string, data map[string]string) error {
	_, err := k.call(ctx, http.MethodPatch, "configmaps/"+url.PathEscape(name)+"?fieldManager=countersign&force=true", map[string]any{
		"apiVersion": "v1", "kind": "ConfigMap", "metadata": map[string]any{"name": name}, "data": data,
	}, nil)
	return err
}

// call asks the API server about an object of the namespace. Its errors hold
// what the API server says, which is nothing of the objects' data.
func (k *kubernetesAPI) call(ctx context.Context, method, path string, body, into any) (int, error) {
	text, err := json.Marshal(body)
	if err != nil {
		return 0, err
	}
	request, err := http.NewRequestWithContext(ctx, method, k.base+"/api/v1/namespaces/"+url.PathEscape(k.namespace)+"/"+path, bytes.NewReader(text))
	if err != nil {
		return 0, err
	}
	request.Header.Set("Authorization", "Bearer "+k.token)
	request.Header.Set("Accept", "application/json")
	request.Header.Set("Content-Type", "application/json")
	if method == http.MethodPatch {
		request.Header.Set("Content-Type", "application/apply-patch+yaml") // of which JSON is a part
	}
	response, err := k.client.Do(request)
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(response.Body, maxKubernetesBody))
	if err != nil {
		return 0, err
	}
	if response.StatusCode/100 != 2 {
		var status struct{ Message string }
		_ = json.Unmarshal(answer, &status) // without a message the number has to do
		return response.StatusCode, fmt.Errorf("kubernetes: %s %s: %s: %s", method, path, response.Status, status.Message)
	}
	if into == nil {
		return response.StatusCode, nil
	}
	return response.StatusCode, json.Unmarshal(answer, into)
}
