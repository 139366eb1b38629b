// A container registry that keeps what is pushed in a folder, for tests and for installations without internet.
//
// It is CNCF Distribution's own, without the stores of cloud providers, which are most of what its command compiles.
package main

import (
	"os"

	"github.com/distribution/distribution/v3/registry"
	_ "github.com/distribution/distribution/v3/registry/auth/htpasswd"
	_ "github.com/distribution/distribution/v3/registry/storage/driver/filesystem"
)

func main() {
	if registry.RootCmd.Execute() != nil {
		os.Exit(1)
	}
}
