"""Where functions lie in libraries of GPU jobs, and what a rank is called."""

import ctypes
import mmap
import os
import shutil
import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collector.ebpf.elf import Elf, ElfError
from collector.ebpf.job_probes import COLLECTIVES, JOBS, OPERATIONS, PROBES, PROGRAMS, SHARED_BYTES
from collector.ebpf.loader_jobs import functions, past_landing
from collector.gpu_job_names import name_of
from collector.gpu_jobs import _JOB

LIBC = next(line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines() if "/libc.so" in line)
REAL = Path(LIBC).read_bytes()


def test_functions_of_a_real_library_are_where_the_linker_finds_them():
    names = ("getpid", "qsort", "sem_open", "no_such_function")
    found = Elf(REAL).functions(names)
    assert set(found) == {"getpid", "qsort", "sem_open"}
    libc = ctypes.CDLL(None)
    for name, offset in found.items():
        code = ctypes.string_at(ctypes.cast(getattr(libc, name), ctypes.c_void_p).value, 16)
        assert REAL[offset:offset + 16] == code, name


@pytest.mark.parametrize(("code", "skipped"), [
    ("f30f1efa55", 4), ("f30f1efa4157", 4), ("f30f1efa53", 4),  # endbr64, then push %rbp, %r15, %rbx
    ("f30f1efa4883ec08", 0), ("f30f1efa4889e5", 0), ("f30f1efa4158", 0), ("f30f1efa58", 0),  # sub, mov, two pops
    ("554889e5", 0), ("4157", 0), ("f30f1efa41", 0), ("f30f1efa", 0), ("f30f", 0), ("", 0),
])
def test_a_probe_is_put_where_the_kernel_need_not_step(code, skipped):
    assert past_landing(bytes.fromhex(code)) == skipped


@pytest.mark.skipif(shutil.which("gcc") is None or os.uname().machine != "x86_64", reason="needs gcc on x86-64")
def test_landing_pads_are_left_out(tmp_path):
    (tmp_path / "n.c").write_text("int g(int); int ncclAllReduce(int a) { return g(a) + g(2); }")
    offsets = []
    for pads in ("none", "full"):
        subprocess.run(["gcc", "-O1", "-fno-omit-frame-pointer", f"-fcf-protection={pads}", "-shared", "-fPIC", "n.c",
                        "-o", pads], cwd=tmp_path, check=True)
        data = (tmp_path / pads).read_bytes()
        offsets.append(functions(str(tmp_path / pads))["ncclAllReduce"] - Elf(data).functions(PROBES)["ncclAllReduce"])
    assert offsets == [0, 4]


@pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc")
@pytest.mark.parametrize("options", [("-shared", "-fPIC"), ("-shared", "-fPIC", "-Wl,--hash-style=sysv"), ("-static",)])
def test_functions_with_each_kind_of_table(tmp_path, options):
    (tmp_path / "x.c").write_text("int ncclAllReduce(int a) { return a + 1; }\nint main(void) { return 0; }\n")
    subprocess.run(["gcc", *options, "-o", "x", "x.c"], cwd=tmp_path, check=True)
    with (tmp_path / "x").open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as data:
        found = Elf(data).functions(PROBES)
    text = subprocess.run(["objdump", "-d", "-F", "--disassemble=ncclAllReduce", tmp_path / "x"], check=True,
                          capture_output=True, text=True).stdout
    assert list(found) == ["ncclAllReduce"]
    assert f"File Offset: {found['ncclAllReduce']:#x}" in text


SMALL = REAL[:4096]


@given(st.binary(max_size=300) | st.builds(lambda at, new: SMALL[:at] + new + SMALL[at + len(new):],
                                           st.integers(0, 4000), st.binary(min_size=1, max_size=64)))
def test_no_file_breaks_the_reader(data):
    try:
        found = Elf(data).functions(PROBES)
    except ElfError:
        return
    assert set(found) <= set(PROBES)


@settings(max_examples=40)
@given(st.lists(st.tuples(st.integers(0, 200), st.integers(0, 255)), min_size=1, max_size=20), st.integers(0, 3))
def test_damaged_tables_of_a_whole_library(damage, where):
    """Damage in the file header, and in the section headers at the end."""
    data = bytearray(REAL)
    (sections,) = struct.unpack_from("<Q", data, 40)
    for at, value in damage:
        data[(0, sections, 64, sections + 640)[where] + at] = value
    try:
        found = Elf(bytes(data)).functions(("getpid", "qsort"))
    except ElfError:
        return
    assert all(0 <= offset < 1 << 64 for offset in found.values())


def test_every_program_has_its_code():
    assert {name for name in PROGRAMS if name in OPERATIONS.values()} == set(COLLECTIVES.values())
    source = (Path(__file__).parents[1] / "collector/ebpf/gpu_jobs.bcc.c").read_text()
    for code, program in OPERATIONS.items():
        assert f"int {program}(u64 *ctx)\n{{\n\treturn arrive(ctx, {code}," in source
    assert _JOB.itemsize * JOBS + 64 == SHARED_BYTES


@pytest.mark.parametrize(("env", "job", "rank", "gpu"), [
    ({"RANK": "11", "LOCAL_RANK": "3", "MASTER_ADDR": "n1", "MASTER_PORT": "29500"}, "n1:29500", "11", 3),
    ({"RANK": "0", "TORCHELASTIC_RUN_ID": "exp", "CUDA_VISIBLE_DEVICES": "5"}, "exp", "0", 5),
    ({"RANK": "1", "LOCAL_RANK": "1", "TORCHELASTIC_RUN_ID": "none", "CUDA_VISIBLE_DEVICES": "4,6"},
     "train-50", "1", 6),
    ({"SLURM_JOB_ID": "77", "SLURM_PROCID": "9", "SLURM_LOCALID": "1", "SLURM_STEP_ID": "2"}, "slurm-77.2", "9", 1),
    ({"OMPI_COMM_WORLD_RANK": "2", "PMIX_NAMESPACE": "ns-1"}, "ns-1", "2", None),
    ({"CUDA_VISIBLE_DEVICES": "GPU-8c1f", "RANK": "-1"}, "train-50", "pid-7", None),
    ({"RANK": "007", "CUDA_VISIBLE_DEVICES": ""}, "train-50", "7", None),
    ({}, "train-50", "pid-7", None),
])
def test_names_of_ranks(env, job, rank, gpu):
    name = name_of({"pid": 7, "env": env, "group": 50, "comm": "train"})
    assert (name.job, name.rank) == (job, rank)
    assert name.gpu == gpu if gpu is not None else np.isnan(name.gpu)


@given(st.dictionaries(st.sampled_from(["RANK", "LOCAL_RANK", "CUDA_VISIBLE_DEVICES", "SLURM_JOB_ID", "MASTER_ADDR",
                                        "MASTER_PORT", "TORCHELASTIC_RUN_ID", "SLURM_STEP_ID"]), st.text(max_size=70)))
def test_no_environment_breaks_a_name(env):
    name = name_of({"pid": 7, "env": env})
    assert name.job
    assert name.rank
    assert len(name.job) <= 48
    assert name.job.isprintable()
