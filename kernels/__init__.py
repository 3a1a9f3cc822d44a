"""JIT kernels: arrays in, arrays out. Imported as ``riskcore.kernels`` and under no other name."""

if __name__ != "riskcore.kernels":
    raise ImportError("the kernels are imported as riskcore.kernels: another package owns the name 'kernels'")
