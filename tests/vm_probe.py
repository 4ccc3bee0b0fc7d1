"""Runs inside the virtual machine of test_vm.py, as a unit of its own: looks at the service, breaks things, tells."""

import contextlib
import ctypes
import json
import os
import re
import subprocess
import time
import traceback
import urllib.error
import urllib.request

PAGE = "http://127.0.0.1:9842/api/v1"
MPOL_BIND, SET_MEMPOLICY = 2, 238
PROPERTIES = "ActiveState,SubState,User,NRestarts,Type,Result"


def get(path):
    with urllib.request.urlopen(f"{PAGE}/{path}", timeout=60) as answer:
        return json.load(answer)


def wait(what, seconds):
    """The first true answer of what(); the last one when time is up."""
    until, found = time.monotonic() + seconds, None
    while time.monotonic() < until:
        with contextlib.suppress(urllib.error.URLError, OSError, KeyError, ValueError):
            found = what()
            if found:
                return found
        time.sleep(1)
    return found


def output(*command):
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


def unit(name):
    lines = output("systemctl", "show", name, "-p", PROPERTIES).splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line)


def capabilities(pid):
    with open(f"/proc/{pid}/status") as file:
        return {k: v.strip() for k, _, v in (line.partition(":") for line in file) if k in ("CapEff", "CapBnd", "Uid")}


def main_pid(name):
    return output("systemctl", "show", name, "-p", "MainPID", "--value").strip()


def remote_memory(mebibytes, seconds):
    """A child on the cores of node 0 whose pages must come from node 1; returns its pid."""
    pid = os.fork()
    if pid == 0:
        os.sched_setaffinity(0, {0, 1})
        mask = ctypes.c_ulong(1 << 1)
        if ctypes.CDLL(None, use_errno=True).syscall(SET_MEMPOLICY, MPOL_BIND, ctypes.byref(mask), 64):
            os._exit(1)
        until, block = time.monotonic() + seconds, b""
        while time.monotonic() < until:
            block = b"x" * (mebibytes << 20)
            time.sleep(0.2)
        os._exit(0 if block else 1)
    return pid


def report_of(alert):
    """The newest report of an incident in which this alert fired."""
    ours = {i["id"] for i in get("incidents")["incidents"] if alert in [a["name"] for a in i["alerts"]]}
    return next((r for r in get("reports")["reports"] if r["incident_id"] in ours), None)


def whole_report(alert, *words):
    """The newest report of an incident in which this alert fired, once it says all of this; None before."""
    head = report_of(alert)
    told = get(f"reports/{head['id']}") if head else None
    return told if told and all(word in json.dumps(told) for word in words) else None


def look():
    out = {"kernel": os.uname().release}
    out["ready"] = bool(wait(lambda: get("status")["ready"], 240))
    status = wait(lambda: (s := get("status")) and s["tier"] == "T1" and s, 400) or get("status")
    out["status"] = {k: status[k] for k in ("tier", "tier_reason", "series", "reasons")}
    out["collectors"] = {c["name"]: [c["state"], c["reason"]] for c in status["collectors"]}
    out["units"] = {name: unit(name) for name in ("etio", "etio-warden")}
    out["settled"] = wait(lambda: not get("status")["reasons"], 120)
    out["daemon"] = capabilities(main_pid("etio"))
    out["doctor"] = output("etio", "doctor", "--json")[-20000:]
    return out


def numa():
    child = remote_memory(300, 170)
    moved = wait(lambda: [v for v in now("numa_other_node_per_second") if v > 20], 35)
    far = wait(lambda: [v for v in now("numa_remote_memory_ratio") if v > 0.5], 120)
    used = {s: now(s) for s in ("numa_memory_free_bytes", "numa_hit_per_second", "numa_other_node_per_second")}
    os.kill(child, 9)
    os.waitpid(child, 0)
    return {"other_node": moved, "series": used, "remote_ratio": far}


def restarts():
    """How often systemd has started the crasher again, by its own word."""
    return int(unit("crasher").get("NRestarts", -1))


def crash():
    """A unit that systemd starts again and again, by a shell that nobody else counts; one that is killed."""
    output("systemd-run", "-q", "--unit", "crasher", "-p", "Restart=always", "-p", "RestartSec=500ms",
           "-p", "StartLimitIntervalSec=0", "sh", "-c", "exit 3")
    loop = wait(lambda: whole_report("CrashLoop", "crasher.service ended", "status 3"), 180)
    before, seen_before = restarts(), now("unit_restarts")
    counted = wait(lambda: [v for v in now("unit_restarts") if v >= before], 120) or seen_before
    after = restarts()
    output("systemctl", "stop", "crasher")
    output("systemd-run", "-q", "--unit", "broken", "sh", "-c", "sleep 6; kill -9 $$$$")  # systemd halves dollars
    failed = wait(lambda: whole_report("UnitFailed", "broken.service failed"), 150)
    time.sleep(31)  # what comes next is an incident of its own
    return {"loop": loop, "before": before, "counted": max(counted, default=-1), "after": after, "failed": failed}


def drives():
    """What the two NVMe drives say, before and after one of them was written to."""
    serial = {output("cat", f"/sys/class/nvme/nvme{i}/serial").strip(): f"nvme{i}" for i in (0, 1)}
    health = wait(lambda: len(now("nvme_wear_ratio")) == 2 and labelled("nvme_"), 200)
    report = wait(lambda: whole_report("NvmeFailing", "QEMU NVMe"), 150)
    with open(f"/dev/{serial['well']}n1", "wb", buffering=0) as disk:
        disk.write(bytes(16 << 20))
        os.fsync(disk.fileno())
    written = wait(lambda: [v for v in now("nvme_written_bytes_per_second") if v > 0], 150)
    return {"serial": serial, "health": health, "report": report, "written": written}


def labelled(start):
    """Newest values of the series of devices whose names begin so: {device: {name: value}}."""
    with urllib.request.urlopen("http://127.0.0.1:9842/metrics", timeout=60) as answer:
        lines = re.findall(rf'^etio_({start}\w+){{device="(\w+)"}} (\S+)', answer.read().decode(), re.M)
    found = {}
    for name, device, value in lines:
        found.setdefault(device, {})[name] = float(value)
    return found


def now(name):
    """Newest values of a series, one per set of labels, as Prometheus would get them."""
    with urllib.request.urlopen("http://127.0.0.1:9842/metrics", timeout=60) as answer:
        lines = answer.read().decode().splitlines()
    return [float(x.split()[1]) for x in lines if x.startswith((f"etio_{name}{{", f"etio_{name} "))]


def break_things():
    """A unit that runs into its memory limit, and one held back by its quota: cgroup v2, made by systemd."""
    output("systemd-run", "-q", "--unit", "greedy", "-p", "MemoryMax=96M", "-p", "MemorySwapMax=0",
           "stress-ng", "--vm", "1", "--vm-bytes", "400M", "--vm-keep", "-t", "60")
    oom = wait(lambda: report_of("OomKill"), 150)
    output("systemctl", "stop", "greedy")
    output("systemd-run", "-q", "--unit", "held", "-p", "CPUQuota=10%", "stress-ng", "--cpu", "1", "-t", "200")
    quota = wait(lambda: whole_report("CgroupCpuThrottled", "held.service"), 180)
    output("systemctl", "stop", "held")
    return {"oom": oom, "quota": quota, "alerts": get("alerts")}


def tell(out):
    print("<<<result" + json.dumps(out) + "result>>>", flush=True)


if __name__ == "__main__":
    result = {}
    try:
        result["look"] = look()
        result["drives"] = drives()
        result["numa"] = numa()
        result["units"] = crash()
        result["broken"] = break_things()
        result["units_after"] = {name: unit(name) for name in ("etio", "etio-warden")}
    except Exception:  # noqa: BLE001  # whatever it is, the test outside has to hear of it
        result["error"] = traceback.format_exc()
        result["journal"] = output("journalctl", "-n", "60", "--no-pager", "-u", "etio", "-u", "etio-warden")
    tell(result)
