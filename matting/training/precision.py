"""In which numbers a network learns and is shown its lessons: bfloat16 where it saves time."""

from __future__ import annotations

import torch

IN_HARDWARE = ("avx512_bf16", "amx_bf16", "bf16")  # the last is Arm's


def computes_bfloat16(device: torch.device) -> bool:
    """A processor that does not would imitate it, at ten times the time of float32 (AMD EPYC with
    AVX2, torch 2.13, 2026-11-30, by a script that was not kept: 20.5 and 1.9 s for a step of 8
    pictures at 192 x 320)."""
    if device.type != "cpu":
        return True
    can = torch.cpu.get_capabilities()
    return any(can.get(name, False) for name in IN_HARDWARE)


def mixed(device: torch.device) -> torch.autocast:
    """bfloat16 where `device` computes in it, float32 elsewhere."""
    return torch.autocast(device.type, torch.bfloat16, enabled=computes_bfloat16(device))
