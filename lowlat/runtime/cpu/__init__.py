"""The engine of a video on the CPU: `lowlat.runtime.cpu.engine.cpu_engine`."""
