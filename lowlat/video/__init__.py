"""Video in and pictures out: sources, sinks, overlay, plot, trace. Knows no networks, no schedules."""
