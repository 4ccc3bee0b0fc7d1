"""Pages of inference servers: golden pages of each kind, counters and histograms over time, hostile text.

ETIO_BLESS=1 rewrites tests/golden/inference-from-documentation.json.
"""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collector.inference_flags import environment, port_of, setting
from collector.inference_flags import given as flags_given
from collector.inference_kinds import KINDS, kind_of_command, kind_of_page
from collector.inference_text import Histogram, Key, Pages, Recent, histogram, parse_key, parse_number, quantile, since
from collector.inference_values import Page, Track, by_model, json_pages, model_name
from etio.core.errors import Broken, NoData
from tests.golden_rig import check

FOLDER = Path(__file__).parent / "golden" / "inference-from-documentation"
PAGES = {"vllm-v1": "vllm", "vllm-v0": "vllm", "sglang": "sglang", "triton-trtllm": "triton", "llamacpp": "llama.cpp",
         "llamacpp-old": "llama.cpp", "tgi": "tgi"}


def read(name):
    kind = KINDS[PAGES[name]]
    return by_model(kind, Pages(kind.names()).read((FOLDER / f"{name}.txt").read_bytes()), "fallback")


def everything():
    found = {name: {model: {"values": page.values, "histograms": {h: [list(o.bounds[:-1]), list(o.counts), o.total]
                                                                  for h, o in page.histograms.items()}}
                    for model, page in read(name).items()} for name in PAGES}
    for name in ("ollama-ps", "llamacpp-slots"):
        body = (FOLDER / f"{name}.json").read_bytes()
        found[name] = {m: {"values": p.values, "histograms": {}} for m, p in json_pages(body, "fallback").items()}
    return json.loads(json.dumps(found))


def test_every_page_gives_what_the_json_says():
    found = everything()
    check(found, FOLDER.with_suffix(".json"), json.dumps(found, indent=1) + "\n")


@pytest.mark.parametrize("name", PAGES)
def test_a_page_tells_whose_it_is(name):
    assert kind_of_page((FOLDER / f"{name}.txt").read_bytes()).name == PAGES[name]


def test_two_engines_of_one_model_add_up_and_blocks_become_tokens():
    page = read("vllm-v1")["meta-llama/Llama-3.1-8B-Instruct"]
    assert (page.values["running"], page.values["waiting"], page.values["failed"]) == (12, 2, 4)
    assert page.values["kv_ratio"] == 0.613, "the fuller of two caches"
    assert page.values["kv_capacity"] == 2 * 27424 * 16
    triton = read("triton-trtllm")["tensorrt_llm"].values
    assert (triton["kv_tokens"], triton["waiting"]) == (1560 * 64, 3)


def at(seconds, **values):
    return seconds, Page({k: float(v) for k, v in values.items()}, {})


def test_a_step_is_time_over_steps_while_busy_and_nothing_is_made_up():
    track = Track(10)
    first = track.step(*at(100.0, running=4, steps=1000, generated_tokens=5000))
    assert math.isnan(first["step_seconds"]), "one page tells no rate"
    busy = track.step(*at(101.0, running=4, steps=1040, generated_tokens=5160))
    assert (busy["step_seconds"], busy["batch_size"]) == (0.025, 4.0)
    two = Track(10)
    two.step(*at(100.0, running=8, steps=1000, engines=2))
    assert two.step(*at(101.0, running=8, steps=1080, engines=2))["step_seconds"] == 0.025
    idle = track.step(*at(102.0, running=0, steps=1044, generated_tokens=5170))
    assert math.isnan(idle["step_seconds"]), "it was idle for part of that second"
    track.step(*at(103.0, running=3, steps=1050, generated_tokens=5180))
    again = track.step(*at(104.0, running=3, steps=20, generated_tokens=60))
    assert math.isnan(again["step_seconds"]), "started again: counters fell"
    assert math.isnan(again["kv_cache_used_ratio"])


def test_without_a_count_of_steps_it_is_the_mean_time_between_tokens():
    track = Track(10)
    one = Histogram((0.05, math.inf), (90.0, 100.0), 3.0)
    two = Histogram((0.05, math.inf), (170.0, 200.0), 7.0)
    track.step(1.0, Page({"running": 8.0}, {"inter_token": one}))
    now = track.step(2.0, Page({"running": 10.0}, {"inter_token": two}))
    assert (now["step_seconds"], now["batch_size"]) == (0.04, 9.0)


def test_percentiles_speak_of_the_last_seconds_only():
    recent, bounds = Recent(10.0), (0.1, 1.0, math.inf)
    for second in range(30):  # fast until second 20, then slow
        fast, slow = min(second, 20) * 10.0, max(second - 20, 0) * 10.0
        seen = recent.step(float(second), Histogram(bounds, (fast, fast + slow, fast + slow), 0.0))
        if second == 19:
            assert quantile(seen, 0.99) <= 0.1
    assert seen.count == 100
    assert quantile(seen, 0.5) > 0.1
    assert len(recent._kept) <= 12


def test_quantiles_are_those_of_prometheus():
    one = Histogram((1.0, 2.0, 4.0, math.inf), (10.0, 30.0, 40.0, 42.0), 0.0)
    assert quantile(one, 0.5) == pytest.approx(1.55)
    assert quantile(one, 0.99) == 4.0, "in the open bucket only its lower bound is known"
    assert math.isnan(quantile(Histogram((1.0, math.inf), (0.0, 0.0), 0.0), 0.5))
    assert since(one, Histogram((1.0, 2.0, 4.0, math.inf), (20.0, 30.0, 40.0, 42.0), 0.0)).bounds == ()


def test_command_lines_of_servers_and_of_others():
    known = {
        "vllm serve m --port 9": "vllm", "python3 -m vllm.entrypoints.openai.api_server --model m": "vllm",
        "/opt/venv/bin/python3.12 -O /opt/venv/bin/vllm serve m": "vllm", "python -m sglang.launch_server": "sglang",
        "/opt/tritonserver/bin/tritonserver --model-repository=/m": "triton", "ollama serve": "ollama",
        "./llama-server -m x.gguf": "llama.cpp", "text-generation-launcher --model-id m": "tgi",
        "vllm bench serve": "", "grep vllm serve": "", "vim vllm": "", "ollama run llama3": "", "python3 -m": "",
        "tail -f /var/log/tritonserver.log": "", "python3 -c vllm": "",
    }
    assert {line: kind_of_command(line.split()) for line in known} == known


def test_settings_come_from_a_closed_list_and_secrets_never():
    argv = ["vllm", "serve", "org/m", "--api-key", "sk-SECRET", "--gpu_memory_utilization=0.85", "--enforce-eager",
            "--no-enable-prefix-caching", "--hf-token", "hf_SECRET", "--max-num-seqs", "$(reboot)"]
    found = flags_given("vllm", argv, {})
    assert found == {"model": "org/m", "gpu_memory_utilization": "0.85", "enforce_eager": "on",
                     "enable_prefix_caching": "off", "max_num_seqs": "?"}
    raw = b"OLLAMA_NUM_PARALLEL=4\0OPENAI_API_KEY=sk-SECRET\0OLLAMA_HOST=0.0.0.0:11500\0"
    env = environment(raw)
    assert "SECRET" not in str(env)
    assert (setting("ollama", "num_parallel", ["ollama", "serve"], env), port_of("ollama", [], env)) == ("4", 11500)
    assert setting("vllm", "kv_cache_dtype", argv, {}) == "auto (default)"
    assert setting("vllm", "max_num_batched_tokens", argv, {}) == "not set"
    with pytest.raises(NoData):
        setting("vllm", "api_key", argv, {})


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=400) | st.sampled_from(sorted(PAGES)).map(lambda n: (FOLDER / f"{n}.txt").read_bytes()),
       st.integers(0, 4000), st.binary(max_size=30))
def test_no_page_raises_anything_but_the_typed_error(page, at_, junk):
    page = page[:at_] + junk + page[at_:]
    kind = kind_of_page(page) or KINDS["vllm"]
    track = Track(10)
    for model, one in by_model(kind, Pages(kind.names()).read(page), "m").items():
        assert model.isprintable()
        assert len(model) <= 80
        for second in (1.0, 2.0):
            assert not any(math.isinf(v) for v in track.step(second, one).values())


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200) | st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
                                              lambda x: st.lists(x, max_size=4) | st.dictionaries(
    st.sampled_from(["models", "size", "size_vram", "name", "is_processing"]), x, max_size=4)).map(
        lambda x: json.dumps(x).encode()))
def test_json_of_any_form_is_values_or_broken(body):
    try:
        found = json_pages(body, "m")
    except Broken:
        return
    assert all(0 <= v <= 4096 for page in found.values() for v in page.values.values())


NAMES = st.from_regex(r"[a-z][a-z0-9_:]{0,9}", fullmatch=True)


def escaped(value):
    """As the text format 0.0.4 has it."""
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(NAMES, st.dictionaries(st.from_regex(r"[a-z][a-z0-9_]{0,5}", fullmatch=True),
                                                 st.text(max_size=20), max_size=3),
                          st.floats(-1e29, 1e29), st.none() | st.integers(0, 2**42)), max_size=6), st.sets(NAMES))
def test_whatever_is_written_on_a_page_is_read(samples, others):
    lines, expected = ["# HELP x y", "# TYPE x gauge"], {}
    for name, labels, value, moment in samples:
        inner = ",".join(f'{key}="{escaped(text)}"' for key, text in labels.items())
        end = "" if moment is None else f" {moment}"
        lines.append(f"{name}{f'{{{inner}}}' if labels or value > 0 else ''} {value!r}{end}")
        expected[Key(name, tuple(labels.items()))] = value
    wanted = {name for name, *_ in samples} - others
    found = Pages(wanted).read(("\n".join(lines) + "\n").encode("utf-8", "replace"))
    assert found == {key: value for key, value in expected.items() if key.name in wanted}


@given(st.lists(st.tuples(st.floats(0.001, 1e4), st.integers(0, 1000)), min_size=1, max_size=8,
                unique_by=lambda one: one[0]), st.integers(0, 1000), st.floats(0.01, 1.0), st.floats(0.01, 1.0))
def test_a_quantile_is_that_of_the_straight_lines_between_the_bounds(buckets, beyond, low, high):
    bounds = (*sorted(bound for bound, _ in buckets), math.inf)
    counts = tuple(np.cumsum([float(n) for _, n in sorted(buckets)] + [float(beyond)]))
    one = histogram(dict(zip(bounds, counts, strict=True)), 1.0)
    assert (one.bounds, one.counts) == (bounds, counts)
    if not counts[-1]:
        assert math.isnan(quantile(one, high))
        return
    found = [quantile(one, share) for share in sorted((low, high))]
    assert found[0] <= found[1] <= bounds[-2]
    for share, value in zip(sorted((low, high)), found, strict=True):
        if share * counts[-1] > counts[-2]:
            assert value == bounds[-2], "beyond the last bound nothing more is known"
        else:
            first = next(i for i, count in enumerate(counts) if count >= share * counts[-1])
            start = (bounds[first - 1], counts[first - 1]) if first else (0.0, 0.0)
            assert value == pytest.approx(np.interp(share * counts[-1], [start[1], counts[first]],
                                                    [start[0], bounds[first]]))
    assert since(one, one).count == 0
    assert histogram(dict(zip(bounds, reversed(counts), strict=True)), 1.0).bounds in ((), bounds)


@given(st.text(max_size=200))
def test_a_model_name_is_one_short_printable_line(text):
    name = model_name(text)
    assert len(name) <= 80
    assert "\n" not in name
    assert "\x1b" not in name


def test_numbers_and_keys_are_strict():
    assert [parse_number(t) for t in (b"1.5", b"-2e3", b"+Inf")][:2] == [1.5, -2000.0]
    assert all(math.isnan(parse_number(t)) for t in (b"1_000", b"0x10", b"nan", b"1e400", b"inf", b"", b"1 2"))
    assert parse_key(b'a{b="c,d}",e="\\"\\n"}').labels == (("b", "c,d}"), ("e", '"\n'))
    assert [parse_key(k) for k in (b'a{b=c}', b'a{b="c"', b"1a", b'a{b="c" d="e"}')] == [None] * 4


def test_a_page_without_end_is_refused():
    with pytest.raises(Broken, match="MiB"):
        Pages(KINDS["vllm"].names()).read(b"x 1\n" * (1 << 21))


@pytest.mark.slow
def test_a_server_whose_labels_change_all_the_time_costs_no_memory():
    pages = Pages(KINDS["vllm"].names())
    for i in range(6):
        pages.read(b"".join(b'vllm:num_requests_running{r="%d"} 1\n' % (i * 10_000 + k) for k in range(10_000)))
    assert len(pages._known) <= 20_000
