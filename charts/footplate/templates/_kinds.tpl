{{- /*
"true" where the API server does not serve that kind of ours yet, as on an empty cluster; call with
(dict "root" $ "kind" "ComputeProfile"). `helm template` asks no API server, of which each serves APIServices: it renders
plain objects.
*/ -}}
{{- define "footplate.toCome" -}}
{{- $served := .root.Capabilities.APIVersions -}}
{{- if and ($served.Has "apiregistration.k8s.io/v1") (not ($served.Has (printf "footplate.dev/v1alpha1/%s" .kind))) -}}
true
{{- end -}}
{{- end -}}

{{- /* By which one sees whether values say the same as when an object was made, whatever somebody edited of it. */ -}}
{{- define "footplate.digest" -}}
{{- toJson . | sha256sum | trunc 16 -}}
{{- end -}}

{{- /*
Takes an object away that Helm has in no manifest, as a hook made it: Helm deletes it, makes it and deletes it again.
Call with (dict "root" $ "kind" "ComputeProfile" "name" "a" "spec" (dict …) "when" "post-delete").
*/ -}}
{{- define "footplate.removal" }}
---
apiVersion: footplate.dev/v1alpha1
kind: {{ .kind }}
metadata:
  name: {{ .name }}
  labels: {{ include "footplate.labels" (dict "root" .root "component" "profiles") | nindent 4 }}
  annotations:
    helm.sh/hook: {{ .when }}
    helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded
spec: {{ toYaml .spec | nindent 2 }}
{{- end -}}
