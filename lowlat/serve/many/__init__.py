"""`lowlat serve --ray`: the service over hubs on many devices. Ray Serve keeps the replicas, the ingress the videos."""
