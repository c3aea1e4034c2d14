"""The CPU runtime, which `lowlat.runtime.cpu.engine.cpu_engine` puts together."""
