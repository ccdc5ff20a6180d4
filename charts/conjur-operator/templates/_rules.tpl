{{/* What the operator needs where it works: in the cluster, or in each namespace of watchNamespaces. */}}
{{- define "conjur-operator.workRules" -}}
- apiGroups: [conjur-operator.io]
  resources: [conjurconnections, conjursecrets, conjurpolicies, conjurpushes, conjurhosts]
  verbs: [get, list, watch]
- apiGroups: [conjur-operator.io]
  resources:
    - conjurconnections/status
    - conjursecrets/status
    - conjurpolicies/status
    - conjurpushes/status
    - conjurhosts/status
  verbs: [patch]
# The finalizer of those with deletionPolicy: Delete.
- apiGroups: [conjur-operator.io]
  resources: [conjurpolicies, conjurpushes, conjurhosts]
  verbs: [patch]
# For owner references that block their owner's deletion (OwnerReferencesPermissionEnforcement).
- apiGroups: [conjur-operator.io]
  resources: [conjursecrets/finalizers, conjurpolicies/finalizers]
  verbs: [update]
# Those that it writes, and those that connections and templates refer to; patch is for creationPolicy: Merge.
- apiGroups: [""]
  resources: [secrets]
  verbs: [get, list, watch, create, update, patch, delete]
{{- if .Values.rolloutRestart.enabled }}
# Restarts by an annotation on the pod template, for rolloutRestart.
- apiGroups: [apps]
  resources: [deployments, statefulsets, daemonsets]
  verbs: [patch]
{{- end }}
# CA bundles, templates and policies.
- apiGroups: [""]
  resources: [configmaps]
  verbs: [get, list, watch]
{{- with .Values.rbac.tokenRequest }}
{{- if and .enabled (or .serviceAccountNames .allServiceAccounts) }}
# Their metadata, to go on when one comes that a connection waits for.
- apiGroups: [""]
  resources: [serviceaccounts]
  verbs: [list, watch]
# Tokens of ServiceAccounts, for connections that log in with them (auth.jwt).
- apiGroups: [""]
  resources: [serviceaccounts/token]
  {{- if not .allServiceAccounts }}
  resourceNames:
    {{- toYaml .serviceAccountNames | nindent 4 }}
  {{- end }}
  verbs: [create]
{{- end }}
{{- end }}
{{ include "conjur-operator.eventRules" . }}
{{- end }}

{{- define "conjur-operator.eventRules" -}}
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create, patch]
{{- end }}

{{/* What it needs of the cluster for ClusterConjurConnections. */}}
{{- define "conjur-operator.clusterRules" -}}
- apiGroups: [conjur-operator.io]
  resources: [clusterconjurconnections]
  verbs: [get, list, watch]
- apiGroups: [conjur-operator.io]
  resources: [clusterconjurconnections/status]
  verbs: [patch]
# Their labels, for the access rules of ClusterConjurConnections.
- apiGroups: [""]
  resources: [namespaces]
  verbs: [list, watch]
{{- end }}

{{/* The uid of kube-system tells this cluster from others in Conjur; where all Namespaces are read, this one is. */}}
{{- define "conjur-operator.clusterUidRules" -}}
- apiGroups: [""]
  resources: [namespaces]
  resourceNames: [kube-system]
  verbs: [get]
{{- end }}

{{/* A namespace that is deleted takes the Role in it along, and finalizers there are still to be taken away. */}}
{{- define "conjur-operator.finalizerRules" -}}
- apiGroups: [conjur-operator.io]
  resources: [conjurpolicies, conjurpushes, conjurhosts]
  verbs: [get, patch]
{{- end }}

{{/* Where the API server is, for no ConjurConnection may lead there. */}}
{{- define "conjur-operator.apiServerRules" -}}
- apiGroups: [discovery.k8s.io]
  resources: [endpointslices]
  resourceNames: [kubernetes]
  verbs: [get]
{{- end }}

{{/* A role and its binding: of root, name, rules (text), and where there are any namespace, account and its annotations. */}}
{{- define "conjur-operator.role" -}}
{{- $metadata := include "conjur-operator.metadata" (dict "root" .root "name" .name "namespace" .namespace "annotations" .annotations) }}
{{- $prefix := ternary "" "Cluster" (not (empty .namespace)) }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: {{ $prefix }}Role
metadata:
  {{- $metadata | nindent 2 }}
rules:
  {{- .rules | trim | nindent 2 }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: {{ $prefix }}RoleBinding
metadata:
  {{- $metadata | nindent 2 }}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: {{ $prefix }}Role
  name: {{ .name | quote }}
subjects:
  - kind: ServiceAccount
    name: {{ .account | default (include "conjur-operator.serviceAccountName" .root) | quote }}
    namespace: {{ include "conjur-operator.namespace" .root | quote }}
{{- end }}
