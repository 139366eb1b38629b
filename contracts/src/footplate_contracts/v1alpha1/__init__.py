"""The resources of footplate.dev/v1alpha1, one file per kind or per part of one."""
