"""`etio capacity`: frontier, peak and plan against brute force, the file reader, the command line, the benchmark."""

import json
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.saturation import StepModel
from detectors.saturation_plan import MOST_TOKENS, at, capacity, frontier, peak
from etio import capacity as room
from etio.cli import main
from etio.core.errors import Broken, EtioError, NoData
from tests.property_rig import outcome

MODEL = StepModel("knee", 9.0, 11.0, 0.1, 1e-4, 2e-4, 50_000.0)
FLAT = StepModel("saturating", 5.0, 5.0, 0.0, 0.0)


def test_the_frontier_is_where_the_target_is_met_exactly():
    batch = np.array([1, 4, 16, 64])
    tokens = frontier(MODEL, 25.0, batch)
    assert MODEL.predict(batch, tokens) == pytest.approx(25.0, rel=1e-9)


def test_the_frontier_says_when_nothing_or_anything_fits():
    assert np.isnan(frontier(MODEL, 8.0, [4])).all()
    assert frontier(FLAT, 6.0, [4]).tolist() == [MOST_TOKENS]
    with pytest.raises(Broken, match="latency target"):
        frontier(MODEL, -1.0, [4])


@settings(max_examples=60, deadline=None)
@given(st.floats(10.0, 200.0), st.floats(1.0, 5000.0), st.integers(1, 200))
def test_the_peak_is_the_peak(target, length, most):
    every = [at(MODEL, b, b * length) for b in range(1, most + 1)]
    fit = [p for p in every if p.step_ms <= target]
    if not fit:
        with pytest.raises(NoData, match="no batch"):
            peak(MODEL, length, target, most)
        return
    found = peak(MODEL, length, target, most)
    assert found.step_ms <= target
    assert found.tokens_per_second >= 0.999 * max(p.tokens_per_second for p in fit)


def test_the_kv_cache_limits_the_batch():
    assert peak(MODEL, 1000.0, None, 256, most_tokens=20_000.0).batch == 20


def test_servers_carry_the_demand_with_headroom():
    point = at(MODEL, 32, 32_000)
    plan = capacity(point, 10_000.0, 0.2)
    assert plan.servers * point.tokens_per_second * 0.8 >= 10_000.0 > (plan.servers - 1) * point.tokens_per_second * 0.8
    assert plan.used_ratio == pytest.approx(10_000.0 / (plan.servers * point.tokens_per_second))
    for demand, headroom in ((0.0, 0.2), (float("nan"), 0.2), (5.0, 1.0)):
        with pytest.raises(Broken):
            capacity(point, demand, headroom)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "inference" / "decode_steps.csv"
    path.parent.mkdir()
    lines = ["set,batch_size,kv_tokens,step_ms"]
    random = np.random.default_rng(0)
    for name, model in (("lab/A100/vLLM/small-7b", MODEL), ("lab/H100/vLLM/[red]big\x1b[31m", MODEL.scaled(3.0))):
        for b in (1, 8, 16, 32, 64):
            for length in (200, 400, 800, 1600, 3200):
                ms = float(model.predict(b, b * length)) * float(np.exp(random.normal(0, 0.01)))
                lines.append(f"{name},{b},{b * length},{ms:.4f}")
    path.write_text("\n".join(lines) + "\n")
    return path


def test_json_of_one_set(file, capsys):
    code = main(["capacity", "--data", str(file), "--set", "small", "--json", "--target-ms", "30", "--demand", "5000"])
    data = json.loads(capsys.readouterr().out)
    assert code == 0
    assert data["fit"]["error"] < 0.03
    assert data["capacity"]["servers"] >= 1
    assert data["peak_under_target"]["step_ms"] <= 30.0
    assert [one["batch"] for one in data["frontier"]] == [1, 2, 4, 8, 16, 32, 64]
    assert data["frontier"][0]["extrapolated"] is True, "one sequence alone was never that long"
    assert data["frontier"][-1]["extrapolated"] is False


def test_table_and_picture_for_a_person(file, capsys):
    assert main(["capacity", "--data", str(file), "--set", "small-7b", "--demand", "9000"]) == 0
    text = capsys.readouterr().out
    assert "█" in text
    assert "·" in text
    assert "such servers" in text


def test_names_from_the_file_cannot_command_the_terminal(file, capsys):
    assert main(["capacity", "--data", str(file), "--set", "big"]) == 0
    assert main(["capacity", "--data", str(file)]) == 0
    text = capsys.readouterr().out
    assert "\x1b[31m" not in text
    assert "[red]" in text


def test_a_target_that_nothing_meets_is_said(file, capsys):
    assert main(["capacity", "--data", str(file), "--set", "small", "--target-ms", "1", "--demand", "10"]) == 0
    text = capsys.readouterr().out
    assert "no batch of sequences" in " ".join(text.split())
    assert "slower than the target at any length" in " ".join(text.split())


@pytest.mark.parametrize(("arguments", "says"), [
    (["--set", "nothing-like-it"], "0 sets match"),
    (["--set", "lab"], "2 sets match"),
    (["--set", "small", "--target-ms", "-3"], "latency target -3"),
    (["--set", "small", "--most-batch", "0"], "1 to 65536"),
    (["--set", "small", "--length", "nan"], "length nan"),
])
def test_wrong_wishes_are_refused(file, capsys, arguments, says):
    assert main(["capacity", "--data", str(file), *arguments]) == 2
    assert says in capsys.readouterr().err


@pytest.mark.parametrize(("text", "says"), [
    (b"", "no column"),
    (b"set,batch_size,kv_tokens,step_ms\n", "no row"),
    (b"set,batch_size,kv_tokens\na,1,2\n", "no column step_ms"),
    (b"set,batch_size,kv_tokens,step_ms\na,1,2,fast\n", "line 2"),
    (b"set,batch_size,kv_tokens,step_ms\na,1\n", "line 2"),
    (b"set,batch_size,kv_tokens,step_ms\na,1,2,3\n", "1 distinct"),
    (b"set,batch_size,kv_tokens,step_ms\na,1,2,-3\n", "not a positive number"),
    (b"set,batch_size,kv_tokens,step_ms\n\xff\xfe,1,2,3\n", "not a CSV file"),
])
def test_wrong_files_are_refused(tmp_path, capsys, text, says):
    path = tmp_path / "x.csv"
    path.write_bytes(text)
    assert main(["capacity", "--data", str(path)]) == 2
    assert says in capsys.readouterr().err
    assert main(["capacity", "--data", str(tmp_path / "absent")]) == 2


@settings(max_examples=80, deadline=None)
@given(st.binary(max_size=120))
def test_any_bytes_raise_only_typed_errors(tmp_path_factory, text):
    path = tmp_path_factory.getbasetemp() / "any.csv"
    path.write_bytes(b"set,batch_size,kv_tokens,step_ms\n" + text)
    found = outcome(lambda: room.read_sets(path), EtioError, says="any.csv")
    if found is not None:
        assert found
        assert all(rows.shape == (len(rows), 3) and len(rows) for rows in found.values())


@pytest.mark.slow
def test_the_benchmark_writes_what_is_asked(file, tmp_path):
    out = tmp_path / "out.json"
    with file.open("a") as more:
        more.write("tiny,1,100,5.0\ntiny,2,200,6.0\n" + "".join(f"few,{b},{b * 100},{5 + b}\n" for b in (1, 2, 3, 4)))
    done = subprocess.run([sys.executable, "-m", "bench.saturation", "--data", str(file.parent.parent), "--json",
                           str(out)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "left out: tiny: " in done.stdout
    data = json.loads(out.read_text())
    assert list(data) == ["chosen", "seed", "three_parameter", "linear", "quadratic", "fit_ms", "predict_10k_ms"]
    assert set(data["chosen"]) == {"r2", "cv_r2", "extrapolation_mre"}
    assert data["chosen"]["r2"] > 0.99 > data["linear"]["r2"]
