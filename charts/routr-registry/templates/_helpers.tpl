{{/* A DNS label of at most `length` characters: release names may have dots, a parent chart's alias capitals and underscores. */}}
{{- define "routr-registry.dnsLabel" -}}
{{- regexReplaceAll "[^a-z0-9-]+" (lower .name) "-" | trimAll "-" | trunc .length | trimAll "-" }}
{{- end }}

{{/* The chart's name. */}}
{{- define "routr-registry.name" -}}
{{- $name := default .Chart.Name .Values.nameOverride }}
{{- default "routr-registry" (include "routr-registry.dnsLabel" (dict "name" $name "length" 63)) }}
{{- end }}

{{/* The name of the objects: 52 characters at most, so that a suffix fits. */}}
{{- define "routr-registry.fullname" -}}
{{- $name := include "routr-registry.name" . }}
{{- $full := printf "%s-%s" .Release.Name $name }}
{{- if .Values.fullnameOverride }}
{{- $full = .Values.fullnameOverride }}
{{- else if contains $name .Release.Name }}
{{- $full = .Release.Name }}
{{- end }}
{{- include "routr-registry.dnsLabel" (dict "name" $full "length" 52) }}
{{- end }}

{{/* The name of the Service, which must begin with a letter. */}}
{{- define "routr-registry.serviceName" -}}
{{- $full := include "routr-registry.fullname" . }}
{{- if regexMatch "^[0-9]" $full }}{{ $full = printf "r-%s" $full }}{{ end }}
{{- printf "%s-metrics" $full }}
{{- end }}

{{/* Objects of the cluster tell by their name which namespace they belong to. */}}
{{- define "routr-registry.clusterName" -}}
{{- printf "%s:%s" .Release.Namespace (include "routr-registry.fullname" .) }}
{{- end }}

{{- define "routr-registry.selectorLabels" -}}
app.kubernetes.io/name: {{ include "routr-registry.name" . | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end }}

{{- define "routr-registry.labels" -}}
helm.sh/chart: {{ printf "%s-%s" (.Chart.Name | trimAll "-_.") .Chart.Version | replace "+" "_" | trunc 63 | trimAll "-_." | quote }}
{{ include "routr-registry.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/component: operator
app.kubernetes.io/part-of: routr
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "routr-registry.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "routr-registry.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- define "routr-registry.image" -}}
{{- $image := .Values.image }}
{{- if $image.digest }}
{{- printf "%s@%s" $image.repository $image.digest }}
{{- else }}
{{- printf "%s:%s" $image.repository (default .Chart.AppVersion $image.tag) }}
{{- end }}
{{- end }}

{{/* What the operator may do in a namespace that it serves. The finalizer is a patch of the Registry itself; it owns no
     objects, so it needs nothing of registries/finalizers. */}}
{{- define "routr-registry.rules" -}}
- apiGroups: [routr.io]
  resources: [registries]
  verbs: [list, watch, patch]
- apiGroups: [routr.io]
  resources: [registries/status]
  verbs: [patch]
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create, patch]
{{- with .Values.rbac.secrets }}
{{- if .enabled }}
- apiGroups: [""]
  resources: [secrets]
  {{- with .names }}
  resourceNames: {{ toJson . }}
  {{- end }}
  verbs: [get]
{{- end }}
{{- end }}
{{- end }}

{{/* Whether the API server knows Registries at the time of rendering. */}}
{{- define "routr-registry.known" -}}
{{- if .Capabilities.APIVersions.Has "routr.io/v2beta1/Registry" }}yes{{ end }}
{{- end }}
