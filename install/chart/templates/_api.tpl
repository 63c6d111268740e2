{{- /* Where the API server is, when its Service is no answer. */ -}}
{{- define "heddle.apiServer" -}}
{{- with .Values.apiServer }}
{{- $parts := regexFindAll "^\\[?([^\\]]*[^:\\]])\\]?:([0-9]+)$" . 1 }}
{{- if not $parts }}{{ fail (printf "apiServer %q must be HOST:PORT" .) }}{{ end }}
- name: KUBERNETES_SERVICE_HOST
  value: {{ regexReplaceAll "^\\[?([^\\]]*[^:\\]])\\]?:([0-9]+)$" . "${1}" | quote }}
- name: KUBERNETES_SERVICE_PORT
  value: {{ regexReplaceAll "^\\[?([^\\]]*[^:\\]])\\]?:([0-9]+)$" . "${2}" | quote }}
{{- end }}
{{- end }}
