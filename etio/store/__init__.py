"""The only room that imports duckdb: day files, one writer, readers, roll-ups, retention, outbox, recordings."""
