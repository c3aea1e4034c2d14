"""Video in and pictures out: sources, sinks, overlay, plots, trace; labels with less flicker. It knows no networks and
no schedules."""
