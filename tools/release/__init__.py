"""A release: one version, and the folder that an installation without internet is made from."""
