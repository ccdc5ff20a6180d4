{{/* Annotations of a hook: of hook and weight. What fails stays, for its log. */}}
{{- define "conjur-operator.hookAnnotations" -}}
helm.sh/hook: {{ .hook }}
helm.sh/hook-weight: {{ .weight | quote }}
helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded
# Since Helm 4 what it says is shown where it fails.
helm.sh/hook-output-log-policy: hook-failed
{{- end }}

{{- define "conjur-operator.hookName" -}}
{{- printf "%s-%s" (include "conjur-operator.fullname" .root | trunc 47 | trimSuffix "-") .name }}
{{- end }}

{{/* Without roles of the chart's the hooks use the operator's ServiceAccount, to which someone else grants what they need. */}}
{{- define "conjur-operator.hookAccount" -}}
{{- if .root.Values.rbac.create }}
{{- include "conjur-operator.hookName" . }}
{{- else }}
{{- include "conjur-operator.serviceAccountName" .root }}
{{- end }}
{{- end }}

{{/* A hook's own ServiceAccount and rights: of root, name, hook, and rules where it works and in the cluster (texts). */}}
{{- define "conjur-operator.hookAccess" -}}
{{- $root := .root }}
{{- $account := include "conjur-operator.hookName" . }}
{{- $annotations := include "conjur-operator.hookAnnotations" (dict "hook" .hook "weight" "-10") | fromYaml }}
{{- $clusterRules := .clusterRules }}
{{- if $root.Values.rbac.create }}
---
apiVersion: v1
kind: ServiceAccount
metadata:
  {{- include "conjur-operator.metadata" (dict "root" $root "name" $account "namespace" (include "conjur-operator.namespace" $root) "annotations" $annotations "labels" (dict "app.kubernetes.io/component" "hook")) | nindent 2 }}
automountServiceAccountToken: false
{{- $name := printf "%s:%s" (include "conjur-operator.namespace" $root) $account }}
{{- if and $root.Values.watchNamespaces (not .everywhere) }}
{{- range $root.Values.watchNamespaces }}
{{- include "conjur-operator.role" (dict "root" $root "name" $name "namespace" . "rules" $.rules "account" $account "annotations" $annotations) }}
{{- end }}
{{- else }}
{{- $clusterRules = list .rules .clusterRules | compact | join "\n" }}
{{- end }}
{{- with $clusterRules }}
{{- include "conjur-operator.role" (dict "root" $root "name" $name "rules" . "account" $account "annotations" $annotations) }}
{{- end }}
{{- end }}
{{- end }}

{{/* The Pod of a hook, with its metadata: of root, name and args; where there are any, its env and the ConfigMap to mount. */}}
{{- define "conjur-operator.hookPod" -}}
{{- $values := .root.Values -}}
metadata:
  labels:
    {{- merge (include "conjur-operator.labels" .root | fromYaml) (dict "app.kubernetes.io/component" "hook") | toYaml | nindent 4 }}
  {{- with merge (dict) (.annotations | default dict) $values.hooks.podAnnotations $values.commonAnnotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  restartPolicy: Never
  serviceAccountName: {{ include "conjur-operator.hookAccount" . | quote }}
  automountServiceAccountToken: true
  {{- include "conjur-operator.podPlace" .root | trim | nindent 2 }}
  containers:
    - name: {{ .name }}
      image: {{ include "conjur-operator.image" .root | quote }}
      imagePullPolicy: {{ $values.image.pullPolicy }}
      args:
        {{- toYaml .args | nindent 8 }}
      # What it says last stands in the Pod's status, too.
      terminationMessagePolicy: FallbackToLogsOnError
      securityContext:
        {{- include "conjur-operator.securityContext" .root | nindent 8 }}
      {{- with $values.hooks.resources }}
      resources:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- if .configMap }}
      volumeMounts:
        - name: connections
          mountPath: /etc/conjur-operator
          readOnly: true
  volumes:
    - name: connections
      configMap:
        name: {{ .configMap | quote }}
      {{- end }}
{{- end }}

{{- define "conjur-operator.scopeArgs" -}}
{{- range .Values.watchNamespaces }}
- --namespace={{ . }}
{{- end }}
{{- if not .Values.clusterConnections.enabled }}
- --cluster-connections=false
{{- end }}
{{- end }}
