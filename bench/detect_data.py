"""Labelled public metrics as `--data DIR` holds them: anomaly/smd, anomaly/asd, one parquet file per machine."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.scoring import FIVE_MINUTES, MINUTE, Convention, Floats, period

ASD_BUFFER = 100


@dataclass(frozen=True, slots=True)
class Machine:
    """One machine. x: float64[n, d], the training rows first; train: how many they are. label: 0/1 of the test rows.
    events: (start, end, positions of the true metrics), test rows. buffer: of VUS-PR."""

    name: str
    x: Floats
    train: int
    label: NDArray[np.int64]
    events: tuple[tuple[int, int, tuple[int, ...]], ...]
    buffer: int


@dataclass(frozen=True, slots=True)
class Dataset:
    """Machines of one kind: all with the same metrics and the same pace."""

    name: str
    period_s: float
    convention: Convention
    machines: tuple[Machine, ...]


KINDS: Mapping[str, tuple[float, Convention]] = {"smd": (60.0, MINUTE), "asd": (300.0, FIVE_MINUTES)}


def load(data: Path) -> list[Dataset]:
    """Every known set below `data` (or its folder anomaly). Raises FileNotFoundError where there is none."""
    root = data / "anomaly" if (data / "anomaly").is_dir() else data
    found = [_dataset(root / name, *KINDS[name]) for name in KINDS if (root / name).is_dir()]
    if not found:
        raise FileNotFoundError(f"{root}: no folder {' or '.join(KINDS)}")
    return found


def _dataset(folder: Path, period_s: float, convention: Convention) -> Dataset:
    events = json.loads((folder / "events.json").read_text())
    machines = [_machine(path, [e for e in events if e["machine"] == path.stem], folder.name == "asd")
                for path in sorted(folder.glob("*.parquet"))]
    return Dataset(folder.name, period_s, convention, tuple(machines))


def _machine(path: Path, events: list[dict[str, Any]], fixed_buffer: bool) -> Machine:
    import pyarrow.parquet

    table = pyarrow.parquet.read_table(path)
    names = sorted(name for name in table.schema.names if name[0] == "d" and name[1:].isdigit())
    test = np.array(table["part"].to_pylist()) == "test"
    x = np.stack([table[name].to_numpy() for name in names], axis=1).astype(np.float64)
    ordered = np.concatenate([x[~test], x[test]])
    train = int((~test).sum())
    truth = tuple((int(e["start"]), int(e["end"]), tuple(names.index(d) for d in e["dims"])) for e in events)
    return Machine(path.stem, ordered, train, table["label"].to_numpy()[test].astype(np.int64), truth,
                   ASD_BUFFER if fixed_buffer else period(ordered[train:, 0]))


def dump(folder: Path, machine: Machine, columns: Mapping[str, Floats]) -> None:
    """Writes <machine>.parquet: t and the columns given, one row per test row."""
    import pyarrow
    import pyarrow.parquet

    folder.mkdir(parents=True, exist_ok=True)
    rows = np.arange(len(machine.label), dtype=np.int64)
    pyarrow.parquet.write_table(pyarrow.table({"t": rows, **columns}), folder / f"{machine.name}.parquet")
