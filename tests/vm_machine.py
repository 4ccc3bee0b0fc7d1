"""A whole Debian machine in QEMU: its own kernel, systemd as PID 1, cgroup v2, two NUMA nodes, etio as a service.

ETIO_VM_SUITE=trixie tries that release of Debian instead, with its kernel, Python, systemd and bcc. A base system of
another distribution that was made by hand is taken from the cache, under the name that base() looks for.

The base system (debootstrap) is kept between runs, keyed by what is in it; sources go in fresh with scripts/install,
as a user would install them. Software emulation: nothing here may be timed.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent
CACHE = Path(os.environ.get("ETIO_VM_CACHE", "/var/cache/etio-test-vm"))
SUITE = os.environ.get("ETIO_VM_SUITE", "bookworm")
PACKAGES = ("systemd", "systemd-sysv", "udev", "dbus", "linux-image-cloud-amd64",
            "python3-bpfcc", "python3-venv", "iproute2", "procps", "kmod", "stress-ng")
UNIT = """[Unit]
Description=what the test does inside
After=etio.service multi-user.target
[Service]
Type=oneshot
ExecStart=/opt/etio/venv/bin/python -u /opt/probe.py
StandardOutput=tty
TTYPath=/dev/ttyS1
StandardError=journal+console
ExecStopPost=/usr/bin/systemctl poweroff --force
[Install]
WantedBy=multi-user.target
"""
EMULATED = "[Service]\nCPUQuota=300%\nTimeoutStartSec=600\n"
"""An emulated core does a small part of the work of a real one: the quotas of the units would hold the daemon back."""
DRIVES = tuple(word for name, more in (("well", ""), ("failing", ",smart_critical_warning=4")) for word in (
    "-blockdev", f"null-co,node-name={name},size=67108864,read-zeroes=on",
    "-device", f"nvme,serial={name},drive={name}{more}"))
"""Two NVMe drives that keep nothing; one of them warns of itself (bit 2: not reliable)."""
SETTINGS = "[daemon]\ncpu_budget_percent = 400.0\nperiods = { nvme = 10.0, units = 5.0 }\n"
"""In the configuration: nothing is shed for being slow here, and the test does not wait for the next look."""
EMULATOR = "panic=-1 clearcpuid=cx16"
"""A panic ends the run. The kernel may not use cmpxchg16b, which QEMU 7.2 gets wrong: Linux 6.12 panics of it."""
BEGIN, END = "<<<result", "result>>>"


def run(*command: str | Path, **more: object) -> None:
    """Runs one command; its output is shown when it fails."""
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, check=False, **more)  # type: ignore[call-overload]
    if done.returncode:
        raise RuntimeError(f"{' '.join(map(str, command))}: {done.returncode}\n{(done.stdout + done.stderr)[-3000:]}")


def inside(root: Path, *command: str, **more: object) -> None:
    """Runs one command in the system that is being built, with a /proc of its own."""
    run("unshare", "--mount", "--pid", "--fork", f"--mount-proc={root}/proc", "chroot", root, *command, **more)


def mirror() -> str:
    """Where this host gets its Debian packages from; debootstrap's own default elsewhere."""
    for file in [Path("/etc/apt/sources.list"), *sorted(Path("/etc/apt/sources.list.d").glob("*"))]:
        text = file.read_text(errors="replace").splitlines() if file.is_file() else []
        for words in (line.split() for line in text):
            if len(words) > 2 and words[0] == "deb" and words[2].startswith(SUITE):
                return words[1]
            if len(words) > 1 and words[0] == "URIs:":
                return words[1]
    return ""


def base() -> Path:
    """Root folder of a bare Debian with what etio needs from the distribution."""
    key = hashlib.sha256(" ".join((SUITE, *PACKAGES)).encode()).hexdigest()[:12]
    done = CACHE / f"base-{key}"
    if not done.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        fresh = CACHE / "base.new"
        shutil.rmtree(fresh, ignore_errors=True)
        source = mirror()
        run("debootstrap", "--variant=minbase", f"--include={','.join(PACKAGES)}", SUITE, fresh,
            *([source] if source else []))
        shutil.rmtree(fresh / "var/cache/apt", ignore_errors=True)
        fresh.rename(done)
    return done


def wheels() -> Path:
    """The pinned packages as files for the Python of the base system: the machine has no network."""
    project = (HERE / "pyproject.toml").read_bytes()
    python = max((p.name.removeprefix("python") for p in (base() / "usr/lib").glob("python3.*")),
                 key=lambda version: int(version[2:]))
    key = hashlib.sha256((HERE / "constraints.txt").read_bytes() + project + python.encode())
    folder = CACHE / f"wheels-{key.hexdigest()[:12]}"
    if not folder.exists():
        fresh = CACHE / "wheels.new"
        shutil.rmtree(fresh, ignore_errors=True)
        run(sys.executable, "-m", "pip", "download", "-q", "-d", fresh, "-c", HERE / "constraints.txt",
            "--only-binary=:all:", "--python-version", python, "setuptools",
            *tomllib.loads(project.decode())["project"]["dependencies"])
        fresh.rename(folder)
    return folder


def image(work: Path, probe: Path) -> Path:
    """Installs the sources with scripts/install into a copy of the base system; returns a disk image."""
    root = work / "root"
    run("cp", "-a", "--reflink=auto", base(), root)
    shutil.copytree(HERE, root / "opt/source", ignore=shutil.ignore_patterns(".git", "__pycache__", ".venv", "golden"))
    shutil.copytree(wheels(), root / "opt/wheels")
    quiet = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "LC_ALL": "C.UTF-8", "PIP_NO_INDEX": "1",
             "PIP_FIND_LINKS": "/opt/wheels", "PIP_CONFIG_FILE": "/dev/null"}
    inside(root, "/opt/source/scripts/install", env=quiet)
    shutil.rmtree(root / "opt/source")
    shutil.rmtree(root / "opt/wheels")
    shutil.copy(probe, root / "opt/probe.py")
    (root / "etc/systemd/system/probe.service").write_text(UNIT)
    for unit in ("etio", "etio-warden"):
        drop = root / f"etc/systemd/system/{unit}.service.d/slow.conf"
        drop.parent.mkdir()
        drop.write_text(EMULATED)
    settings = root / "etc/etio/etio.toml"
    settings.write_text(settings.read_text().replace("[daemon]\n", SETTINGS, 1))
    (root / "etc/hostname").write_text("numa-two\n")
    (root / "etc/fstab").write_text("/dev/vda / ext4 rw 0 1\n")
    inside(root, "systemctl", "enable", "probe.service", env=quiet)
    disk = work / "disk.img"
    run("mke2fs", "-q", "-t", "ext4", "-d", root, disk, "3G")
    for name in ("vmlinuz", "initrd.img"):
        shutil.copy(next((root / "boot").glob(f"{name}-*")), work / name)
    shutil.rmtree(root)
    return disk


def boot(work: Path, seconds: float) -> dict[str, object]:
    """Boots the image, waits for it to power off; returns what the probe printed. Raises RuntimeError."""
    console, result = work / "console.log", work / "result.log"
    command = [
        "qemu-system-x86_64", "-accel", "tcg,thread=multi", "-cpu", "max", "-m", "3G", "-smp", "4", "-nodefaults",
        "-object", "memory-backend-ram,id=m0,size=1536M", "-object", "memory-backend-ram,id=m1,size=1536M",
        "-numa", "node,nodeid=0,cpus=0-1,memdev=m0", "-numa", "node,nodeid=1,cpus=2-3,memdev=m1",
        "-kernel", work / "vmlinuz", "-initrd", work / "initrd.img",
        "-append", f"root=/dev/vda rw console=ttyS0 systemd.show_status=0 loglevel=4 net.ifnames=0 {EMULATOR}",
        "-drive", f"file={work / 'disk.img'},format=raw,if=virtio,cache=unsafe",
        *DRIVES, "-display", "none", "-no-reboot", "-serial", f"file:{console}", "-serial", f"file:{result}",
    ]
    try:
        subprocess.run([str(c) for c in command], timeout=seconds, check=False, stdin=subprocess.DEVNULL)
    except subprocess.TimeoutExpired as late:
        said = f"{_tail(console)}\n{_tail(result)}"
        raise RuntimeError(f"the machine did not end within {seconds:.0f} s\n{said}") from late
    text = result.read_text(errors="replace")
    if BEGIN not in text or END not in text:
        raise RuntimeError(f"no result\n{_tail(console)}\n{_tail(result)}")
    return json.loads(text.partition(BEGIN)[2].partition(END)[0])  # type: ignore[no-any-return]


def _tail(path: Path) -> str:
    return path.read_text(errors="replace")[-3000:] if path.exists() else ""
