"""Freed memory stays with the process, where the C library is glibc."""

import os
import platform
import subprocess
import sys

import pytest

# Page faults while blocks of 32 MB are filled and freed.
SCRIPT = """
import resource, sys
from hf_forget.allocator import keep_freed_memory
taken = keep_freed_memory() if sys.argv[1] == "keep" else None
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    b"x" * (32 << 20)
print(taken, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(word: str, **environment: str) -> tuple[str, int]:
    kept = {name: value for name, value in os.environ.items() if name != "GLIBC_TUNABLES" and "MALLOC_" not in name}
    command = [sys.executable, "-c", SCRIPT, word]
    taken, count = subprocess.run(
        command, check=True, capture_output=True, text=True, env={**kept, **environment}
    ).stdout.split()
    return taken, int(count)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library has no such settings")
def test_freed_blocks_are_used_again() -> None:
    taken, kept = faults("keep")
    assert taken == "True"
    assert kept < 0.2 * faults("leave")[1]


def test_settings_of_the_user_are_left_alone() -> None:
    assert faults("keep", MALLOC_TRIM_THRESHOLD_="131072")[0] == "False"
