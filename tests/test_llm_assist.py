"""A report is complete and on time whatever the model server does, and no injected text survives in it."""

import dataclasses
import json
import math
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etio.core import codec
from etio.core.errors import ModelError
from etio.core.ports import Answer
from etio.core.report import ModelNote, Report
from rca.llm import Breaker, LlmConfig, assist, probe
from rca.llm.assist import reorder
from rca.llm.ollama import Ollama
from rca.llm.openai import OpenAi
from rca.llm.prompt import brief
from rca.llm.schema import mismatches
from tests import ollama_server as fake
from tests.llm_samples import GROUP, HOSTILE, T0, S, sample_report
from tests.ollama_server import SCRIPTS, serving

pytestmark = pytest.mark.slow

GOOD = (
    "good", "no_json_once", "injection", "plain_injection", "wrong_number", "wrong_direction", "unknown_id", "markdown",
)  # fmt: skip
POISON = ("evil", "script", "curl", "firewall", "attacker", "password", "Ignore", "previous", "reboot", "internal mark",
          "**", "<", "`")  # fmt: skip


def models(server, deadline_s=20.0):
    config = LlmConfig(endpoint=server.url, deadline_s=deadline_s)
    return [Ollama(config), OpenAi(config)]


def written(report: Report) -> str:
    """Everything that the model room wrote into a report."""
    return report.narrative + codec.dumps(report.model, indent=1)


def without_model(report: Report) -> Report:
    return dataclasses.replace(report, model=ModelNote("deterministic"), narrative="", findings=())


@pytest.mark.parametrize("behaviour", SCRIPTS)
@pytest.mark.parametrize("which", [0, 1], ids=["ollama", "openai"])
def test_the_report_is_complete_on_time_and_clean(behaviour, which):
    report = sample_report()
    with serving(behaviour) as server:
        start = time.monotonic()
        told = assist(report, models(server)[which], 1.5)
        assert time.monotonic() - start < 10.0  # the deadline, and what a busy host adds to it
    assert without_model(told) == without_model(report), "nothing but narrative, note and order may change"
    assert sorted(told.findings, key=str) == sorted(report.findings, key=str)
    assert not [word for word in POISON if word in written(told)]
    assert not [word for word in ("97.3", "P77") if word in told.narrative]
    if told.model.mode == "deterministic":
        assert told.model.fallback_reason
        assert told.narrative == ""
        assert told.findings == report.findings
    else:
        assert told.narrative
    assert codec.loads(Report, codec.dumps(told)).model.mode == told.model.mode


@pytest.mark.parametrize("behaviour", GOOD)
def test_good_sentences_survive_bad_neighbours(behaviour):
    with serving(behaviour) as server:
        told = assist(sample_report(), models(server)[0], 10)
    assert told.model.mode == "llm", told.model
    assert f"The cgroup cpu throttled ratio of {GROUP} rose from 0 % to 91 % [E1]." in told.narrative
    assert f"The cgroup cpu usage cores of {GROUP} rose from 0.6 cores to 2 cores [E2]." in told.narrative
    assert "41.2 ms [E5]" in told.narrative
    assert told.narrative.endswith(f"To begin with: Raise the CPU quota of {GROUP}.")
    assert bool(told.model.removed) == (behaviour not in ("good", "no_json_once"))
    assert told.model.prompt_tokens > 300
    assert told.model.name == fake.MODEL


@pytest.mark.parametrize(
    ("behaviour", "reason"),
    [
        ("wrong_number", "97.3 % is not in E1"), ("wrong_direction", "E1 does not show that anything fell"),
        ("unknown_id", "P77 does not exist"), ("markdown", "markup, a link or a command"),
        ("plain_injection", "outside the vocabulary"), ("injection", "markup, a link or a command"),
    ],
)  # fmt: skip
def test_each_dropped_sentence_is_listed_with_its_reason(behaviour, reason):
    with serving(behaviour) as server:
        removed = assist(sample_report(), models(server)[0], 10).model.removed
    if behaviour == "unknown_id":
        reason = "does not exist"
    assert len([r for r in removed if r.startswith("sentence 4") and reason in r]) == 1, removed


@pytest.mark.parametrize(
    ("behaviour", "reason"),
    [
        ("hang", "within 1.5 s"), ("drip", "within 1.5 s"), ("busy", "busy"), ("error_500", "status 500"),
        ("mid_stream_error", "error while it answered"), ("no_done", "before it was done"), ("length", "cut off"),
        ("cut_prompt", "cut the prompt"), ("redirect", "redirects"), ("huge", "longer than"),
        ("canary", "internal data"),
        ("remote_answer", "cloud"), ("hallucinated_id", "an id that does not exist, twice"), ("tool_call", "tool"),
        ("schema_invalid", "twice"), ("no_json", "no JSON object, twice"), ("too_long", "status 400"),
        ("only_injection", "carries none"), ("close", "connection failed"), ("garbage", "before it was done"),
        ("deep", "no JSON object"),
    ],
)  # fmt: skip
def test_the_fallback_says_why(behaviour, reason):
    with serving(behaviour) as server:
        told = assist(sample_report(), models(server)[0], 1.5)
    assert told.model.mode == "deterministic"
    assert reason in told.model.fallback_reason
    assert told.model.seconds < 10.0


def test_nobody_listens():
    told = assist(sample_report(), Ollama(LlmConfig(endpoint="http://127.0.0.1:9")), 5)
    assert told.model.fallback_reason == "nobody listens at the endpoint"


def test_one_repair_and_no_more():
    for behaviour, asked in (("no_json_once", 2), ("no_json", 2), ("good", 1), ("busy", 1)):
        with serving(behaviour) as server:
            assist(sample_report(), models(server)[0], 10)
            assert len([p for p, _ in server.requests if p == "/api/chat"]) == asked, behaviour
    assert "refused" in server.requests[-1][1]["messages"][-1]["content"] or behaviour == "busy"


def test_what_is_sent_holds_options_and_no_name():
    with serving() as server:
        assist(sample_report(), models(server)[0], 10)
        body = server.requests[0][1]
    assert (body["think"], body["shift"], body["truncate"], body["keep_alive"]) == (False, False, False, "5m")
    assert body["options"] == {"num_ctx": 8192, "num_predict": 900, "temperature": 0, "seed": 42}
    assert body["format"]["type"] == "object"
    sent = json.dumps(body)
    assert not [name for name in (GROUP, "billing", HOSTILE, "evil", "node-1", "reboot") if name in sent]
    assert [m["role"] for m in body["messages"]] == ["system", "user"]


@given(st.text(max_size=40))
def test_no_name_reaches_the_model(name):
    unusual = "\u2603" + name + "secret"
    report = sample_report()
    evidence = tuple(dataclasses.replace(e, entity=f"cgroup={unusual}", claim=unusual) for e in report.evidence)
    culprit = dataclasses.replace(report.culprit, name=unusual)
    asked = brief(dataclasses.replace(report, evidence=evidence, culprit=culprit, title=unusual, summary=unusual))
    assert "secret" not in asked.system + asked.user + json.dumps(asked.schema)
    assert "\\u2603" not in asked.user


class Said:
    """A chat model that says what it is told to."""

    name, endpoint = "said", "http://127.0.0.1:1"

    def __init__(self, text):
        self.text = text

    def ask(self, system, user, schema, deadline_s):
        return Answer(self.text, self.name, 0.1, 10, 10)


JSON = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False) | st.text(max_size=20) | st.sampled_from(["E1", "order"]),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(st.sampled_from(["order", "sentences", "cards", "text", "evidence", "x"]), inner, max_size=5),
    max_leaves=20,
)


@given(JSON)
def test_any_json_leaves_the_report_whole(value):
    report = sample_report()
    told = assist(report, Said(json.dumps(value)), 5)
    assert told.evidence == report.evidence
    assert told.model.mode in ("llm", "deterministic")


@given(st.text(max_size=200), st.lists(st.sampled_from(["E1", "E2", "E5"]), min_size=1, max_size=4))
def test_any_sentence_leaves_nothing_but_admitted_words(text, ids):
    answer = {"order": [], "cards": [], "sentences": [{"text": text, "evidence": ids}]}
    told = assist(sample_report(), Said(json.dumps(answer)), 5)
    assert not set(told.narrative) & set("<>`*#|$\\{}\"@=~^&!?\n")


def test_a_report_without_findings_is_left_alone():
    told = assist(sample_report(findings=()), Said("{}"), 5)
    assert "no finding" in told.model.fallback_reason


def test_only_equals_change_places():
    report = sample_report()
    found, _ = reorder(report, ["runqueue_contention", "listen_overflow", "cgroup_cpu_throttling"])
    assert [f.cause for f in found] == ["cgroup_cpu_throttling", "runqueue_contention", "listen_overflow"]
    found, refused = reorder(report, ["listen_overflow", "cgroup_cpu_throttling"])
    assert found == report.findings
    assert refused == ["order (listen_overflow before cgroup_cpu_throttling): they are not ranked equal"]
    swapped = dataclasses.replace(report, findings=(report.findings[0], report.findings[2], report.findings[1]))
    found, refused = reorder(swapped, ["listen_overflow", "runqueue_contention"])
    assert found == swapped.findings
    assert "evidence speaks against it" in "".join(refused)
    calm = tuple(dataclasses.replace(f, refutes=()) for f in swapped.findings)
    _, refused = reorder(dataclasses.replace(swapped, findings=calm), ["listen_overflow", "runqueue_contention"])
    assert "it began later" in "".join(refused)


@pytest.mark.parametrize(
    ("tags", "model", "reason"),
    [
        ((fake.TAG,), "qwen3:8b", "qwen3:8b at"), ((fake.CLOUD_TAG,), "", "cloud models are not used"),
        ((fake.CLOUD_TAG,), "glm-4.6:cloud", "runs in a cloud"), ((fake.ALIAS_TAG,), "harmless:8b", "runs in a cloud"),
        ((fake.TAG,), "absent:1b", "is not installed"), ((), "", "no chat model is installed"),
        ((fake.EMBED_TAG,), "", "no chat model is installed"),
        ((fake.EMBED_TAG, fake.HUGE_TAG, fake.TAG), "", "qwen3:8b"),
        ((fake.HUGE_TAG,), "", "llama3:70b"), ((fake.HOSTILE_TAG, fake.TAG), "", "qwen3:8b"),
        ((fake.CLOUD_TAG, fake.TAG), "", "qwen3:8b"),
    ],
)  # fmt: skip
def test_which_model_is_taken(tags, model, reason):
    with serving(tags=tags) as server:
        found = probe(LlmConfig(endpoint=server.url, model=model, api="ollama"))
    assert reason in found.reason
    assert (found.model is not None) == reason.startswith(("qwen", "llama"))


def test_cloud_models_on_request():
    with serving(tags=(fake.CLOUD_TAG,)) as server:
        found = probe(LlmConfig(endpoint=server.url, allow_remote=True))
    assert found.model.name == "glm-4.6:cloud"


def test_a_model_that_vanished_is_replaced_only_where_none_was_asked_for():
    with serving() as server:
        free = probe(LlmConfig(endpoint=server.url)).model
        fixed = probe(LlmConfig(endpoint=server.url, model=fake.MODEL)).model
        server.tags = (fake.HUGE_TAG,)
        assert assist(sample_report(), free, 5).model.name == "llama3:70b"
        assert "not installed" in assist(sample_report(), fixed, 5).model.fallback_reason


@pytest.mark.parametrize(
    ("endpoint", "reason"),
    [
        ("http://192.0.2.7:11434", "not on this host"), ("http://localhost.example.org", "not on this host"),
        ("ftp://127.0.0.1", "no plain http(s) URL"), ("http://user:pw@127.0.0.1", "no plain http(s) URL"),
        ("127.0.0.1:11434", "no plain http(s) URL"), ("http://[::1", "no URL"),
        ("http://127.0.0.1:9", "nobody listens"),
        ("http://127.0.0.1:99999", "no URL"),
    ],
)  # fmt: skip
def test_where_figures_may_go(endpoint, reason):
    found = probe(LlmConfig(endpoint=endpoint))
    assert found.model is None
    assert reason in found.reason


def test_probe_off_openai_only_and_slow():
    assert "switched off" in probe(LlmConfig(enabled="off")).reason
    with serving("openai_only") as server:
        found = probe(LlmConfig(endpoint=server.url))
        assert isinstance(found.model, OpenAi)
        assert found.reason.endswith("(OpenAI-compatible)")
        assert assist(sample_report(), found.model, 5).model.mode == "llm"


def test_proxies_of_the_environment_are_not_used(monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://192.0.2.1:3128")
    with serving() as server:
        assert probe(LlmConfig(endpoint=server.url)).model is not None


def test_a_prompt_that_does_not_fit_is_not_sent():
    with serving() as server:
        told = assist(sample_report(), Ollama(LlmConfig(endpoint=server.url, num_ctx=1500)), 5)
        assert server.requests == []
    assert "does not fit" in told.model.fallback_reason


@pytest.mark.parametrize("bad", [{"deadline_s": 0}, {"num_predict": 10}, {"num_predict": 9000}])
def test_settings_that_cannot_work(bad):
    with pytest.raises(ValueError):
        LlmConfig(**bad)


def test_breaker_opens_after_failures_and_rests_longer():
    breaker = Breaker(failures=2, rest_ns=10)
    breaker.failed(0)
    assert breaker.allows(0)
    breaker.failed(0)
    assert [breaker.allows(t) for t in (0, 9, 10)] == [False, False, True]
    breaker.failed(10)
    assert [breaker.allows(t) for t in (29, 30)] == [False, True]
    breaker.worked()
    assert breaker.allows(11)


def test_schema_names_only_what_exists():
    report = sample_report()
    schema = brief(report).schema
    assert schema["properties"]["order"]["items"]["enum"] == [f.cause for f in report.findings]
    assert list(mismatches({"order": ["memory_leak"], "sentences": [], "cards": []}, schema)) != []
    assert "cards" not in brief(sample_report(suggestions=())).schema["properties"]
    good = {"order": [], "cards": [], "sentences": [{"text": "a", "evidence": ["E1"]}]}
    assert list(mismatches(good, schema)) == []


def test_model_errors_only():
    class Down(Said):
        def ask(self, system, user, schema, deadline_s):
            raise ModelError("down for tea")

    told = assist(sample_report(), Down(""), 5)
    assert told.model.fallback_reason == "down for tea"
    assert math.isclose(told.since_ns, T0)
    assert S == 10**9
