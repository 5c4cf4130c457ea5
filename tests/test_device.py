"""Which device, in which precision; and memory that is kept."""

from __future__ import annotations

import dataclasses
import platform
import resource
import subprocess
import sys

import pytest
import torch

from gan3d_eval.files import Gan3dError
from gan3d_model.config import TrainConfig
from gan3d_model.device import advice, fast_bfloat16, pick_device, use_bfloat16
from gan3d_model.networks import Discriminator

CPU = torch.device("cpu")


@pytest.mark.parametrize(("name", "reason"), [
    ("mps", "expected auto, cpu, cuda"), ("meta", "expected auto, cpu, cuda"), ("bored", "unknown device"), ("cuda:99", "cuda:99"),
])  # fmt: skip
def test_a_device_that_is_not_here_is_refused_at_once(name, reason):
    with pytest.raises(Gan3dError, match=reason):
        pick_device(name)


@pytest.mark.parametrize(("vendor", "flags", "fast"), [
    ("AuthenticAMD", "avx2 avx512f avx512_bf16", True),
    ("GenuineIntel", "avx2 avx512f avx512_bf16", False),
    ("GenuineIntel", "avx512_bf16 amx_bf16 amx_tile", True),
    ("AuthenticAMD", "avx2", False),
])  # fmt: skip
def test_bfloat16_is_taken_where_the_processor_is_faster_in_it(tmp_path, monkeypatch, vendor, flags, fast):
    path = tmp_path / "cpuinfo"
    path.write_text("".join(f"processor\t: {i}\nvendor_id\t: {vendor}\nflags\t\t: fpu {flags} sse\n\n" for i in range(2)))
    assert fast_bfloat16(path) is fast
    monkeypatch.setattr("gan3d_model.device.fast_bfloat16", lambda: fast)
    config = TrainConfig()
    assert [use_bfloat16(dataclasses.replace(config, precision=p), CPU) for p in ("auto", "float32", "bfloat16")] == [
        fast,
        False,
        True,
    ]


def test_a_gpu_that_only_emulates_bfloat16_computes_in_float32(monkeypatch):
    """PyTorch's `is_bf16_supported` says yes of a V100 or T4, which emulate it."""
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation)
    assert not use_bfloat16(TrainConfig(), torch.device("cuda"))


def test_a_system_that_does_not_say_what_it_is_computes_in_float32(tmp_path):
    assert not fast_bfloat16(tmp_path / "none")
    (tmp_path / "cpuinfo").write_text("Processor : ARMv8\n")
    assert not fast_bfloat16(tmp_path / "cpuinfo")


def test_the_discriminator_answers_in_bfloat16_as_in_float32():
    torch.manual_seed(0)
    discriminator, grids = Discriminator(16, 8), (torch.rand(16, 16, 16, 16) < 0.3).float().requires_grad_()
    found = []
    for half in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            logits = discriminator(grids).float()
        found.append([logits, *torch.autograd.grad(logits.square().sum(), [grids, *discriminator.parameters()])])
    for exact, rounded in zip(*found, strict=True):
        assert torch.cosine_similarity(exact.flatten(), rounded.flatten(), dim=0) > 0.99


@pytest.mark.parametrize(("device", "threads", "load", "advised"), [
    ("cpu", 4, 5.2, True), ("cpu", 4, 3.9, False), ("cpu", 1, 5.2, False), ("cuda", 4, 5.2, False),
])  # fmt: skip
def test_one_thread_is_advised_where_others_keep_the_cores_busy(monkeypatch, device, threads, load, advised):
    monkeypatch.setattr("os.cpu_count", lambda: 4)
    monkeypatch.setattr("os.getloadavg", lambda: (load, 0.0, 0.0))
    monkeypatch.setattr("torch.get_num_threads", lambda: threads)
    assert ("load 5.2 on 4 cores): OMP_NUM_THREADS=1" in advice(torch.device(device))) is advised


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be told")
def test_what_a_step_frees_the_next_one_has_without_asking_the_system():
    script = """
import resource, sys, torch
from gan3d_model.device import keep_memory
keep_memory(sys.argv[1] == "keep")
def faults(): return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def step(): return [torch.ones(2**24) for _ in range(3)] and None  # 64 MiB each
for _ in range(5): before = faults(); step()
print(faults() - before)
"""
    faults = {}
    for how in ("keep", "give-back"):
        done = subprocess.run([sys.executable, "-c", script, how], capture_output=True, text=True, check=True)
        faults[how] = int(done.stdout)
    pages = 3 * 2**26 // resource.getpagesize()
    assert faults["keep"] < 0.1 * pages <= 0.9 * pages < faults["give-back"]
