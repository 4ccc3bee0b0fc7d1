"""Answers of the daemon for a person at a terminal."""

from datetime import datetime
from typing import Any

from rich.console import Console, OverflowMethod
from rich.markdown import Markdown
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from etio.core.words import visible
from etio.daemon.replay import Transition

SEVERITY_STYLE = {"critical": "bold red", "warning": "yellow", "info": "cyan"}
console = Console()


def plain(text: str, style: str = "", overflow: OverflowMethod | None = None) -> Text:
    """Text that is shown as it is: no markup, and nothing in it steers the terminal."""
    return Text(visible(text), style, overflow=overflow)


def when(t_ns: int) -> str:
    """Local wall-clock time of nanoseconds since the epoch; "" for 0."""
    return datetime.fromtimestamp(t_ns / 1e9).strftime("%Y-%m-%d %H:%M:%S") if t_ns else ""


def number(value: Any, unit: str = "") -> str:
    """A number as people write it, "unknown" where there is none."""
    return "unknown" if value is None else f"{value:.3g}{unit}"


def _escape(text: str) -> str:
    return escape(visible(text))


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(plain(column))
    return table


def status(data: dict[str, Any]) -> None:
    """`etio status`"""
    ready = "[green]ready[/]" if data["ready"] else "[bold red]blind[/]"
    console.print(f"etio {data['version']} on {_escape(data['host'])}: {ready}, tier {data['tier']}"
                  + (f" ({_escape(data['tier_reason'])})" if data["tier_reason"] else ""), highlight=False)
    for reason in data["reasons"]:
        console.print(f"  [red]{_escape(reason)}[/]")
    learned = f"{100 * data['warm_ratio']:.0f} % of series have a baseline"
    console.print(f"{data['series']} series, {data['frames']} frames, {learned}"
                  + (", still learning" if data["warming"] else ""), highlight=False)
    alerts_now = "1 alert" if data["alerts_firing"] == 1 else f"{data['alerts_firing']} alerts"
    console.print(f"{alerts_now} firing; own cost {number(data['cpu_percent'])} % of a core and "
                  f"{number(data['kernel_cpu_percent'])} % in the kernel, "
                  f"{number(data['pss_mb'])} MB; model: {_escape(data['model'])}", highlight=False)
    if data["dropped_frames"] or data["dropped_rows"] or data["series_refused"]:
        console.print(f"[yellow]dropped: {data['dropped_frames']} frames, {data['dropped_rows']} rows, "
                      f"{data['series_refused']} series over the cap[/]")
    table = _table("collector", "state", "series", "ms", "reason")
    for one in data["collectors"]:
        ms = "" if one["seconds"] is None else f"{1000 * one['seconds']:.2f}"
        table.add_row(one["name"], one["state"], str(one["series"]), ms, plain(one["reason"]))
    console.print(table)


def alerts(data: list[dict[str, Any]]) -> None:
    """`etio alerts`"""
    if not data:
        console.print("[green]no alert fires[/]")
        return
    table = _table("since", "severity", "model", "alert", "what", "value", "state", "incident")
    for one in data:
        style = SEVERITY_STYLE.get(one["severity"], "")
        unit = "" if one["unit"] == "1" else f" {one['unit']}"
        value = "" if one["value"] is None else f"{one['value']:.4g}{unit}"
        table.add_row(when(one["pending_ns"]), plain(one["severity"], style), plain(one["model"]), plain(one["name"]),
                      plain(one["summary"]), plain(value), plain(one["state"]), plain(one["incident_id"]))
    console.print(table)


def markdown(text: str) -> None:
    """A report."""
    console.print(Markdown(text))


def table(data: dict[str, Any]) -> None:
    """`etio query`"""
    grid = _table(*data["columns"])
    for row in data["rows"]:
        grid.add_row(*(plain("NULL" if v is None else str(v)) for v in row))
    console.print(grid)
    if data["truncated"]:
        console.print("[yellow]more rows were cut off[/]")


def transition(one: Transition) -> None:
    """A line of `etio replay`."""
    alert = one.alert
    console.print(when(one.t_ns), one.incident.id, alert.state, alert.name, visible(alert.entity), f"{alert.value:.4g}",
                  alert.unit, highlight=False, markup=False)


def doctor(data: list[dict[str, str]]) -> None:
    """`etio doctor`"""
    grid = _table("part", "state", "what", "remedy")
    for row in data:
        style = {"good": "green", "absent": "cyan"}.get(row["state"], "bold red")
        texts = (plain(row[key], overflow="fold") for key in ("what", "remedy"))
        grid.add_row(plain(row["part"]), plain(row["state"], style), *texts)
    console.print(grid)


def parts(data: dict[str, list[dict[str, str]]]) -> None:
    """`etio list`"""
    for kind, rows in data.items():
        grid = _table(kind, "what")
        for row in rows:
            grid.add_row(plain(row["name"]), plain(row["what"]))
        console.print(grid)
        console.print()
