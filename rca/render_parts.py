"""Cells and notes of a report as plain text; whoever shows them escapes them."""

import math

from etio.core.evidence import Evidence
from etio.core.report import Report
from rca.units import humanise, moment


def what(evidence: Evidence) -> str:
    """What was measured, without the numbers that have columns of their own."""
    return evidence.claim.rsplit(": ", 1)[0] if evidence.kind == "series" else evidence.claim


def calm(evidence: Evidence) -> str:
    """The calm value; "new" for a series that began with the fault, "unknown" for one that lacks a calm time else."""
    if evidence.kind == "series" and evidence.onset_ns and math.isnan(evidence.baseline):
        return "new"
    return humanise(evidence.baseline, evidence.unit) if evidence.kind == "series" else "-"


def now(evidence: Evidence) -> str:
    """The value now; "-" where there is none."""
    if evidence.kind == "missing":
        return "not measured"
    return "-" if math.isnan(evidence.value) else humanise(evidence.value, evidence.unit)


def how(evidence: Evidence) -> str:
    """Source, and the share of samples where some were missing."""
    if evidence.kind != "series" or evidence.coverage >= 0.995:
        return evidence.source
    return f"{evidence.source}, {evidence.coverage:.0%} of the samples"


def notes(report: Report) -> list[str]:
    """Data quality, model and own cost, one sentence each."""
    quality, model, cost = report.data_quality, report.model, report.overhead
    tier = "T1 (eBPF)" if quality.tier == "T1" else f"{quality.tier} (no eBPF)"
    told = [f"Tier {tier}, {quality.coverage:.0%} of the samples behind the evidence are there, "
            f"{quality.dropped_series} series dropped."]
    told += [f"Missing: {m}." for m in quality.missing]
    if model.mode == "llm":
        told.append(f"Narrative: {model.name} at {model.endpoint}, {model.seconds:.0f} s, "
                    f"{model.prompt_tokens:,} + {model.answer_tokens:,} tokens.")
        told += [f"The verifier removed: {r}." for r in model.removed]
    else:
        told.append(f"No language model took part ({model.fallback_reason or 'none was asked'}).")
    cpu = "unknown" if math.isnan(cost.cpu_percent) else f"{cost.cpu_percent:.1f} %"
    memory = "unknown" if math.isnan(cost.pss_mb) else f"{cost.pss_mb:.0f} MB"
    told.append(f"etio itself: {cpu} of one core, {memory}. Report made at {moment(report.created_ns)}.")
    return told
