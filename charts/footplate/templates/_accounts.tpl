{{- /* The service account that operator or API really run as; call with (dict "root" $ "component" "api"). */ -}}
{{- define "footplate.account" -}}
{{- (index .root.Values .component).serviceAccount.name | default (printf "%s-%s" (include "footplate.fullname" .root) .component) -}}
{{- end -}}

{{- /* Its name as Kubernetes has it of a request: policies name it, and bindings the account. */ -}}
{{- define "footplate.user" -}}
system:serviceaccount:{{ .root.Release.Namespace }}:{{ include "footplate.account" . }}
{{- end -}}

{{- /* The subject of a binding. */ -}}
{{- define "footplate.subject" -}}
{kind: ServiceAccount, name: {{ include "footplate.account" . }}, namespace: {{ .root.Release.Namespace }}}
{{- end -}}

{{- /* The account, where this release makes it. */ -}}
{{- define "footplate.serviceAccount" -}}
{{- $values := (index .root.Values .component).serviceAccount -}}
{{- if $values.create -}}
apiVersion: v1
kind: ServiceAccount
metadata:
  name: {{ include "footplate.account" . }}
  namespace: {{ .root.Release.Namespace }}
  labels: {{ include "footplate.labels" . | nindent 4 }}
  {{- with $values.annotations }}
  annotations: {{ toYaml . | nindent 4 }}
  {{- end }}
{{- end -}}
{{- end -}}
