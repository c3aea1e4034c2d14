"""Video in and pictures out: sources, sinks, overlay, plots, trace. It knows no networks and no schedules."""
