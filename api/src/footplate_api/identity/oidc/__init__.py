"""Authentication by tokens of an OpenID Connect issuer, by the rules of kube-apiserver's flags --oidc-*."""
