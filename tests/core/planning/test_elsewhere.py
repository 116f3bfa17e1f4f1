from __future__ import annotations

import re

import pytest

from core.planning.as_json import plan_as_json
from core.planning.candidates import Candidate
from core.planning.elsewhere import managed, rented, worth_it
from core.planning.gpus import known_gpus, presets_tree, prices_dated
from core.planning.planner import plan
from core.planning.prices import parse_price, remember_price, remembered_price
from core.planning.retuning import retune
from tests.core.planning.test_planner import CHAT, found, machine


def chosen(model: str = "Qwen/Qwen3-8B", method: str = "qlora") -> Candidate:
    return found(plan(machine(24), CHAT), model, method)


def test_every_gpu_that_is_rented_is_priced_as_a_range() -> None:
    offers = rented(chosen())
    assert {one.gpu.name for one in offers} == {gpu.name for gpu in known_gpus() if gpu.price}
    for one in offers:
        assert 0 < one.seconds[0] < one.seconds[1]
        assert 0 < one.dollars[0] < one.dollars[1]
        assert one.dollars[0] <= one.middle <= one.dollars[1]
        assert one.candidate.model.id == "Qwen/Qwen3-8B"
        assert one.candidate.method == "qlora"


def test_the_memory_of_each_is_checked_and_what_fits_comes_first() -> None:
    offers = rented(chosen("meta-llama/Llama-3.1-70B-Instruct"))
    for one in offers:
        assert one.fits == (one.candidate.prediction.high <= one.gpu.usually_free)
    fits = [one.fits for one in offers]
    assert fits == sorted(fits, reverse=True)
    by_name = {one.gpu.name: one for one in offers}
    assert by_name["H100 SXM"].fits
    assert not by_name["RTX 4090"].fits
    fitting = [one.middle for one in offers if one.fits]
    assert fitting == sorted(fitting)


def test_a_larger_gpu_is_quicker_and_uses_its_memory() -> None:
    by_name = {one.gpu.name: one.candidate for one in rented(chosen())}
    small, large = by_name["L4"], by_name["H100 SXM"]
    assert large.seconds is not None
    assert small.seconds is not None
    assert large.seconds < small.seconds
    assert small.gradient_checkpointing
    assert not large.gradient_checkpointing
    assert large.hyper == small.hyper
    assert large.seq_length == small.seq_length


def test_what_another_beats_in_time_and_money_is_not_worth_it() -> None:
    offers = [one for one in rented(chosen()) if one.fits]
    worth = worth_it(offers)
    assert offers[0] in worth, "the cheapest"
    assert min(offers, key=lambda one: one.candidate.seconds or 0) in worth, "the quickest"
    assert 1 < len(worth) < len(offers)


def test_a_price_that_was_typed_for_a_gpu_is_a_point() -> None:
    remember_price("L40S", 0.79)
    one = next(one for one in rented(chosen()) if one.gpu.name == "L40S")
    assert one.typed
    assert one.price == (0.79, 0.79)


def test_services_follow_the_tokens_and_the_size() -> None:
    candidate = chosen()
    twice = retune(candidate, epochs=2 * candidate.hyper.epochs)
    for one, two in zip(managed(candidate), managed(twice), strict=True):
        assert two.dollars == pytest.approx(tuple(2 * dollars for dollars in one.dollars))
    assert candidate.trained_tokens == pytest.approx(1000 * 300 * candidate.hyper.epochs)
    small = {one.service: one.dollars[0] for one in managed(candidate)}
    large = {
        one.service: one.dollars[0] for one in managed(chosen("meta-llama/Llama-3.1-70B-Instruct"))
    }
    assert large["Fireworks"] > small["Fireworks"]
    assert large["Together"] > small["Together"]
    assert large["OpenAI"] == small["OpenAI"]
    own = [one.own_models for one in managed(candidate)]
    assert own == sorted(own), "open models first: they are what was asked for"


def test_every_price_has_its_date_and_is_a_range() -> None:
    assert re.fullmatch(r"20\d\d-\d\d", prices_dated())
    for service in presets_tree("services.yaml")["services"]:
        assert re.fullmatch(r"20\d\d-\d\d", str(service["priced"]))
        for offer in service["offers"]:
            assert offer["dollars"][0] < offer["dollars"][1]


def test_the_json_of_a_plan_says_it_too() -> None:
    tree = plan_as_json(plan(machine(24), CHAT))
    elsewhere = tree["elsewhere"]
    assert elsewhere["model"] == tree["candidates"][tree["recommended"]]["model"]
    assert elsewhere["prices_dated"] == prices_dated()
    first = elsewhere["gpus"][0]
    assert first["fits"]
    assert first["seconds_low"] < first["seconds_high"]
    assert first["dollars_low"] < first["dollars_high"]
    assert {one["service"] for one in elsewhere["services"]} >= {"Together", "OpenAI", "Fireworks"}
    assert all(one["prices_dated"] for one in elsewhere["services"])


@pytest.mark.parametrize(
    ("text", "price"), [("2.49", 2.49), ("$0.5", 0.5), ("", None), ("0", 0.0), (" $ 3 ", 3.0)]
)
def test_a_price_is_read(text: str, price: float | None) -> None:
    assert parse_price(text) == price


@pytest.mark.parametrize("text", ["cheap", "-1", "nan", "inf", "1e9", "2,49"])
def test_what_is_no_price_is_refused(text: str) -> None:
    from core.errors import UserError

    with pytest.raises(UserError, match="number of dollars"):
        parse_price(text)


def test_a_price_is_remembered_by_device_and_forgotten() -> None:
    assert remembered_price("RTX 4090") is None
    remember_price("RTX 4090", 0.42)
    remember_price("L4", 0.6)
    assert remembered_price("RTX 4090") == 0.42
    assert plan(machine(24), CHAT).candidates[0].basis.dollars_per_hour == 0.42
    assert plan(machine(24), CHAT, dollars_per_hour=1.0).candidates[0].basis.dollars_per_hour == 1
    remember_price("RTX 4090", None)
    assert remembered_price("RTX 4090") is None
    assert remembered_price("L4") == 0.6


def test_a_damaged_price_file_is_no_price(tunedeck_home) -> None:  # type: ignore[no-untyped-def]
    tunedeck_home.mkdir()
    for text in ("[", "[1]", '{"L4": "much"}', '{"L4": -3}'):
        (tunedeck_home / "prices.json").write_text(text)
        assert remembered_price("L4") is None
