{{- define "conjur-operator.name" -}}
{{- .Values.nameOverride | default .Chart.Name | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "conjur-operator.fullname" -}}
{{- $name := include "conjur-operator.name" . -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" }}
{{- else if contains $name .Release.Name }}
{{- .Release.Name | trunc 63 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name $name | trunc 63 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "conjur-operator.namespace" -}}
{{- .Values.namespaceOverride | default .Release.Namespace }}
{{- end }}

{{/* The name of what is in no namespace. With watchNamespaces there may be one release of the same name in each of several. */}}
{{- define "conjur-operator.clusterName" -}}
{{- if .Values.watchNamespaces }}
{{- printf "%s:%s" (include "conjur-operator.namespace" .) (include "conjur-operator.fullname" .) }}
{{- else }}
{{- include "conjur-operator.fullname" . }}
{{- end }}
{{- end }}

{{- define "conjur-operator.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- .Values.serviceAccount.name | default (include "conjur-operator.fullname" .) }}
{{- else }}
{{- .Values.serviceAccount.name | default "default" }}
{{- end }}
{{- end }}

{{- define "conjur-operator.leaseName" -}}
{{- .Values.leaderElection.leaseName | default (include "conjur-operator.fullname" .) }}
{{- end }}

{{/* What decides which replica acts, sorted, by the chart's values and its extraArgs; as in a Deployment's arguments. */}}
{{- define "conjur-operator.electionArgs" -}}
{{- $args := list }}
{{- range . }}
{{- if regexMatch "^--(leader-elect|lease-name|lease-namespace)(=|$)" . }}
{{- $args = append $args . }}
{{- end }}
{{- end }}
{{- $args | sortAlpha | join " " }}
{{- end }}

{{/* Not empty where the Deployment that is there elects its leader by another Lease, or by none: its Pods and the new ones would
all act. Without a cluster to look into (helm template) it is empty. */}}
{{- define "conjur-operator.otherElection" -}}
{{- $there := lookup "apps/v1" "Deployment" (include "conjur-operator.namespace" .) (include "conjur-operator.fullname" .) }}
{{- $args := .Values.extraArgs }}
{{- if .Values.leaderElection.enabled }}
{{- $args = append $args "--leader-elect" }}
{{- $args = append $args (printf "--lease-name=%s" (include "conjur-operator.leaseName" .)) }}
{{- with .Values.leaderElection.leaseNamespace }}
{{- $args = append $args (printf "--lease-namespace=%s" .) }}
{{- end }}
{{- end }}
{{- range dig "spec" "template" "spec" "containers" list $there }}
{{- if eq .name "operator" }}
{{- if ne (include "conjur-operator.electionArgs" (.args | default list)) (include "conjur-operator.electionArgs" $args) }}true{{ end }}
{{- end }}
{{- end }}
{{- end }}

{{- define "conjur-operator.selectorLabels" -}}
app.kubernetes.io/name: {{ include "conjur-operator.name" . | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end }}

{{- define "conjur-operator.labels" -}}
{{- $own := dict
  "app.kubernetes.io/name" (include "conjur-operator.name" .)
  "app.kubernetes.io/instance" .Release.Name
  "app.kubernetes.io/version" .Chart.AppVersion
  "app.kubernetes.io/managed-by" .Release.Service
  "helm.sh/chart" (printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-") }}
{{- merge $own .Values.commonLabels | toYaml }}
{{- end }}

{{/* The metadata of an object: of root, name, and where there are any namespace, labels and annotations. */}}
{{- define "conjur-operator.metadata" -}}
name: {{ .name | quote }}
{{- with .namespace }}
namespace: {{ . | quote }}
{{- end }}
labels:
  {{- merge (include "conjur-operator.labels" .root | fromYaml) (.labels | default dict) | toYaml | nindent 2 }}
{{- with merge (dict) (.annotations | default dict) .root.Values.commonAnnotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "conjur-operator.image" -}}
{{- $registry := .Values.global.imageRegistry | default .Values.image.registry | trimSuffix "/" }}
{{- $name := ternary (printf "%s/%s" $registry .Values.image.repository) .Values.image.repository (ne $registry "") }}
{{- if .Values.image.digest }}
{{- printf "%s@%s" $name .Values.image.digest }}
{{- else }}
{{- printf "%s:%s" $name (.Values.image.tag | default .Chart.AppVersion) }}
{{- end }}
{{- end }}

{{/* With global.imagePullSecrets, which other charts write as names as well. */}}
{{- define "conjur-operator.imagePullSecrets" -}}
{{- $all := .Values.imagePullSecrets }}
{{- range .Values.global.imagePullSecrets }}
{{- $all = append $all (ternary (dict "name" .) . (kindIs "string" .)) }}
{{- end }}
{{- with $all | uniq }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "conjur-operator.adapts" -}}
{{- $adapt := .Values.securityContext.adapt | default "auto" }}
{{- if or (eq $adapt "always") (and (eq $adapt "auto") (.Capabilities.APIVersions.Has "security.openshift.io/v1")) }}true{{ end }}
{{- end }}

{{- define "conjur-operator.podSecurityContext" -}}
{{- $context := .Values.podSecurityContext }}
{{- if include "conjur-operator.adapts" . }}
{{- $context = omit $context "runAsUser" "runAsGroup" "fsGroup" }}
{{- end }}
{{- toYaml $context }}
{{- end }}

{{- define "conjur-operator.securityContext" -}}
{{- $context := omit .Values.securityContext "adapt" }}
{{- if include "conjur-operator.adapts" . }}
{{- $context = omit $context "runAsUser" "runAsGroup" }}
{{- end }}
{{- toYaml $context }}
{{- end }}

{{/* What the operator's Pod and those of the hooks have in common. */}}
{{- define "conjur-operator.podPlace" -}}
{{- include "conjur-operator.imagePullSecrets" . }}
securityContext:
  {{- include "conjur-operator.podSecurityContext" . | nindent 2 }}
enableServiceLinks: {{ .Values.enableServiceLinks }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . | quote }}
{{- end }}
{{- with .Values.runtimeClassName }}
runtimeClassName: {{ . | quote }}
{{- end }}
{{- with .Values.schedulerName }}
schedulerName: {{ . | quote }}
{{- end }}
{{- if not (kindIs "invalid" .Values.hostUsers) }}
hostUsers: {{ .Values.hostUsers }}
{{- end }}
{{- with .Values.nodeSelector | default .Values.global.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations | default .Values.global.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.hostAliases }}
hostAliases:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- if .Values.hostNetwork }}
hostNetwork: true
dnsPolicy: {{ .Values.dnsPolicy | default "ClusterFirstWithHostNet" }}
{{- else if .Values.dnsPolicy }}
dnsPolicy: {{ .Values.dnsPolicy }}
{{- end }}
{{- with .Values.dnsConfig }}
dnsConfig:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* The proxy's variables. The API server is never asked by a proxy. */}}
{{- define "conjur-operator.proxyEnv" -}}
{{- with .Values.proxy.httpsProxy }}
- name: HTTPS_PROXY
  value: {{ . | quote }}
{{- end }}
{{- with .Values.proxy.httpProxy }}
- name: HTTP_PROXY
  value: {{ . | quote }}
{{- end }}
{{- if or .Values.proxy.httpsProxy .Values.proxy.httpProxy .Values.proxy.noProxy }}
- name: NO_PROXY
  value: {{ prepend (compact (list .Values.proxy.noProxy ".svc,.cluster.local")) "$(KUBERNETES_SERVICE_HOST)" | join "," | quote }}
{{- end }}
{{- end }}

{{- define "conjur-operator.monitored" -}}
{{/* Whether an object of the Prometheus Operator is made: of root, value (its path), of, kind and its renderMode. */}}
{{- if .of.enabled }}
{{- $there := .root.Capabilities.APIVersions.Has (printf "monitoring.coreos.com/v1/%s" .kind) }}
{{- if and (eq .of.renderMode "failIfMissing") (not $there) }}
{{- fail (printf "metrics.%s.renderMode is failIfMissing, and the cluster has no kind %s of monitoring.coreos.com/v1. Install the Prometheus Operator's CRDs first, or set renderMode to skipIfMissing." .value .kind) }}
{{- end }}
{{- if or $there (eq .of.renderMode "alwaysRender") }}true{{ end }}
{{- end }}
{{- end }}

{{/* Whose the connections are that this release has applied: a label's value, at most 63 characters. */}}
{{- define "conjur-operator.owner" -}}
{{- $owner := printf "%s.%s" (include "conjur-operator.namespace" .) .Release.Name }}
{{- if gt (len $owner) 63 }}
{{- printf "%s-%s" ($owner | trunc 54 | trimAll "-.") (sha256sum $owner | trunc 8) }}
{{- else }}
{{- $owner }}
{{- end }}
{{- end }}
