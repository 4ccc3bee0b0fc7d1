"""What the host is, on this machine, on an empty root and from odd files."""

import math
import os
import platform
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.hostinfo import host_info, parse_boot_ns, parse_cpu_list, parse_memory, parse_os_release


def test_this_host():
    info = host_info(Path("/"), gpus=("NVIDIA L4",))
    assert info.name == platform.node()
    assert info.kernel == platform.release()
    assert info.cpus == os.sysconf("SC_NPROCESSORS_ONLN")
    assert info.memory_bytes == pytest.approx(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"), rel=0.01)
    assert 0 < info.boot_ns < time.time_ns()
    assert info.gpus == ("NVIDIA L4",)
    assert info.os


def test_nothing_to_read_is_unknown(tmp_path):
    info = host_info(tmp_path)
    assert (info.name, info.os, info.cpus, info.numa_nodes, info.boot_ns, info.virtual) == ("", "", 0, 0, 0, False)
    assert math.isnan(info.memory_bytes)


def write(root, path, text):
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(text)


@pytest.mark.parametrize(("path", "text", "virtual"), [
    ("proc/cpuinfo", "flags\t\t: fpu vme hypervisor lahf_lm\n", True),
    ("proc/cpuinfo", "flags\t\t: fpu vme lahf_lm\n", False),
    ("proc/cpuinfo", "model name\t: hypervisor\n", False),
    ("sys/hypervisor/type", "xen\n", True),
    ("sys/class/dmi/id/product_name", "Virtual Machine\n", True),
    ("sys/class/dmi/id/sys_vendor", "Dell Inc.\n", False),
])
def test_virtual_or_not(tmp_path, path, text, virtual):
    write(tmp_path, path, text)
    assert host_info(tmp_path).virtual is virtual


def test_cpus_from_stat_where_sysfs_is_hidden(tmp_path):
    write(tmp_path, "proc/stat", "cpu  1 2\ncpu0 1 2\ncpu1 1 2\nintr 5\nbtime 1700000000\n")
    info = host_info(tmp_path)
    assert (info.cpus, info.boot_ns) == (2, 1_700_000_000_000_000_000)


@pytest.mark.parametrize(("raw", "name"), [
    (b'NAME="Debian"\nPRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\n', "Debian GNU/Linux 12 (bookworm)"),
    (b"PRETTY_NAME='x'", "x"), (b"NAME=x", ""), (b"", ""),
])
def test_os_release(raw, name):
    assert parse_os_release(raw) == name


@pytest.mark.parametrize(("raw", "count"), [
    (b"0-1\n", 2), (b"0\n", 1), (b"0-3,8,10-11\n", 7), (b"", 0), (b"3-1", 0), (b"0-", 0), (b"x", 0),
])
def test_cpu_list(raw, count):
    assert parse_cpu_list(raw) == count


@given(st.binary(max_size=200))
def test_parsers_never_raise(data):
    parse_os_release(data)
    assert parse_cpu_list(data) >= 0
    assert parse_boot_ns(data) >= 0
    assert not parse_memory(data) < 0
