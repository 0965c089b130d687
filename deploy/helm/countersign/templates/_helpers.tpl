{{- define "countersign.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 50 | trimSuffix "-" -}}
{{- end -}}

{{- define "countersign.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- else if contains (include "countersign.name" .) .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "countersign.name" .) | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "countersign.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | quote }}
app.kubernetes.io/name: {{ include "countersign.name" . | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}

{{- define "countersign.selector" -}}
app.kubernetes.io/name: {{ include "countersign.name" . | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
app.kubernetes.io/component: gateway
{{- end -}}

{{- define "countersign.injectorSelector" -}}
app.kubernetes.io/name: {{ include "countersign.name" . | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
app.kubernetes.io/component: injector
{{- end -}}

{{- define "countersign.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{- define "countersign.serviceAccount" -}}
{{- if .Values.gateway.serviceAccount.create -}}
{{ .Values.gateway.serviceAccount.name | default (include "countersign.fullname" .) }}
{{- else -}}
{{ .Values.gateway.serviceAccount.name | default "default" }}
{{- end -}}
{{- end -}}

{{/* The Secrets of CA and sealing key: those given, or the one that the job makes. */}}
{{- define "countersign.caSecret" -}}
{{- if .Values.gateway.keys.generate -}}{{ include "countersign.fullname" . }}-keys{{- else -}}{{ .Values.gateway.ca.existingSecret }}{{- end -}}
{{- end -}}
{{- define "countersign.sealingSecret" -}}
{{- if .Values.gateway.keys.generate -}}{{ include "countersign.fullname" . }}-keys{{- else -}}{{ .Values.gateway.sealingKey.existingSecret }}{{- end -}}
{{- end -}}

{{- define "countersign.tlsSecret" -}}
{{- if .Values.gateway.tls.certManager.enabled -}}
{{ include "countersign.fullname" . }}-tls
{{- else -}}
{{ .Values.gateway.tls.existingSecret }}
{{- end -}}
{{- end -}}

{{/* Labels of a pod: the user's beside ours, which selectors go by. Of (list $ component labels). */}}
{{- define "countersign.podLabels" -}}
{{- $ours := include "countersign.labels" (index . 0) | fromYaml -}}
{{- merge (dict "app.kubernetes.io/component" (index . 1)) $ours (index . 2) | toYaml -}}
{{- end -}}

{{/* Labels of what other programs select by labels: the user's go first. Of (list $ labels). */}}
{{- define "countersign.foreignLabels" -}}
{{- merge (deepCopy (index . 1)) (include "countersign.labels" (index . 0) | fromYaml) | toYaml -}}
{{- end -}}

{{/* A quantity of Kubernetes, such as resources.limits.memory, in MiB; nothing where it has another form. */}}
{{- define "countersign.mebibytes" -}}
{{- $text := . | toString -}}
{{- $unit := get (dict "" 1 "k" 1000 "M" 1000000 "G" 1000000000 "Ki" 1024 "Mi" 1048576 "Gi" 1073741824) (regexFind "[A-Za-z]*$" $text) -}}
{{- if and $unit (regexMatch "^[0-9]+(\\.[0-9]+)?[A-Za-z]*$" $text) -}}
{{- divf (mulf (regexFind "^[0-9.]+" $text | float64) $unit) 1048576 | floor | int64 -}}
{{- end -}}
{{- end -}}

{{/* A duration of the configuration, such as 1m30s, in seconds. */}}
{{- define "countersign.seconds" -}}
{{- $sum := 0.0 -}}
{{- range regexFindAll "[0-9.]+(h|ms|m|s)" (toString .) -1 -}}
{{- $sum = addf $sum (mulf (regexFind "^[0-9.]+" . | float64) (get (dict "h" 3600.0 "m" 60.0 "s" 1.0 "ms" 0.001) (regexFind "[a-z]+$" .))) -}}
{{- end -}}
{{- $sum | ceil | int64 -}}
{{- end -}}

{{/* GOMEMLIMIT: what is above it are stacks and the kernel's buffers. */}}
{{- define "countersign.memoryLimit" -}}
{{- $mebibytes := include "countersign.mebibytes" (dig "limits" "memory" "" .Values.gateway.resources) -}}
{{- if .Values.gateway.memoryLimit -}}
{{ .Values.gateway.memoryLimit }}
{{- else if $mebibytes -}}
{{ max 1 (div (mul (int64 $mebibytes) 9) 10) }}MiB
{{- end -}}
{{- end -}}

{{/* What no container of ours needs. */}}
{{- define "countersign.securityContext" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
readOnlyRootFilesystem: true
allowPrivilegeEscalation: false
capabilities: {drop: [ALL]}
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{/* The configuration: what the user gives, and what the pod decides. */}}
{{- define "countersign.config" -}}
{{- $c := deepCopy .Values.gateway.config -}}
{{- $_ := set $c "listen" ":8800" -}}
{{- if not (hasKey $c "admin") -}}
{{- $_ := set $c "admin" (dict "listen" "127.0.0.1:8801") -}}
{{- end -}}
{{- $_ := set $c "metrics" (dict "listen" ":8802") -}}
{{- $_ := set $c "state_dir" "/var/lib/countersign/state" -}}
{{- $_ := set $c "ca" (dict "dir" "/etc/countersign/ca") -}}
{{- $keys := list -}}
{{- range .Values.gateway.sealingKey.keys -}}
{{- $keys = append $keys (printf "/etc/countersign/sealing/%s" .) -}}
{{- end -}}
{{- $_ := set $c "sealing_keys" $keys -}}
{{- if .Values.gateway.revocations.existingConfigMap -}}
{{- $_ := set $c "revocations" "/etc/countersign/revocations/revocations" -}}
{{- end -}}
{{- /* Bodies that must be held take half of the memory at most: else clients could have the kernel end the replica. */ -}}
{{- $half := include "countersign.mebibytes" (dig "limits" "memory" "" .Values.gateway.resources) -}}
{{- if and $half (not (dig "limits" "body_buffer_sum" "" $c)) -}}
{{- $half = div (int64 $half) 2 | max 1 -}}
{{- $limits := dict "body_buffer_sum" (printf "%dMiB" $half) -}}
{{- if lt $half 80 -}}
{{- $_ := set $limits "body_buffer" (printf "%dMiB" $half) -}}
{{- end -}}
{{- $_ := set $c "limits" (mergeOverwrite $limits ($c.limits | default dict)) -}}
{{- end -}}
{{- if include "countersign.tlsSecret" . -}}
{{- $_ := set $c "tls" (dict "cert_file" "/etc/countersign/tls/tls.crt" "key_file" "/etc/countersign/tls/tls.key") -}}
{{- end -}}
{{- toYaml $c -}}
{{- end -}}

{{/* Mistakes that would otherwise show as pods that do not start. */}}
{{- define "countersign.check" -}}
{{- if .Values.gateway.enabled -}}
{{- if .Values.gateway.keys.generate -}}
{{- if or .Values.gateway.ca.existingSecret .Values.gateway.sealingKey.existingSecret -}}
{{- fail "gateway.keys.generate creates the CA and the sealing key: leave gateway.ca.existingSecret and gateway.sealingKey.existingSecret empty, or turn it off" -}}
{{- end -}}
{{- if ne (join "," .Values.gateway.sealingKey.keys) "sealing.key" -}}
{{- fail "gateway.sealingKey.keys: gateway.keys.generate creates one key, sealing.key; leave the default" -}}
{{- end -}}
{{- else if not .Values.gateway.ca.existingSecret -}}
{{- fail "gateway.ca.existingSecret is not set: all replicas share one CA. To try the chart, set gateway.keys.generate=true; else make it with\n  countersign ca rotate && kubectl create secret generic countersign-ca --from-file=authority.pem=$HOME/.countersign/ca/authority.pem" -}}
{{- end -}}
{{- if not (or .Values.gateway.keys.generate .Values.gateway.sealingKey.existingSecret) -}}
{{- fail "gateway.sealingKey.existingSecret is not set: all replicas share one sealing key. Make it with\n  openssl rand -base64 32 > sealing.key && kubectl create secret generic countersign-sealing --from-file=sealing.key" -}}
{{- end -}}
{{- if not (or .Values.gateway.config.identities .Values.gateway.config.issuers) -}}
{{- fail "gateway.config has neither identities nor issuers, so nobody could use the gateway: add one" -}}
{{- end -}}
{{- if and .Values.gateway.tls.existingSecret .Values.gateway.tls.certManager.enabled -}}
{{- fail "gateway.tls.existingSecret and gateway.tls.certManager.enabled are both set; choose one" -}}
{{- end -}}
{{- if and .Values.gateway.tls.certManager.enabled (not .Values.gateway.tls.certManager.issuerRef) -}}
{{- fail "gateway.tls.certManager.issuerRef is not set" -}}
{{- end -}}
{{- if and .Values.gateway.autoscaling.enabled (gt (int .Values.gateway.autoscaling.minReplicas) (int .Values.gateway.autoscaling.maxReplicas)) -}}
{{- fail "gateway.autoscaling.minReplicas is above maxReplicas" -}}
{{- end -}}
{{- if and .Values.gateway.autoscaling.enabled (not (dig "requests" "cpu" "" .Values.gateway.resources)) -}}
{{- fail "gateway.autoscaling.enabled needs gateway.resources.requests.cpu, because the autoscaler compares usage with it; set it" -}}
{{- end -}}
{{- $drain := dig "limits" "drain_timeout" "30s" .Values.gateway.config -}}
{{- $need := add (int64 .Values.gateway.preStopSeconds) (include "countersign.seconds" $drain | int64) -}}
{{- if lt (int64 .Values.gateway.terminationGracePeriodSeconds) $need -}}
{{- fail (printf "gateway.terminationGracePeriodSeconds is less than gateway.preStopSeconds plus limits.drain_timeout (%v), so requests would be cut off; set it to %d or more" $drain (add $need 5)) -}}
{{- end -}}
{{- end -}}
{{- if and .Values.injector.enabled .Values.injector.tls.certManager.enabled (not .Values.injector.tls.certManager.issuerRef) -}}
{{- fail "injector.tls.certManager.issuerRef is not set" -}}
{{- end -}}
{{- end -}}
