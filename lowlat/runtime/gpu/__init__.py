"""The engine of a video on the streams of a GPU: `lowlat.runtime.gpu.engine.gpu_engine`."""
