"""GPUs that the driver holds and NVML does not list, and what becomes of their numbers."""

# ruff: noqa: F811 (fixtures of nvml_rig)

import math

from etio.core.frame import NS
from tests.nvml_rig import T0, UUID, host  # noqa: F401 (fixtures)


def information(root, minor, address, uuid, excluded="No"):
    """What the driver says of a GPU that it holds, and the device file of it."""
    folder = root / f"proc/driver/nvidia/gpus/{address}"
    folder.mkdir(parents=True)
    (folder / "information").write_text(
        f"Model: \t\t NVIDIA H100 80GB HBM3\nIRQ:   \t\t 210\nGPU UUID: \t {uuid}\nBus Type: \t PCIe\n"
        f"Bus Location: \t {address}\nDevice Minor: \t {minor}\nGPU Excluded:\t {excluded}\n")
    (root / "dev").mkdir(exist_ok=True)
    (root / f"dev/nvidia{minor}").touch()


def test_a_gpu_that_the_driver_holds_and_nvml_does_not_list_is_lost(host, tmp_path):
    for minor, bus in enumerate(("18", "2a", "3a")):
        information(tmp_path, minor, f"0000:{bus}:00.0", f"{UUID}{minor}")
    information(tmp_path, 3, "0000:5d:00.0", f"{UUID}3", excluded="Yes")
    information(tmp_path, 4, "0000:9a:00.0", f"{UUID}4")
    (tmp_path / "dev/nvidia4").unlink()  # of another container
    _, collector = host(count=2, root=tmp_path)
    (event,) = collector.collect(T0).events
    assert (event.kind, event.entity, event.get("pci")) == (
        "gpu_lost", f"gpu=0000:3a:00.0,uuid={UUID}2", "0000:3a:00.0")
    assert collector.collect(T0 + NS).events == ()


def test_a_lost_gpu_stays_lost_over_a_new_start_and_gives_its_number_to_no_other(host, tmp_path):
    for minor, bus in enumerate(("18", "2a", "3a")):
        information(tmp_path, minor, f"0000:{bus}:00.0", f"{UUID}{minor}")
    gpus, collector = host(count=3, root=tmp_path)
    assert collector.collect(T0).events == ()
    gone = gpus.gpus.pop(1)  # the driver gives its number to the next one
    gpus.write()
    collector.close()
    collector.open(tmp_path)
    reading = collector.collect(T0 + NS)
    assert [(e.kind, e.entity) for e in reading.events] == [("gpu_lost", f"gpu=1,uuid={UUID}1")]
    power = {s.label("uuid"): v for s, v in zip(reading.series, reading.values, strict=True)
             if s.name == "gpu_power_watts" and not math.isnan(v)}
    assert set(power) == {f"{UUID}0", f"{UUID}2"}
    gpus.gpus.insert(1, gone)
    gpus.write()
    collector.close()
    collector.open(tmp_path)
    assert [(e.kind, e.entity) for e in collector.collect(T0 + 2 * NS).events] == [("gpu_back", f"gpu=1,uuid={UUID}1")]
