"""Tables of the three kinds of file. No keys and no indexes: they make a write-ahead log hard to replay."""

MAIN = "etio"
LEVELS = (10, 300)
"""Seconds of the two roll-ups."""

RAW = """
CREATE TABLE IF NOT EXISTS {db}.meta(key VARCHAR, value VARCHAR);
CREATE TABLE IF NOT EXISTS {db}.series(
    id UINTEGER, first UINTEGER, key VARCHAR, name VARCHAR, unit VARCHAR, kind VARCHAR, labels VARCHAR);
CREATE TABLE IF NOT EXISTS {db}.frames(tick UINTEGER, t_ns BIGINT);
CREATE TABLE IF NOT EXISTS {db}.samples(series UINTEGER, tick UINTEGER, value FLOAT);
CREATE TABLE IF NOT EXISTS {db}.events(t_ns BIGINT, body VARCHAR);
"""
"""One day of samples. tick: number of the frame within the day; frames: its exact moment; series.first: the tick at
which a series was first seen. A sample without a value is not stored."""

_ROLLUP = """
CREATE TABLE IF NOT EXISTS {{db}}.rollup_{level}s(
    series UINTEGER, second UINTEGER, low FLOAT, mean FLOAT, high FLOAT, last FLOAT, count UINTEGER);
"""

ROLLUP = """
CREATE TABLE IF NOT EXISTS {db}.series(
    id UINTEGER, first UINTEGER, key VARCHAR, name VARCHAR, unit VARCHAR, kind VARCHAR, labels VARCHAR);
CREATE TABLE IF NOT EXISTS {db}.rolled(tick UINTEGER);
""" + "".join(_ROLLUP.format(level=level) for level in LEVELS)
"""One day of roll-ups. second: start of the stretch after midnight; rolled: ticks below the largest are in here."""

KEPT = """
CREATE TABLE IF NOT EXISTS {db}.series(
    key VARCHAR, name VARCHAR, unit VARCHAR, kind VARCHAR, labels VARCHAR, last_day VARCHAR);
CREATE TABLE IF NOT EXISTS {db}.alerts(
    fingerprint VARCHAR, pending_ns BIGINT, state VARCHAR, body VARCHAR);
CREATE TABLE IF NOT EXISTS {db}.incidents(id VARCHAR, opened_ns BIGINT, body VARCHAR);
CREATE TABLE IF NOT EXISTS {db}.reports(id VARCHAR, incident_id VARCHAR, created_ns BIGINT, body VARCHAR);
CREATE TABLE IF NOT EXISTS {db}.events(t_ns BIGINT, body VARCHAR);
CREATE TABLE IF NOT EXISTS {db}.outbox(
    id VARCHAR, url VARCHAR, body VARCHAR, created_ns BIGINT, tries INTEGER, next_ns BIGINT, last_error VARCHAR);
"""
"""The small durable file; body: JSON of etio.core.codec."""


def of(name: str) -> str:
    """The tables that belong into the file of this name."""
    kinds = {"d": RAW, "r": ROLLUP}
    text = KEPT if name == MAIN else kinds[name[0]]
    return text.format(db=name)
