#!/usr/bin/env bash
# Prints argocd-cm.yaml, from the files of conjur-operator.io/: `make gitops` writes it.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

# indent SPACES FILE
indent() { sed -e "s/^/$(printf '%*s' "$1" '')/" -e 's/ *$//' "$2"; }

cat <<'END'
# Health and actions of all kinds of conjur-operator.io, for an Argo CD that does not have them built in:
#
#   kubectl patch configmap argocd-cm --namespace argocd --patch-file argocd-cm.yaml
#
# It is as good as a patch of a kustomization. Written by `make gitops`.
apiVersion: v1
kind: ConfigMap
metadata:
  name: argocd-cm
  namespace: argocd
data:
END
for folder in conjur-operator.io/*/; do
  kind=$(basename "$folder")
  echo "  resource.customizations.health.conjur-operator.io_$kind: |"
  indent 4 "$folder/health.lua"
  echo "  resource.customizations.actions.conjur-operator.io_$kind: |"
  echo "    discovery.lua: |"
  indent 6 "$folder/actions/discovery.lua"
  echo "    definitions:"
  for action in "$folder"/actions/*/action.lua; do
    echo "      - name: $(basename "$(dirname "$action")")"
    echo "        action.lua: |"
    indent 10 "$action"
  done
done
