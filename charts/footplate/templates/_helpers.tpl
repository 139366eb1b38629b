{{- /* The release's name, with "footplate" in it once. */ -}}
{{- define "footplate.fullname" -}}
{{- if contains "footplate" .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-footplate" (.Release.Name | trunc 30 | trimSuffix "-") -}}
{{- end -}}
{{- end -}}

{{- /* A version as a label or a tag may say it: neither may have the "+" of a build, nor more than 63 characters. */ -}}
{{- define "footplate.plain" -}}
{{- . | replace "+" "_" | trunc 63 | trimAll "-_." -}}
{{- end -}}

{{- /* Labels of every object; call with (dict "root" $ "component" "api"). */ -}}
{{- define "footplate.labels" -}}
{{ include "footplate.selector" . }}
app.kubernetes.io/version: {{ include "footplate.plain" .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
app.kubernetes.io/part-of: footplate
helm.sh/chart: {{ include "footplate.plain" (printf "%s-%s" .root.Chart.Name .root.Chart.Version) | quote }}
{{- end -}}

{{- /* Labels that never change, by which a Deployment finds its pods. */ -}}
{{- define "footplate.selector" -}}
app.kubernetes.io/name: footplate
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{- /* By which Prometheus finds the metrics of a pod; call with (dict "port" "8080" "scheme" "http"). */ -}}
{{- define "footplate.scraped" -}}
prometheus.io/scrape: "true"
prometheus.io/scheme: {{ .scheme }}
prometheus.io/port: {{ .port | quote }}
prometheus.io/path: /metrics
{{- end -}}

{{- /* repository:tag, or repository@digest, of an image; call with (dict "root" $ "image" .Values.api.image). */ -}}
{{- define "footplate.image" -}}
{{- with .root.Values.global.imageRegistry }}{{ . }}/{{ end -}}
{{- .image.repository -}}
{{- if .image.digest -}}
@{{ .image.digest }}
{{- else if not (contains "@" .image.repository) -}}
:{{ .image.tag | default (include "footplate.plain" .root.Chart.AppVersion) }}
{{- end -}}
{{- end -}}

{{- /* What a Deployment's pod is given beside its containers; call with (dict "root" $ "values" .Values.api). */ -}}
{{- define "footplate.placement" -}}
{{- with .root.Values.imagePullSecrets }}
imagePullSecrets: {{ toYaml . | nindent 2 }}
{{- end }}
{{- with .values.nodeSelector }}
nodeSelector: {{ toYaml . | nindent 2 }}
{{- end }}
tolerations:
{{- with .values.tolerations }}
{{ toYaml . }}
{{- end }}
# Kubernetes' own default leaves a pod on a dead node for five minutes more.
- {key: node.kubernetes.io/not-ready, operator: Exists, effect: NoExecute, tolerationSeconds: 5}
- {key: node.kubernetes.io/unreachable, operator: Exists, effect: NoExecute, tolerationSeconds: 5}
{{- with .values.affinity }}
affinity: {{ toYaml . | nindent 2 }}
{{- end }}
{{- with .values.priorityClassName }}
priorityClassName: {{ . | quote }}
{{- end }}
{{- end -}}

{{- /* "true" where OpenShift is, which gives each namespace a range of ids and refuses others. */ -}}
{{- define "footplate.onOpenShift" -}}
{{- .Capabilities.APIVersions.Has "security.openshift.io/v1" | ternary "true" "" -}}
{{- end -}}

{{- /* The restricted Pod Security standard, pod level. */ -}}
{{- define "footplate.podSecurityContext" -}}
runAsNonRoot: true
{{- if not (include "footplate.onOpenShift" .) }}
runAsUser: 1000
runAsGroup: 1000
fsGroup: 1000
{{- end }}
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- /* The restricted Pod Security standard, container level. */ -}}
{{- define "footplate.securityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}

{{- /* Both programs answer on the same two paths, and from their first moment on /healthz; call with (dict "port" "https" "scheme" "HTTPS"). */ -}}
{{- define "footplate.probes" -}}
startupProbe:
  httpGet: {path: /healthz, port: {{ .port }}, scheme: {{ .scheme }}}
  periodSeconds: 1
  failureThreshold: 60
livenessProbe:
  httpGet: {path: /healthz, port: {{ .port }}, scheme: {{ .scheme }}}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
readinessProbe:
  httpGet: {path: /readyz, port: {{ .port }}, scheme: {{ .scheme }}}
  periodSeconds: 2
  timeoutSeconds: 5
{{- end -}}

{{- /* The Secret with a certificate that somebody else makes; empty where the operator does. */ -}}
{{- define "footplate.givenSecret" -}}
{{- if .Values.api.tls.certManager.enabled -}}
{{ include "footplate.fullname" . }}-api-certificate
{{- else -}}
{{ .Values.api.tls.existingSecret }}
{{- end -}}
{{- end -}}

{{- /* The Secret that the API serves with. */ -}}
{{- define "footplate.servingSecret" -}}
{{- include "footplate.givenSecret" . | default (printf "%s-api-tls" (include "footplate.fullname" .)) -}}
{{- end -}}

{{- /* The host that the API's certificate is checked for. */ -}}
{{- define "footplate.apiHost" -}}
{{ include "footplate.fullname" . }}-api.{{ .Release.Namespace }}.svc
{{- end -}}

{{- define "footplate.usesSqlite" -}}
{{- if not (or .Values.api.database.url .Values.api.database.existingSecret.name) -}}true{{- end -}}
{{- end -}}
