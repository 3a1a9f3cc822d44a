"""Benchmarks, by asv: one module per public area. ``setup`` calls the kernel once, so that it is compiled there."""
