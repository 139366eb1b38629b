"""The ways to have a cluster, all with the same verbs: native, kind, existing."""
