"""The tables that a person's SQL sees, as temporary views of one cursor."""

from etio.store.duck import duckdb

VIEWS = ("samples", "series", "alerts", "incidents", "reports", "events")

_DICTIONARY = """{raw}_series AS MATERIALIZED (
 SELECT id, name, labels::JSON::MAP(VARCHAR, VARCHAR) AS labels, key FROM {raw}.series)"""
"""Labels are taken apart once per series, not once per sample."""
_SAMPLES = """SELECT make_timestamp_ns(f.t_ns) AS t, d.name, d.labels, d.key, s.value::DOUBLE AS value
 FROM {raw}.samples s JOIN {raw}.frames f USING (tick) JOIN {raw}_series d ON d.id = s.series"""
_NO_SAMPLES = """SELECT NULL::TIMESTAMP_NS AS t, NULL::VARCHAR AS name, NULL::MAP(VARCHAR, VARCHAR) AS labels,
 NULL::VARCHAR AS key, NULL::DOUBLE AS value WHERE false"""
_REST = {
    "series": "SELECT key, name, unit, kind, labels::JSON::MAP(VARCHAR, VARCHAR) AS labels FROM etio.series",
    "alerts": """SELECT make_timestamp_ns(pending_ns) AS t, body->>'name' AS name, body->>'severity' AS severity, state,
 body->>'summary' AS summary, body->>'series_key' AS key, (body->>'value')::DOUBLE AS value, body->>'unit' AS unit,
 (body->>'score')::DOUBLE AS score, body->>'detector' AS detector, {firing} AS firing, {resolved} AS resolved,
 body->>'incident_id' AS incident, fingerprint FROM etio.alerts""",
    "incidents": """SELECT id, make_timestamp_ns(opened_ns) AS t, {resolved} AS resolved, body->>'report' AS report,
 json_array_length(body, 'alerts') AS alerts FROM etio.incidents""",
    "reports": """SELECT id, incident_id AS incident, make_timestamp_ns(created_ns) AS t, body->>'title' AS title,
 body->>'verdict' AS verdict, body->>'severity' AS severity, body->>'summary' AS summary,
 body->'findings'->0->>'cause' AS cause, body->'culprit'->>'name' AS culprit FROM etio.reports""",
    "events": """SELECT make_timestamp_ns(t_ns) AS t, body->>'kind' AS kind, body->>'entity' AS entity,
 body->>'source' AS source, body->'fields' AS fields FROM etio.events""",
}
_MOMENT = "make_timestamp_ns(nullif((body->>'{}')::BIGINT, 0))"


def create_views(cursor: duckdb.DuckDBPyConnection, raw_names: tuple[str, ...]) -> None:
    """Makes the views; they live and die with the cursor. raw_names: attached day files, for `samples`."""
    samples = _NO_SAMPLES
    if raw_names:
        dictionaries = ", ".join(_DICTIONARY.format(raw=name) for name in raw_names)
        samples = f"WITH {dictionaries} " + " UNION ALL ".join(_SAMPLES.format(raw=name) for name in raw_names)
    cursor.execute(f"CREATE TEMP VIEW samples AS {samples}")
    for name, sql in _REST.items():
        text = sql.format(firing=_MOMENT.format("firing_ns"), resolved=_MOMENT.format("resolved_ns"))
        cursor.execute(f"CREATE TEMP VIEW {name} AS {text}")
