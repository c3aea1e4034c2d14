"""The GPU runtime, which `lowlat.runtime.gpu.engine.gpu_engine` puts together."""
