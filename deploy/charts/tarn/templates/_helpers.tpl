{{- define "tarn.labels" -}}
app.kubernetes.io/name: tarn-csi
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "tarn.selector" -}}
app.kubernetes.io/name: tarn-csi
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "tarn.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{/* What both parts are told. */}}
{{- define "tarn.driverArgs" -}}
- --driver-name={{ .Values.driverName }}
- --bucket-prefix={{ .Values.store.bucketPrefix }}
{{- with .Values.store.endpoint }}
- --endpoint={{ . }}
{{- end }}
{{- with .Values.store.region }}
- --region={{ . }}
{{- end }}
{{- if .Values.store.credentialsSecret }}
- --credentials=/etc/tarn/credentials
{{- end }}
{{- if .Values.store.caConfigMap }}
- --ca-bundle=/etc/tarn/ca/ca.crt
{{- end }}
- --log-level={{ .Values.logLevel }}
{{- end }}

{{- define "tarn.storeMounts" -}}
{{- if .Values.store.credentialsSecret }}
- name: credentials
  mountPath: /etc/tarn/credentials
  readOnly: true
{{- end }}
{{- if .Values.store.caConfigMap }}
- name: ca
  mountPath: /etc/tarn/ca
  readOnly: true
{{- end }}
{{- end }}

{{- define "tarn.storeVolumes" -}}
{{- with .Values.store.credentialsSecret }}
- name: credentials
  secret:
    secretName: {{ . }}
    defaultMode: 0440
{{- end }}
{{- with .Values.store.caConfigMap }}
- name: ca
  configMap:
    name: {{ . }}
{{- end }}
{{- end }}
