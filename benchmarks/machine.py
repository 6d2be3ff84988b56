"""What a figure of speed was measured on: it holds for one kind of processor. `python benchmarks/machine.py` names this one."""

import os
import pathlib
import platform

_CPUINFO = pathlib.Path("/proc/cpuinfo")


def processor():
    """Its name, and whether it has AVX-512, as TensorFlow's and PyTorch's kernels go by that."""
    told = dict(line.split(":", 1) for line in _lines() if ":" in line)
    told = {name.strip(): value.strip() for name, value in told.items()}
    flags = told.get("flags", "").split()
    widest = "AVX-512" if "avx512f" in flags else "AVX2" if "avx2" in flags else ""
    return ", ".join(filter(None, [told.get("model name") or platform.processor() or platform.machine(), widest]))


def _lines():
    return _CPUINFO.read_text().splitlines() if _CPUINFO.exists() else []


if __name__ == "__main__":
    print(f"{processor()}, {os.cpu_count()} cores")
