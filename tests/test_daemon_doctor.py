"""What the doctor makes of a status."""

import pytest

from etio.daemon.doctor import examine

STATUS = {"ready": True, "reasons": [], "tier": "T1", "tier_reason": "", "collectors": []}


@pytest.mark.parametrize(("text", "state"), [
    ("qwen3:8b at http://127.0.0.1:11434 (ollama 0.32.9)", "good"),
    ("no model answers at http://127.0.0.1:11434 ([Errno 111] Connection refused)", "absent"),
    ("no model at http://127.0.0.1:11434: it lists none", "absent"),
    ("switched off (rca.llm.enabled)", "absent"),
])
def test_a_model_is_good_only_when_one_answers(text: str, state: str) -> None:
    rows = {row["part"]: row for row in examine({**STATUS, "model": text})}
    assert rows["model"]["state"] == state


def test_without_a_daemon_it_says_how_to_start_one() -> None:
    first = examine({"error": "no daemon answers"})[0]
    assert first["state"] == "bad"
    assert "scripts/run" in first["remedy"]
