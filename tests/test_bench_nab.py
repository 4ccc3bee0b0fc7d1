"""The smoke test on single series: windows and alarms are counted as its text says."""

import json

import numpy as np

from bench.nab import METHODS, judged, traces


def test_a_spike_in_its_window_is_found(tmp_path):
    rng, rows = np.random.default_rng(1), []
    for i in range(2000):
        moment = np.datetime64("2014-02-14T00:00:00") + np.timedelta64(300 * i, "s")
        rows.append(f"{str(moment).replace('T', ' ')},{rng.normal(0.3, 0.01) + 5.0 * (1500 <= i < 1520):.6f}")
    (tmp_path / "one.csv").write_text("timestamp,value\n" + "\n".join(rows) + "\n")
    (tmp_path / "windows.json").write_text(json.dumps(
        {"one.csv": [["2014-02-19 04:00:00.000000", "2014-02-19 12:00:00.000000"]]}))
    (trace,) = traces(tmp_path)
    assert trace.windows[0][1] - trace.windows[0][0] == 8 * 3600
    assert judged(trace, METHODS["joint"](trace)) == (1, 0)
    assert judged(trace, METHODS["robust_z"](trace))[0] == 1
    nowhere = np.zeros(len(trace.x), dtype=bool)
    assert judged(trace, nowhere) == (0, 0)
    nowhere[[10, 15, 40]] = True
    assert judged(trace, nowhere) == (0, 2)
