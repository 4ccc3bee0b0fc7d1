"""A person's SQL sees the views and nothing else; it can neither write nor reach a file nor run for ever."""

import time

import numpy as np
import pytest

from etio.core.alert import Alert, Incident
from etio.core.event import HostEvent
from etio.core.frame import Frame
from etio.core.series import Series, labels
from etio.store import days
from etio.store.config import StoreConfig
from etio.store.store import open_store

NS = 1_000_000_000
NOON = days.start_of("20261120") + 12 * 3600 * NS
SERIES = (Series("cpu_busy_ratio", "ratio"), Series("disk_busy_ratio", "ratio", "counter", labels(device="sda")))
ALERT = Alert("00ff", "DiskSaturated", "critical", "firing", labels(device="sda"), "it's full", "disk_busy_ratio",
              0.5, "ratio", float("nan"), "rule", NOON, NOON + NS, 0, "2026-11-20-0001")


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    one = open_store(StoreConfig(directory=str(tmp_path_factory.mktemp("store")), batch_seconds=60.0,
                                 min_free_bytes=0, compact=False))
    for i in range(100):
        one.writer.put_frame(Frame(NOON + i * NS, SERIES, np.array([float(i), np.nan if i % 2 else 0.5])))
    one.writer.put(ALERT)
    one.writer.put(Incident("2026-11-20-0001", NOON, (ALERT,)))
    one.writer.put(HostEvent(NOON, "oom_kill", "pid=1", (("comm", "x';--"),)))
    assert one.writer.flush()
    yield one
    one.close()


def test_samples_are_seen_with_time_labels_and_key(store):
    got = store.archive.query("""SELECT t::VARCHAR, name, labels['device'], key, value FROM samples
                                 WHERE name = 'disk_busy_ratio' ORDER BY t LIMIT 2""")
    assert got.columns[1:3] == ("name", "labels['device']")
    assert got.rows[0] == ("2026-11-20 12:00:00", "disk_busy_ratio", "sda", 'disk_busy_ratio{device="sda"}', 0.5)
    assert store.archive.query("SELECT count(*), count(DISTINCT key) FROM samples").rows == ((150, 2),)


def test_the_other_views(store):
    query = store.archive.query
    assert query("SELECT name, state, severity, summary, score, firing IS NULL, resolved IS NULL FROM alerts").rows == (
        ("DiskSaturated", "firing", "critical", "it's full", None, False, True),)
    assert query("SELECT id, alerts, report FROM incidents").rows == (("2026-11-20-0001", 1, "none"),)
    assert query("SELECT kind, entity FROM events").rows == (("oom_kill", "pid=1"),)
    assert query("SELECT count(*) FROM reports").rows == ((0,),)
    assert [r[0] for r in query("SELECT name FROM series ORDER BY key").rows] == ["cpu_busy_ratio", "disk_busy_ratio"]


@pytest.mark.parametrize("sql", [
    "WITH m AS (SELECT max(value) v FROM samples) SELECT v FROM m",
    "WITH RECURSIVE n AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM n WHERE i < 5) SELECT sum(i) FROM n",
    "SELECT * FROM (SELECT key, avg(value) FROM samples GROUP BY ALL) s JOIN series USING (key) ORDER BY 1;",
    "SELECT a.v, b.v FROM (VALUES (1)) a(v), LATERAL (SELECT a.v + 1 AS v) b",
    "SELECT i FROM range(10) t(i) UNION ALL SELECT unnest([1, 2])",
    "SELECT value, lag(value) OVER (PARTITION BY key ORDER BY t) FROM samples -- comment",
    "FROM Samples LIMIT 3",
    "SELECT 'drop table x; attach' AS text",
])
def test_ordinary_questions_work(store, sql):
    assert store.archive.query(sql).rows


@pytest.mark.parametrize("sql", [
    "", ";", "SELECT 1; SELECT 2", "SELEC 1", "SELECT nothing FROM samples",
    "SELECT * FROM read_text('/etc/passwd')", "SELECT * FROM '/etc/passwd'", "SELECT * FROM read_csv('/etc/passwd')",
    "SELECT * FROM '/var/lib/x.csv'", "SELECT * FROM read_blob('{d}/etio.duckdb')", "SELECT * FROM '{d}/etio.duckdb'",
    "SELECT * FROM glob('/etc/*')", "SELECT * FROM glob('{d}/*')", "SELECT * FROM sniff_csv('/etc/passwd')",
    "SELECT * FROM parquet_metadata('{d}/x')", "SELECT * FROM read_parquet('https://example.com/x')",
    "SELECT (SELECT content FROM read_text('/etc/passwd'))",
    "WITH x AS (SELECT * FROM read_text('/etc/passwd')) SELECT * FROM x",
    "SELECT 1 WHERE EXISTS (SELECT * FROM read_text('/etc/passwd'))",
    "SELECT 1 ORDER BY (SELECT content FROM read_text('/etc/passwd'))",
    "COPY (SELECT 1) TO '{d}/x'", "COPY samples FROM '/etc/passwd'", "ATTACH '{d}/x.db'", "DETACH etio",
    "INSTALL httpfs", "LOAD httpfs", "PRAGMA database_list", "PRAGMA version", "SET threads = 8", "RESET threads",
    "CREATE TABLE x(i INT)", "CREATE TEMP TABLE x AS SELECT 1", "DROP VIEW samples", "DROP TABLE etio.alerts",
    "INSERT INTO etio.alerts VALUES ('', 0, '', '')", "UPDATE etio.alerts SET state = ''", "DELETE FROM etio.alerts",
    "WITH x AS (DELETE FROM etio.alerts RETURNING *) SELECT * FROM x",
    "WITH x AS (INSERT INTO etio.outbox VALUES ('','','',0,0,0,'') RETURNING *) SELECT * FROM x",
    "SELECT * FROM etio.outbox", "SELECT * FROM etio.main.outbox", "SELECT * FROM d20261120.samples",
    "SELECT * FROM outbox", "SELECT * FROM information_schema.tables", "SELECT * FROM duckdb_settings()",
    "SELECT * FROM duckdb_secrets()", "SELECT * FROM pragma_database_size()", "SELECT * FROM sqlite_master",
    "SELECT * FROM query('SELECT 1')", "SELECT * FROM query_table('outbox')", "SELECT * FROM checkpoint()",
    "SELECT * FROM force_checkpoint('etio')", "SELECT * FROM enable_logging()", "CALL pragma_version()",
    "SELECT * FROM json_execute_serialized_sql(json_serialize_sql('SELECT 1'))",
    "SELECT getenv('HOME')", "SELECT nextval('x')", "SELECT write_log('x')", "SELECT sleep_ms(1)",
    "SELECT current_setting('temp_directory')", "DESCRIBE samples", "SUMMARIZE samples", "SHOW TABLES",
    "EXPLAIN SELECT 1", "EXPLAIN ANALYZE SELECT 1", "CHECKPOINT", "VACUUM", "BEGIN", "COMMIT", "EXPORT DATABASE '{d}'",
    "PREPARE x AS SELECT 1", "EXECUTE x", "USE etio", "PIVOT samples ON name", "SELECT ?", "SELECT $1",
    "COMMIT; DROP TABLE etio.alerts", "SELECT 1\0; DROP TABLE etio.alerts", "IMPORT DATABASE '{d}'",
])
def test_everything_else_is_refused(store, sql):
    before = {p.name: p.stat().st_size for p in store.database.directory.iterdir() if p.is_file()}
    with pytest.raises(ValueError, match=r"."):
        store.archive.query(sql.replace("{d}", str(store.database.directory)))
    assert {p.name: p.stat().st_size for p in store.database.directory.iterdir() if p.is_file()} == before
    assert store.archive.query("SELECT count(*) FROM alerts").rows == ((1,),)


def test_rows_are_limited(store):
    got = store.archive.query("SELECT * FROM range(100)", max_rows=7)
    assert len(got.rows) == 7
    assert got.truncated
    assert not store.archive.query("SELECT * FROM range(7)", max_rows=7).truncated


def test_time_is_limited_and_the_store_goes_on(store):
    started = time.monotonic()
    with pytest.raises(ValueError, match=r"stopped after 0\.3 s"):
        store.archive.query("SELECT sum(a.range * b.range) FROM range(10000000) a, range(10000000) b", timeout_s=0.3)
    assert time.monotonic() - started < 20  # it would take hours
    assert store.archive.query("SELECT 1").rows == ((1,),)


def test_memory_is_limited_and_the_writer_goes_on(store):
    with pytest.raises(ValueError, match=r"."):
        store.archive.query("SELECT list(range) FROM range(50000000)", timeout_s=20)
    assert store.writer.put_frame(Frame(NOON + 500 * NS, SERIES, np.array([1.0, 2.0])))
    assert store.writer.flush()


def test_a_query_cannot_leave_its_transaction(store):
    with store.database.reading(["d20261120"]) as (cursor, _):
        cursor.execute("BEGIN TRANSACTION READ ONLY")
        for sql in ("INSERT INTO etio.outbox VALUES ('','','',0,0,0,'')", "DELETE FROM d20261120.samples"):
            with pytest.raises(Exception, match="read-only"):
                cursor.execute(sql)
            cursor.execute("ROLLBACK")
            cursor.execute("BEGIN TRANSACTION READ ONLY")
        for sql in ("SELECT * FROM read_text('/etc/passwd')", "ATTACH '/tmp/x.db'", "COPY (SELECT 1) TO '/tmp/x.csv'"):
            with pytest.raises(Exception, match="disabled by configuration"):
                cursor.execute(sql)
            cursor.execute("ROLLBACK")
            cursor.execute("BEGIN TRANSACTION READ ONLY")


def test_values_are_plain(store):
    got = store.archive.query("""SELECT t, labels, 1.5::DECIMAL(4, 2), DATE '2026-01-02', '\\x00a'::BLOB, [1, NULL],
                                 uuid() IS NOT NULL, 'NaN'::DOUBLE, 2::HUGEINT ** 1, {'a': t}
                                 FROM samples WHERE labels['device'] = 'sda' ORDER BY t LIMIT 1""").rows[0]
    assert got[:4] == ("2026-11-20T12:00:00Z", {"device": "sda"}, 1.5, "2026-01-02")
    assert isinstance(got[4], str)
    assert got[5:7] == ([1, None], True)
    assert got[7] != got[7]
    assert got[9] == {"a": "2026-11-20T12:00:00Z"}
