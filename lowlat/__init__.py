"""Low-latency video semantic segmentation."""
