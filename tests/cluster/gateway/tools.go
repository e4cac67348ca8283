//go:build tools

// Package tools pins the Gateway API data plane of the test cluster, and with it the version of the API that it serves.
package tools

import _ "github.com/projectcontour/contour/cmd/contour"
