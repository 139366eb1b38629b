"""Programs that are compiled from Go modules once per content, and kubeadm's command line."""
