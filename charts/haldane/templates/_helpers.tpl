{{/* One installation per cluster: the names are fixed, because people type them (kubectl create rolebinding …). */}}
{{- define "haldane.name" -}}haldane{{- end }}

{{- define "haldane.selector" -}}
app.kubernetes.io/name: haldane
app.kubernetes.io/component: controller
{{- end }}

{{- define "haldane.labels" -}}
app.kubernetes.io/name: haldane
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
{{- end }}

{{- define "haldane.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end }}

{{- define "haldane.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "haldane.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{/* Our own kinds, wherever we look: Releases and ProbeRuns are made and forgotten. */}}
{{- define "haldane.rules.own" -}}
- apiGroups: [haldane.dev]
  resources: [deliveries, deliverypolicies, releases, productionprobes, proberuns, holds, commands]
  verbs: [get, list, watch]
- apiGroups: [haldane.dev]
  resources: [deliveries]
  verbs: [patch]
- apiGroups: [haldane.dev]
  resources: [deliveries/status, deliverypolicies/status, releases/status, proberuns/status, commands/status]
  verbs: [patch]
- apiGroups: [haldane.dev]
  resources: [releases, proberuns]
  verbs: [create, delete]
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create, patch]
{{- end }}

{{/* What is read of the people's own. Never Secrets. */}}
{{- define "haldane.rules.read" -}}
- apiGroups: [apps]
  resources: [deployments, replicasets, controllerrevisions]
  verbs: [get, list, watch]
- apiGroups: [""]
  resources: [pods, services, persistentvolumeclaims]
  verbs: [get, list, watch]
- apiGroups: [discovery.k8s.io]
  resources: [endpointslices]
  verbs: [get, list, watch]
# Whether they treat a canary's pods like those that serve.
- apiGroups: [networking.k8s.io]
  resources: [networkpolicies]
  verbs: [list]
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: [list]
# What ran before a version.
- apiGroups: [batch]
  resources: [jobs]
  verbs: [get, list, watch]
- apiGroups: [gateway.networking.k8s.io]
  resources: [httproutes, grpcroutes]
  verbs: [get, list, watch]
# Whether those who serve a route are up.
- apiGroups: [gateway.networking.k8s.io]
  resources: [gateways]
  verbs: [get]
- apiGroups: [""]
  resources: [namespaces]
  verbs: [get]
{{- end }}

{{/* What is written where a namespace has opted in. */}}
{{- define "haldane.rules.delivery" -}}
# Gates and templates of the owner's Deployments; the canaries beside them.
- apiGroups: [apps]
  resources: [deployments]
  verbs: [get, create, patch, delete]
# Pins; the Services in front of canaries.
- apiGroups: [""]
  resources: [services]
  verbs: [get, create, patch, delete]
# The weights of routes.
- apiGroups: [gateway.networking.k8s.io]
  resources: [httproutes, grpcroutes]
  verbs: [get, patch]
# What runs before a version (rollout.before), and what takes its image when it goes live (cronJobs).
- apiGroups: [batch]
  resources: [cronjobs]
  verbs: [get, patch]
- apiGroups: [batch]
  resources: [jobs]
  verbs: [get, create, delete]
# Templates of Releases.
- apiGroups: [apps]
  resources: [controllerrevisions]
  verbs: [get, list, create, delete]
# Certificate authorities of ProductionProbes (caRef).
- apiGroups: [""]
  resources: [configmaps]
  verbs: [get]
# What canary and stable write to their logs (verify.logs).
- apiGroups: [""]
  resources: [pods/log]
  verbs: [get]
# Which Secrets the pods pull their images with. The Secrets themselves are given one by one, by the people of the namespace.
- apiGroups: [""]
  resources: [serviceaccounts]
  verbs: [get]
{{- end }}

{{/* Asked of the cluster itself: whether a namespace has opted in, and whether the definitions fit this version. */}}
{{- define "haldane.rules.cluster" -}}
- apiGroups: [authorization.k8s.io]
  resources: [selfsubjectaccessreviews]
  verbs: [create]
- apiGroups: [apiextensions.k8s.io]
  resources: [customresourcedefinitions]
  resourceNames:
  - commands.haldane.dev
  - deliveries.haldane.dev
  - deliverypolicies.haldane.dev
  - holds.haldane.dev
  - proberuns.haldane.dev
  - productionprobes.haldane.dev
  - releases.haldane.dev
  verbs: [get]
{{- end }}

{{/* Not empty: there is a door for webhooks. */}}
{{- define "haldane.hooks" -}}
{{- if or .Values.github.webhooks .Values.registries.hooksSecretName }}yes{{ end -}}
{{- end }}
