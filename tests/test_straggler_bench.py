"""The benchmark on traces made here, in the format of the public ones."""

import json

import numpy as np
import pytest

from bench.straggler import main

pytestmark = pytest.mark.slow

pa = pytest.importorskip("pyarrow")


def write_trace(path, slow=None, factors=(1.0, 1.0, 1.0, 1.0), steps=24):
    import pyarrow.parquet as pq

    rng, rows = np.random.default_rng(1), []
    for step in range(100, 100 + 2 * steps, 2):
        for rank in range(12):
            stage, dp = divmod(rank, 3)
            factor = factors[stage] * (1.5 if rank == slow else 1.0)
            for kind, seconds in (("forward-compute", 0.1), ("backward-compute", 0.2), ("grads-reduce-scatter", 3.0)):
                for batch in range(4):
                    took = seconds * factor * rng.normal(1, 0.01)
                    rows.append((dp, stage, rank, step, kind, 0.0, took, batch, 0, batch, 0))
    names = ("dp_rank", "stage", "rank", "step", "optype", "start_ts", "duration", "seq_id", "mc", "mb_id", "gmc")
    columns = {n: [r[i] for r in rows] for i, n in enumerate(names)}
    columns["optype"] = pa.array(columns["optype"]).dictionary_encode()
    path.parent.mkdir(exist_ok=True)
    pq.write_table(pa.table(columns), path)


def test_result_is_in_the_agreed_form(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("ETIO_CALLER", str(tmp_path))
    write_trace(tmp_path / "straggler" / "trace-AR.parquet", slow=7)
    write_trace(tmp_path / "straggler" / "trace-ST.parquet", factors=(1.0, 1.0, 1.0, 1.6))
    assert main(["--data", str(tmp_path), "--json", "out.json"]) == 0
    result = json.loads((tmp_path / "out.json").read_text())
    assert set(result) == {"clean_false_alarms", "injected", "traces"}
    assert result["clean_false_alarms"] == 0
    assert result["traces"] == {"AR": {"blamed_ranks": [7], "blamed_stages": []},
                                "ST": {"blamed_ranks": [], "blamed_stages": [3]}}
    assert set(result["injected"]) == {"5", "10", "25"}
    for told in result["injected"].values():
        assert set(told) == {"ranks", "found", "median_delay_steps"}
        assert told["ranks"] == told["found"] == 24
    assert "rank 7 computes" in capsys.readouterr().out


def test_no_trace_is_said(tmp_path, capsys):
    assert main(["--data", str(tmp_path)]) == 2
    assert "no trace-" in capsys.readouterr().err
