//go:build tools

// What a test cluster's GitOps is made of, so that go.mod keeps it.
package tools

import (
	_ "github.com/fluxcd/kustomize-controller"
	_ "github.com/fluxcd/source-controller"
)
