{{/* The chart's name. */}}
{{- define "routr-registry.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/* What the objects are called: 52 characters at most, so that a suffix fits. */}}
{{- define "routr-registry.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 52 | trimSuffix "-" }}
{{- else }}
{{- $name := include "routr-registry.name" . }}
{{- if contains $name .Release.Name }}
{{- .Release.Name | trunc 52 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name $name | trunc 52 | trimSuffix "-" }}
{{- end }}
{{- end }}
{{- end }}

{{/* Objects of the cluster tell by their name which namespace they belong to. */}}
{{- define "routr-registry.clusterName" -}}
{{- printf "%s:%s" .Release.Namespace (include "routr-registry.fullname" .) }}
{{- end }}

{{- define "routr-registry.selectorLabels" -}}
app.kubernetes.io/name: {{ include "routr-registry.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "routr-registry.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
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
