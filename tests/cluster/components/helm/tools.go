//go:build tools

// Package tools pins the helm that the tests install and upgrade charts with.
package tools

import _ "helm.sh/helm/v3/cmd/helm"
