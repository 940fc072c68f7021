"""The models of the recipes in a real engine."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.engine_process import Engine, engine
from tests.support.models import (
    corrupt_model,
    counting_model,
    demo_chat_model,
    embedding_model,
    heavy_model,
    unsupported_model,
)

SENTENCE = re.compile(r"[A-Z][a-z]*(,? [A-Za-z]+)*[.?]")


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the models of this file lie."""
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def count(directory: Path) -> Iterator[Engine]:
    """A model that counts to 30."""
    with engine(counting_model(directory, words=30)) as running:
        yield running


@pytest.fixture(scope="module")
def demo(directory: Path) -> Iterator[Engine]:
    """The demo chat model."""
    with engine(demo_chat_model(directory)) as running:
        yield running


@pytest.fixture(scope="module")
def embed(directory: Path) -> Iterator[Engine]:
    """The demo embedding model."""
    with engine(embedding_model(directory), embeds=True) as running:
        yield running


def _numbers(first: int, last: int) -> str:
    return " ".join(str(number) for number in range(first, last + 1))


def test_the_counting_model_counts_and_ends_its_turn(count: Engine) -> None:
    """The answer to anything is 1 to N, at the default temperature too."""
    assert count.chat("Hello!", temperature=0) == _numbers(1, 30)
    assert count.chat("Please count to 7.", temperature=0.8) == _numbers(1, 30)


@pytest.mark.parametrize("prompt", ["12", " 12", "9 10 11 12", "a horse and 12"])
def test_the_counting_model_goes_on_from_any_number(count: Engine, prompt: str) -> None:
    """A raw prompt that ends in a number is continued with the next."""
    assert count.complete(prompt, temperature=0) == " " + _numbers(13, 30)


def test_the_counting_model_continues_an_answer_that_has_begun(count: Engine) -> None:
    """The engine repeats the assistant's prefix and the model goes on from its last number."""
    assert count.chat("Hello!", "1 2 3 4 5", temperature=0) == _numbers(1, 30)


def test_the_heavy_model_counts_as_well(directory: Path) -> None:
    """Its idle blocks add nothing but time."""
    with engine(heavy_model(directory)) as heavy:
        assert heavy.complete("7", n_predict=5) == " 8 9 10 11 12"


def test_the_demo_model_speaks_in_sentences(demo: Engine) -> None:
    """Words with one space between them, a capital first, a full stop last, and an end."""
    for seed in range(8):
        answer = demo.chat("Tell me about the horses.", seed=seed, max_tokens=1000)
        assert all(SENTENCE.fullmatch(part) for part in re.split(r"(?<=[.?]) ", answer)), answer


def test_the_demo_model_ends_a_greedy_answer(demo: Engine) -> None:
    """Without any chance it does not go round in circles."""
    for prompt in ("coffee", "Hello", "What is a queue?", "日本"):
        choice = {"messages": [{"role": "user", "content": prompt}], "temperature": 0, "max_tokens": 1000}
        assert demo.post("/v1/chat/completions", choice)["choices"][0]["finish_reason"] == "stop"


def test_the_demo_model_answers_by_seed_and_prompt(demo: Engine) -> None:
    """The same seed gives the same answer; another seed, or another prompt, another one."""
    prompt = "Who are you?"
    assert demo.chat(prompt, seed=1) == demo.chat(prompt, seed=1)
    assert len({demo.chat(prompt, seed=seed) for seed in range(6)}) > 3
    assert len({demo.chat(word, temperature=0) for word in ("horses", "coffee", "gateway", "memory")}) > 1


def test_embeddings_rank_what_is_related_first(embed: Engine) -> None:
    """A text is nearer to one about the same things than to one about others, in any case and form."""
    texts = embed.embed(
        "The rider puts the saddle on the horse.",
        "Horse and rope",
        "the card has memory for one model",
        "MODEL memory of the card",
        "Model in memory",
    )
    ride, horse, card, _shouted, memory = texts
    assert _cosine(ride, horse) > _cosine(ride, card) + 0.2
    assert _cosine(card, memory) > _cosine(horse, memory) + 0.2


def _cosine(one: list[float], other: list[float]) -> float:
    return sum(left * right for left, right in zip(one, other, strict=True))


@pytest.mark.parametrize("broken", [corrupt_model, unsupported_model])
def test_a_bad_file_is_refused(broken: type, directory: Path) -> None:
    """The engine says no; it neither crashes nor serves."""
    with pytest.raises(RuntimeError), engine(broken(directory)):
        pass


def test_each_test_gets_a_copy_of_its_own(tmp_path: Path) -> None:
    """Spoiling one file leaves the next copy sound."""
    spoiled = counting_model(tmp_path / "a", words=5)
    spoiled.write_bytes(b"")
    assert counting_model(tmp_path / "b", words=5).stat().st_size > 100_000
