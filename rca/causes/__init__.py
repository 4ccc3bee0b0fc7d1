"""One failure type per file, each with the constant CAUSE = CauseSpec(...); found by listing this folder."""
