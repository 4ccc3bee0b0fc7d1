"""How many inference servers are watched, and which of them when there are more."""

from collector.inference import Config, Inference
from collector.inference_find import Server


def test_one_that_is_gone_makes_room_for_one_that_is_there() -> None:
    one = Inference(Config(max_servers=2))
    for name in ("first", "second", "third"):
        one._add(Server(name, "vllm", f"http://127.0.0.1:1/{name}"), {}, fixed=False)
    assert list(one._watches) == ["first", "second"]
    one._watches["first"].gone_s = 5.0
    one._add(Server("third", "vllm", "http://127.0.0.1:1/third"), {}, fixed=False)
    assert list(one._watches) == ["second", "third"]
    one.close()
