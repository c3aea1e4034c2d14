"""Video in and pictures out: sources, sinks, overlay, latency plot and trace. Knows no networks and no schedules."""
