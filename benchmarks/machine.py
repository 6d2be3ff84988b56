"""Name the processor, which every benchmark prints with its timings. Run `python benchmarks/machine.py` to see it."""

import os
import pathlib
import platform

_CPUINFO = pathlib.Path("/proc/cpuinfo")


def processor() -> str:
    """Return the processor's name and whether it has AVX-512 or AVX2, which TensorFlow's and PyTorch's kernels use."""
    lines = _CPUINFO.read_text().splitlines() if _CPUINFO.exists() else []
    fields = dict(line.split(":", 1) for line in lines if ":" in line)
    fields = {name.strip(): value.strip() for name, value in fields.items()}
    flags = fields.get("flags", "").split()
    vector_units = "AVX-512" if "avx512f" in flags else "AVX2" if "avx2" in flags else ""
    name = fields.get("model name") or platform.processor() or platform.machine()
    return ", ".join(filter(None, [name, vector_units]))


if __name__ == "__main__":
    print(f"{processor()}, {os.cpu_count()} cores")
