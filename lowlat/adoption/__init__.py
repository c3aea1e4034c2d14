"""Networks of anybody's made low-latency: cut in two, with a fast track made to fit. The door is `lowlat.adopt`."""
