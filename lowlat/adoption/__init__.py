"""Networks made elsewhere, made low-latency: each is cut in two and given a fast track that fits. `lowlat.adopt` does
it."""
