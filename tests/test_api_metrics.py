"""/metrics: read back with a strict parser, and with promtool where it is installed."""

import math
import re
import shutil
import subprocess
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.metrics import Exposition
from etio.core.frame import Frame
from etio.core.series import Series, labels
from tests.sample_report import SampleLive, make_status

NOW = 1_795_248_000 * 10**9
SAMPLE = re.compile(r'([a-z_:][a-z0-9_:]*)(?:\{((?:[a-zA-Z_]\w*="(?:[^"\\\n]|\\[\\"n])*",?)*)\})? (\S+)')
LABEL = re.compile(r'([a-zA-Z_]\w*)="((?:[^"\\]|\\.)*)"')


def parse(text):
    """Samples by (name, labels); fails on anything that format 0.0.4 does not allow."""
    assert text.endswith("\n")
    found, done, current = {}, set(), ""
    for line in text.splitlines():
        if line.startswith("#"):
            kind, name = line.split(" ")[1:3]
            assert kind in ("HELP", "TYPE")
            if name != current:
                assert name not in done, f"{name} is not in one group"
                done.add(name)
                current = name
            continue
        match = SAMPLE.fullmatch(line)
        assert match, line
        assert match[1] == current, line
        pairs = tuple((k, _plain(v)) for k, v in LABEL.findall(match[2] or ""))
        assert (match[1], pairs) not in found, f"twice: {line}"
        found[match[1], pairs] = float(match[3])
    return found


def _plain(value):
    return re.sub(r"\\(.)", lambda m: {"n": "\n"}.get(m[1], m[1]), value)


@pytest.fixture
def live():
    return SampleLive(now_ns=NOW, extra=4)


def test_every_series_with_a_value_is_there_and_no_other(live):
    frame = live.latest()[0]
    found = parse(Exposition().text(live.status(), frame))
    for one, value in zip(frame.series, frame.values, strict=True):
        if math.isnan(value):
            assert (f"etio_{one.name}", one.labels) not in found
        else:
            assert found[f"etio_{one.name}", one.labels] == pytest.approx(value, rel=1e-8)


def test_own_figures_tell_tier_collectors_programs_and_cost():
    found = parse(Exposition().text(make_status(NOW), None))
    assert found["etio_build_info", (("version", "0.1.0"),)] == 1
    assert found["etio_tier", (("tier", "T1"),)] == 1
    assert found["etio_tier", (("tier", "T2"),)] == 0
    assert found["etio_collector_success", (("collector", "links"),)] == 0
    assert ("etio_collector_success", (("collector", "nvml"),)) not in found
    assert found["etio_collector_state", (("collector", "nvml"), ("state", "nodata"))] == 1
    assert ("etio_collector_duration_seconds", (("collector", "nvml"),)) not in found
    program = (("attach", "raw_tracepoint sched_switch"), ("program", "run_delay"))
    assert found["etio_bpf_program_runs_total", program] == 123457
    assert found["etio_self_cpu_ratio", ()] == pytest.approx(0.0043)
    assert found["etio_self_memory_bytes", ()] == 131.2e6
    assert found["etio_last_frame_timestamp_seconds", ()] == NOW / 1e9


def test_unknown_cost_is_left_out_and_not_zero():
    found = parse(Exposition().text(replace(make_status(NOW), cpu_percent=math.nan, last_frame_ns=0), None))
    assert ("etio_self_cpu_ratio", ()) not in found
    assert ("etio_last_frame_timestamp_seconds", ()) not in found


def test_a_series_that_comes_later_appears(live):
    exposition, (frame, _) = Exposition(), live.latest()
    exposition.text(live.status(), frame)
    late = Series("disk_busy_ratio", "ratio", "counter", labels(device="sdz"))
    grown = Frame(frame.t_ns, (*frame.series, late), np.append(frame.values, 0.25))
    assert parse(exposition.text(live.status(), grown))["etio_disk_busy_ratio", (("device", "sdz"),)] == 0.25


def test_names_that_prometheus_refuses_are_left_out():
    series = (Series("bad-name", "1"), Series("good", "1", labels=labels(**{"bad-label": "x"})), Series("good", "1"))
    found = parse(Exposition().text(make_status(NOW), Frame(NOW, series, np.ones(3))))
    assert [key for key in found if "good" in key[0] or "bad" in key[0]] == [("etio_good", ())]


@given(st.text(st.characters(exclude_categories=("Cs",)), max_size=30))
def test_any_label_value_survives(value):
    # splitlines() of the parser above also splits at exotic line ends, which the format allows inside a value
    if len(value.splitlines()) > 1 or value.endswith(tuple("\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029\r")):
        return
    series = (Series("thing", "1", labels=labels(name=value)),)
    found = parse(Exposition().text(make_status(NOW), Frame(NOW, series, np.ones(1))))
    assert found["etio_thing", (("name", value),)] == 1


def test_promtool_has_no_complaint(live):
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool (package prometheus) is not installed")
    text = Exposition().text(live.status(), live.latest()[0])
    done = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
