{{- /* Over which nodes or zones replicas are spread; call with (dict "root" $ "component" "api"). */ -}}
{{- define "footplate.spread" -}}
{{- with (index .root.Values .component).topologySpreadConstraints }}
topologySpreadConstraints:
{{- range . }}
{{- $own := deepCopy . }}
{{- if not (hasKey $own "labelSelector") }}
{{- $_ := set $own "labelSelector" (dict "matchLabels" (include "footplate.selector" $ | fromYaml)) }}
{{- end }}
{{ list $own | toYaml }}
{{- end }}
{{- end }}
{{- end -}}

{{- /* Of one replica a budget would keep every node from being drained. */ -}}
{{- define "footplate.disruptionBudget" -}}
{{- $values := index .root.Values .component -}}
{{- if and $values.podDisruptionBudget.enabled (gt (int $values.replicaCount) 1) -}}
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: {{ include "footplate.fullname" .root }}-{{ .component }}
  namespace: {{ .root.Release.Namespace }}
  labels: {{ include "footplate.labels" . | nindent 4 }}
spec:
  maxUnavailable: {{ $values.podDisruptionBudget.maxUnavailable }}
  selector:
    matchLabels: {{ include "footplate.selector" . | nindent 6 }}
{{- end -}}
{{- end -}}
