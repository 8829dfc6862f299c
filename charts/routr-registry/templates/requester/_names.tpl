{{/* The name of the Requester's objects: 61 characters at most, so that the prefix of a Service fits. */}}
{{- define "routr-registry.requester.fullname" -}}
{{- printf "%s-requester" (include "routr-registry.dnsLabel" (dict "name" (include "routr-registry.fullname" .) "length" 51)) }}
{{- end }}

{{/* The name of its Service, which must begin with a letter. */}}
{{- define "routr-registry.requester.serviceName" -}}
{{- $full := include "routr-registry.requester.fullname" . }}
{{- if regexMatch "^[0-9]" $full }}{{ $full = printf "r-%s" $full }}{{ end }}
{{- $full }}
{{- end }}

{{/* Another name than that of the operator's pods: no selector of one finds the other. */}}
{{- define "routr-registry.requester.selectorLabels" -}}
app.kubernetes.io/name: {{ printf "%s-requester" (include "routr-registry.dnsLabel" (dict "name" (include "routr-registry.name" .) "length" 53)) | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end }}

{{- define "routr-registry.requester.labels" -}}
{{- $own := include "routr-registry.requester.selectorLabels" . | fromYaml }}
{{- $own = set $own "app.kubernetes.io/component" "requester" }}
{{- toYaml (merge $own (include "routr-registry.labels" . | fromYaml)) }}
{{- end }}

{{/* The address that a Registry names. */}}
{{- define "routr-registry.requester.address" -}}
{{- $requester := .Values.requester }}
{{- $at := printf "%s.%s.svc:%d" (include "routr-registry.requester.serviceName" .) .Release.Namespace (int64 $requester.port) }}
{{- if $requester.tls.secretName }}{{ printf "https://%s" $at }}{{ else }}{{ $at }}{{ end }}
{{- end }}

{{/* Whether a caller has to log in. */}}
{{- define "routr-registry.requester.login" -}}
{{- if or .Values.requester.token.secretName .Values.requester.tls.clientCA.secretName }}yes{{ end }}
{{- end }}
