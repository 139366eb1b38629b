"""Pictures of dashboards as their JSON says, from the answers of a Prometheus, without Grafana."""
