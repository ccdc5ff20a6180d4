{{/* What the schema can't say, or could only say with a pattern: each in a sentence. */}}

{{/* Milliseconds of a duration like 45s, 1m30s or 500ms; of value and path. */}}
{{- define "conjur-operator.milliseconds" -}}
{{- if not (regexMatch "^([0-9]+(ms|s|m|h))+$" (toString .value)) }}
{{- fail (printf "%s is %v, which is no duration. Write it as 45s, 1m30s or 500ms." .path .value) }}
{{- end }}
{{- $sum := 0 }}
{{- range regexFindAll "[0-9]+(ms|s|m|h)" (toString .value) -1 }}
{{- $number := regexFind "^[0-9]+" . | int }}
{{- $unit := regexFind "[a-z]+$" . }}
{{- $sum = add $sum (mul $number (get (dict "ms" 1 "s" 1000 "m" 60000 "h" 3600000) $unit)) }}
{{- end }}
{{- $sum }}
{{- end }}

{{- define "conjur-operator.validate" -}}
{{- $values := .Values }}
{{- $election := $values.leaderElection }}
{{- if and (gt (int $values.replicaCount) 1) (not $election.enabled) }}
{{- fail "replicaCount is more than 1 and leaderElection.enabled is false: two operators would work against each other. Set leaderElection.enabled, or replicaCount to 1." }}
{{- end }}
{{- if and (not $election.enabled) (eq (dig "type" "" $values.strategy) "RollingUpdate") }}
{{- fail "strategy.type is RollingUpdate and leaderElection.enabled is false: an upgrade would run two operators at once. Set leaderElection.enabled, or strategy.type to Recreate." }}
{{- end }}
{{- if and $values.strategy (ne (dig "type" "" $values.strategy) "Recreate") (include "conjur-operator.otherElection" .) }}
{{- fail "strategy is set, and leaderElection.enabled, leaseName or leaseNamespace change: the upgrade would run two operators at once. Leave strategy empty for this upgrade, or set strategy.type to Recreate." }}
{{- end }}
{{- $lease := include "conjur-operator.milliseconds" (dict "path" "leaderElection.leaseDuration" "value" $election.leaseDuration) | int }}
{{- $renew := include "conjur-operator.milliseconds" (dict "path" "leaderElection.renewDeadline" "value" $election.renewDeadline) | int }}
{{- $retry := include "conjur-operator.milliseconds" (dict "path" "leaderElection.retryPeriod" "value" $election.retryPeriod) | int }}
{{- if or (lt $lease 1000) (gt $lease 60000) }}
{{- fail (printf "leaderElection.leaseDuration is %s. Set it to between 1s and 1m." $election.leaseDuration) }}
{{- end }}
{{- if ne (mod $lease 1000) 0 }}
{{- fail (printf "leaderElection.leaseDuration is %s, and a Lease counts whole seconds." $election.leaseDuration) }}
{{- end }}
{{- if not (and (gt $lease $renew) (ge $renew (mul 2 $retry | int)) (gt $retry 0)) }}
{{- fail (printf "leaderElection: leaseDuration (%s) must be longer than renewDeadline (%s), and that at least twice retryPeriod (%s)." $election.leaseDuration $election.renewDeadline $election.retryPeriod) }}
{{- end }}
{{- if and (not $values.clusterConnections.enabled) (not $values.watchNamespaces) }}
{{- fail "clusterConnections.enabled is false, which goes with watchNamespaces only. Name the namespaces there, or leave ClusterConjurConnections on." }}
{{- end }}
{{- $grace := include "conjur-operator.milliseconds" (dict "path" "shutdown.loadGrace" "value" $values.shutdown.loadGrace) | int }}
{{- if gt $grace 900000 }}
{{- fail (printf "shutdown.loadGrace is %s. Set it to at most 15m." $values.shutdown.loadGrace) }}
{{- end }}
{{- if lt (mul (int $values.terminationGracePeriodSeconds) 1000 | int) (add $grace 30000 | int) }}
{{- fail (printf "terminationGracePeriodSeconds is %d, and shutdown.loadGrace %s: the operator would be killed before it has released its Lease. Set terminationGracePeriodSeconds to at least 30 s more." (int $values.terminationGracePeriodSeconds) $values.shutdown.loadGrace) }}
{{- end }}
{{- $budget := $values.podDisruptionBudget }}
{{- if and $budget.enabled (ne (toString $budget.minAvailable) "") (ne (toString $budget.maxUnavailable) "") }}
{{- fail "podDisruptionBudget: minAvailable and maxUnavailable exclude each other. Set one of them." }}
{{- end }}
{{- if eq (int $values.ports.metrics) (int $values.ports.health) }}
{{- fail (printf "ports.metrics and ports.health are both %d. Set two different ports." (int $values.ports.metrics)) }}
{{- end }}
{{- $metrics := $values.metrics }}
{{- if and $metrics.serviceMonitor.enabled (not $metrics.service.enabled) }}
{{- fail "metrics.serviceMonitor.enabled needs the Service that metrics.service.enabled makes. Set metrics.service.enabled, or use metrics.podMonitor." }}
{{- end }}
{{- if and $metrics.serviceMonitor.enabled $metrics.podMonitor.enabled }}
{{- fail "metrics.serviceMonitor.enabled and metrics.podMonitor.enabled would both have the same Pods scraped. Set one of them." }}
{{- end }}
{{- range $path, $of := dict "serviceMonitor" $metrics.serviceMonitor "podMonitor" $metrics.podMonitor }}
{{- $interval := include "conjur-operator.milliseconds" (dict "path" (printf "metrics.%s.interval" $path) "value" $of.interval) | int }}
{{- $timeout := include "conjur-operator.milliseconds" (dict "path" (printf "metrics.%s.scrapeTimeout" $path) "value" $of.scrapeTimeout) | int }}
{{- if gt $timeout $interval }}
{{- fail (printf "metrics.%s.scrapeTimeout (%s) is longer than its interval (%s). Prometheus would refuse it." $path $of.scrapeTimeout $of.interval) }}
{{- end }}
{{- end }}
{{- range $path, $proxy := dict "proxy.httpsProxy" $values.proxy.httpsProxy "proxy.httpProxy" $values.proxy.httpProxy }}
{{- if and $proxy (not (regexMatch "^https?://[^/]+/?$" $proxy)) }}
{{- fail (printf "%s is no address of a proxy. Write it as http://proxy.example:3128; credentials belong into a Secret and extraEnv." $path) }}
{{- end }}
{{- if and $proxy (contains "@" $proxy) }}
{{- fail (printf "%s holds credentials, which would stand in the Deployment. Set HTTPS_PROXY or HTTP_PROXY by extraEnv, from a Secret." $path) }}
{{- end }}
{{- end }}
{{- $seen := dict }}
{{- range $values.connections }}
{{- $kind := .kind | default "ConjurConnection" }}
{{- $namespace := ternary "" (.namespace | default (include "conjur-operator.namespace" $)) (eq $kind "ClusterConjurConnection") }}
{{- if and (eq $kind "ClusterConjurConnection") .namespace }}
{{- fail (printf "connections: %s is a ClusterConjurConnection, which has no namespace. Remove its namespace." .name) }}
{{- end }}
{{- if and (eq $kind "ClusterConjurConnection") (not $values.clusterConnections.enabled) }}
{{- fail (printf "connections: %s is a ClusterConjurConnection, and clusterConnections.enabled is false. Set that, or make it a ConjurConnection." .name) }}
{{- end }}
{{- if and $namespace $values.watchNamespaces (not (has $namespace $values.watchNamespaces)) }}
{{- fail (printf "connections: %s is in the namespace %s, which is not in watchNamespaces. Add it there, or give the connection another namespace." .name $namespace) }}
{{- end }}
{{- $key := printf "%s %s/%s" $kind $namespace .name }}
{{- if hasKey $seen $key }}
{{- fail (printf "connections: %s stands there twice. Remove one of them." $key) }}
{{- end }}
{{- $_ := set $seen $key true }}
{{- end }}
{{- end }}
