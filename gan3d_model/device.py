"""Where a training computes, in which precision, and whether it keeps its memory."""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path

import torch

from gan3d_eval.run_dir import Gan3dError
from gan3d_model.config import TrainConfig

__all__ = ["advice", "fast_bfloat16", "keep_memory", "pick_device", "runs_ahead", "use_bfloat16"]


def pick_device(name: str = "auto") -> torch.device:
    """Name a device: `auto` is the GPU when there is one. Gan3dError for one that is unknown or not here."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise Gan3dError(f"unknown device {name!r}; expected auto, cpu, cuda or cuda:0, cuda:1 …") from None
    if device.type not in {"cpu", "cuda"}:
        raise Gan3dError(f"device {name} is of a kind that is not supported; expected auto, cpu, cuda or cuda:0, cuda:1 …")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        seen = torch.cuda.device_count() or "no"
        raise Gan3dError(f"device {name} asked for, but this PyTorch sees {seen} CUDA device; use --device auto, or cpu")
    return device


def runs_ahead(device: torch.device) -> bool:
    """Whether the device works off a queue, so that to look at a number is to wait: every GPU does."""
    return device.type != "cpu"


def use_bfloat16(config: TrainConfig, device: torch.device) -> bool:
    """Whether convolutions run in bfloat16: as configured, or (`auto`) on a device that is faster in it."""
    if config.precision != "auto":
        return config.precision == "bfloat16"
    return torch.cuda.is_bf16_supported(including_emulation=False) if device.type == "cuda" else fast_bfloat16()


def fast_bfloat16(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether this processor computes in bfloat16 faster than in float32 (`bench precision`); False where Linux does not say.

    AMX does, and AMD's AVX-512. Intel's AVX-512 without AMX has the instructions and gains nothing.
    """
    try:
        lines = dict(line.split(":", 1) for line in cpuinfo.read_text().splitlines() if ":" in line)
    except OSError:
        return False
    facts = {key.strip(): value.split() for key, value in lines.items()}
    flags = facts.get("flags", [])
    return "amx_bf16" in flags or ("avx512_bf16" in flags and facts.get("vendor_id") == ["AuthenticAMD"])


def keep_memory(keep: bool = True) -> None:
    """Let this process keep what it frees for its next step, if its C library is glibc; else all stays as it is.

    A step frees its feature maps and asks for the same again; given back to the system meanwhile, they come back page by
    page, each cleared, which takes a fifth of a float32 step. `keep` False sets what glibc comes to by itself.
    """
    if sys.platform == "linux" and (mallopt := getattr(ctypes.CDLL(None), "mallopt", None)):
        m_trim_threshold, m_mmap_threshold, m_mmap_max = -1, -3, -4  # <malloc.h>
        mallopt(m_mmap_max, 0 if keep else 65536)
        mallopt(m_mmap_threshold, 2**25)
        mallopt(m_trim_threshold, -1 if keep else 2**26)


def advice(device: torch.device) -> str:
    """What to change where other work keeps a CPU busy; empty if nothing.

    Threads wait for each other at the end of every layer. Beside as much other work as there are cores, a training with two
    threads on two cores takes three times as long as with one.
    """
    cores = os.cpu_count() or 1
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0  # not on Windows
    if device.type != "cpu" or torch.get_num_threads() == 1 or load < cores:
        return ""
    return f"other work keeps this machine busy (load {load:.1f} on {cores} cores): OMP_NUM_THREADS=1 may train faster"
