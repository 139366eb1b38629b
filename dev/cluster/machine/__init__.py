"""What a Linux machine offers: processes, control groups, mounts, locks, ports, Debian packages."""
