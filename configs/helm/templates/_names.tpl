{{/* Says in one place what everything is called and found by. */}}
{{- define "ws-service.name" -}}{{ .Release.Name }}{{- end }}
{{- define "ws-service.selector" -}}
app.kubernetes.io/name: ws-service
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: node
{{- end }}
{{- define "ws-service.labels" -}}
app.kubernetes.io/name: ws-service
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
{{- end }}
{{- define "ws-service.image" -}}{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}{{- end }}
{{- define "ws-service.security" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: { drop: [ALL] }
{{- end }}
{{- define "ws-service.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
seccompProfile: { type: RuntimeDefault }
{{- end }}
{{- define "ws-service.mounts" -}}
- { name: configuration, mountPath: /etc/ws-service, readOnly: true }
- { name: secrets, mountPath: /run/secrets/ws-service, readOnly: true }
{{- end }}
{{/* 288 is 0440: the group may read, which fsGroup is. */}}
{{- define "ws-service.volumes" -}}
- name: configuration
  configMap: { name: {{ .configuration | default (include "ws-service.name" .) }} }
- name: secrets
  secret: { secretName: {{ .Values.secretName }}, defaultMode: 288 }
{{- end }}
