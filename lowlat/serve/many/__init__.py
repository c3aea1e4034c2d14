"""`lowlat serve --ray`: the service with hubs on many devices. Ray Serve keeps the replicas, the ingress keeps the
videos."""
