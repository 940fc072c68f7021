from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.contract.config import Config
from supervisor.contract.schema_mistakes import sections
from supervisor.contract.yaml_config import ConfigError, ConfigMistake, parse_config
from supervisor.contract.yaml_tree import read_tree
from supervisor.host.config_file import load_source

CONFIGS = Path(__file__).parents[2] / "configs"
JARGON = ("Input should", "NoneType", "Error", "tuple", "literal", "Annotated")


def mistakes_of(text: str) -> list[str]:
    """Return the mistakes of a text without the file's name."""
    with pytest.raises(ConfigError) as caught:
        parse_config(text, file="f.yaml")
    return [str(mistake).removeprefix("f.yaml:") for mistake in caught.value.mistakes]


@pytest.mark.parametrize("text", ["", "# only a comment\n", "---\n", "{}\n", "workers: auto\n"])
def test_a_file_that_says_nothing_means_the_defaults(text: str) -> None:
    """Whatever way it says nothing."""
    assert parse_config(text, file="f.yaml") == Config()


def test_every_mistake_is_named_at_once_with_its_line() -> None:
    """Mending one mistake must not bring up the next."""
    text = """\
listen: 0.0.0.0:11434
lisen: 127.0.0.1:1
worker_defaults:
  num-parallel: 2
  engine: vllm
workers:
  - name: a
    gpus: 0
  - name: a
    memory: 20
gateway:
  max_body_size: many
"""
    assert mistakes_of(text) == [
        (
            '1: listen: "0.0.0.0:11434" is reachable from other machines and there are no keys: '
            "listen on 127.0.0.1, or write auth: none"
        ),
        "2: lisen: is not known here; did you mean listen?",
        "4: worker_defaults.num-parallel: is not known here; did you mean num_parallel?",
        '5: worker_defaults.engine: must be auto, embedded or ollama, not "vllm"',
        "8: workers[0].gpus: must be a list, not 0: write [0]",
        '9: workers[1].name: "a" is the name of workers[0] already: each needs its own',
        "10: workers[1].memory: 20 has no unit: write a size such as 20GiB, a share such as 80%, or auto",
        '12: gateway.max_body_size: "many" is no size: write it as 20GiB, 512MiB or a number of bytes',
    ]


@pytest.mark.parametrize(
    ("text", "mistake"),
    [
        ("cpu_workers: 0", "1: cpu_workers: must be at least 1, not 0"),
        ("cpu_workers: 2.0", "1: cpu_workers: must be a whole number, not 2.0"),
        ("cpu_workers: 1000", "1: cpu_workers: must be at most 64, not 1000"),
        (
            "num_parallel: 2",
            "1: num_parallel: is not known here; it belongs under worker_defaults, workers[] or external[]",
        ),
        ("store: 5", '1: store: must be a text, not 5: put it into quotes, "5"'),
        ("store: ''", '1: store: "" can be no directory\'s path: write one, or remove the key'),
        (
            'gguf_dir: "a\\0b"',
            '1: gguf_dir: "a\\u0000b" can be no directory\'s path: write one, or remove the key',
        ),
        ("workers: 5", "1: workers: must be auto or a list of workers, not 5"),
        ("workers: manual", '1: workers: must be auto or a list of workers, not "manual"'),
        ("workers: []", "1: workers: is an empty list: write at least one worker, or auto"),
        ("workers:\n- gpus: [0]", "2: workers[0].name: is missing: it has no default, so write it"),
        ("- a", "1: the file must hold keys with values, such as workers: auto"),
        (
            "worker_defaults:\n  env: [A]",
            '2: worker_defaults.env: must be names with values (NAME: value), not ["A"]',
        ),
        (
            "worker_defaults:\n  env: {CUDA_VISIBLE_DEVICES: '0'}",
            (
                "2: worker_defaults.env.CUDA_VISIBLE_DEVICES: CUDA_VISIBLE_DEVICES is Corral's to set: "
                "write the key gpus instead"
            ),
        ),
        (
            "worker_defaults: {flash_attention: 'yes'}",
            '1: worker_defaults.flash_attention: must be true or false, not "yes"',
        ),
        (
            "models: {m: {alias: [a]}}",
            "1: models.m.alias: is not known here; did you mean aliases?",
        ),
        (
            "models: {m: }",
            (
                "1: models.m: is empty: write its keys beneath it, indented, or leave it out "
                "(keys: aliases, pin, min_replicas, max_replicas, context_length)"
            ),
        ),
        (
            "external: [{name: a, url: '10.0.0.7', memory: 8GiB}]",
            '1: external[0].url: "10.0.0.7" is no address of a worker: write http://HOST:PORT',
        ),
        (
            "worker_defaults: {num_parallel: many}",
            '1: worker_defaults.num_parallel: must be auto or a number from 1 to 256, not "many"',
        ),
        (
            "log:",
            "1: log: is empty: write its keys beneath it, indented, or leave it out (keys: level, format)",
        ),
    ],
)
def test_a_mistake_says_what_to_write_instead(text: str, mistake: str) -> None:
    """In the words of the file, not of the program."""
    assert mistakes_of(text) == [mistake]


@pytest.mark.parametrize(
    ("text", "mistake"),
    [
        ("log: {}\nlog: {}", "2: log: is given twice, first in line 1: keep one of the two"),
        ("log: {level: a, level: b}", "1: log.level: is given twice, first in line 1: keep one of the two"),
        ("log: {}\n---\nlog: {}", "2: a second document begins: a file holds one, so remove the ---"),
        ("log: &a {}", "1: log: &a is an anchor: remove it, and write values out"),
        ("log: *a", "1: log: *a is an alias: write the value out"),
        ("log: !!map {}", "1: log: tag:yaml.org,2002:map is a tag: remove it; put texts into quotes"),
        ("1: x", '1: a key must be a text: write "1" with its quotes'),
        ("[a]: x", "1: a key must be a text"),
        ("cpu_workers: .inf", '1: cpu_workers: ".inf" is no number that can be used here'),
        ("log:\n\tlevel: info", ("2: this is no YAML: found character '\\t' that cannot start any token; "
         "indent with spaces, not with tabs")),
        ("a: b: c", "1: this is no YAML: mapping values are not allowed here"),
        ("\n\x07", "2: the character U+0007 may not stand in YAML"),
        ('store: "\\ud800"', "1: store: '\\ud800' holds half of a character: write it whole"),
        ("[" * 100, "1: lists and keys are nested too deep; nothing in this file needs that"),
    ],
)  # fmt: skip
def test_what_yaml_would_swallow_is_a_mistake(text: str, mistake: str) -> None:
    """PyYAML takes the last of two keys, expands aliases without end and builds objects from tags."""
    assert mistake in mistakes_of(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1:30", "1:30"),
        ("no", "no"),
        ("2026-01-01", "2026-01-01"),
        ("1_000", "1_000"),
        ("010", 10),
        ("0o10", 8),
        ("0x10", 16),
        ("1e3", 1000.0),
        ("'1'", "1"),
        ("~", None),
        ("", None),
        ("TRUE", True),
    ],
)
def test_values_mean_what_they_mean_in_yaml_1_2(text: str, value: object) -> None:
    """In YAML 1.1, which PyYAML reads, 1:30 is 90 and no is false."""
    tree = read_tree(f"a: {text}")
    assert tree.value == {"a": value}
    assert not tree.mistakes


def test_of_very_many_mistakes_the_first_are_told_and_the_others_counted() -> None:
    """In the order of the lines, whoever found them; each sentence costs its guess of what was meant."""
    unknown = "".join(f"key_{number}: 1\n" for number in range(500))
    told = mistakes_of(f"{unknown}cpu_workers: 0\nlog: &a {{}}\n")
    assert [line.partition(" ")[0] for line in told[:-1]] == [f"{number}:" for number in range(1, 21)]
    assert told[0].startswith("1: key_0: is not known here")
    assert told[-1] == " 482 more: mend these first"


def test_as_many_mistakes_as_are_told_are_all_told() -> None:
    """Nothing is counted that is not left out."""
    told = mistakes_of("".join(f"key_{number}: 1\n" for number in range(20)))
    assert len(told) == 20
    assert "more: mend" not in told[-1]


@pytest.mark.parametrize("line", ["key_{}: 1\n", "- {}\n", "a: {}\n", "a: [{}]\n"])
def test_a_file_with_more_values_than_any_configuration_is_not_read_to_its_end(line: str) -> None:
    """It is another file, and its mistakes would take minutes to find."""
    text = "".join(line.format(number) for number in range(60_000))
    (mistake,) = read_tree(text).mistakes[-1:]
    assert mistake.message == "more keys and values than any configuration has: name another file"


def test_whether_keep_alive_was_given_can_be_told_from_for_ever() -> None:
    """None is for ever, so the fields that were set decide whether the default holds."""
    config = parse_config("workers: [{name: a, keep_alive: -1}, {name: b}]", file="f.yaml")
    assert config.workers != "auto"
    assert ["keep_alive" in worker.model_fields_set for worker in config.workers] == [True, False]


def test_listening_beyond_loopback_needs_so_many_words() -> None:
    """Also for addresses that only look local."""
    for host in ("0.0.0.0", "[::]", "192.168.1.2", "127.0.0.1.example", "[::ffff:1]", "box"):
        assert "there are no keys" in mistakes_of(f'listen: "{host}:1"')[0]
        assert parse_config(f'auth: none\nlisten: "{host}:1"', file="").listen == f"{host}:1"
    for host in ("127.0.0.1", "127.8.9.1", "localhost", "[::1]"):
        assert parse_config(f'listen: "{host}:1"', file="").listen == f"{host}:1"


@given(
    st.sampled_from([section for section in sections() if section]),
    st.data(),
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.text(max_size=4), st.just([]), st.just({}), st.just([{}])
    ),
)
def test_no_mistake_speaks_of_the_program(section: str, data: st.DataObject, value: object) -> None:
    """Whatever stands behind whatever key: valid, or a sentence of ours with a line."""
    key = data.draw(st.sampled_from(list(sections()[section].model_fields)))
    entry = {key: value}
    inside = {"[]": [entry], "{}": {"m:1b": entry}}.get(section[-2:], entry)
    tree = {section.rstrip("[]{}"): inside}
    try:
        parse_config(json.dumps(tree), file="f.yaml")
    except ConfigError as error:
        for mistake in error.mistakes:
            assert mistake.line == 1
            assert not any(word in str(mistake) for word in JARGON)


def test_the_reference_file_shows_every_key_with_its_default() -> None:
    """It is the documentation, so it must not drift from the schema."""
    shown = read_tree((CONFIGS / "corral.yaml").read_text()).value
    assert isinstance(shown, dict)
    for name, model in sections().items():
        section = shown if name == "" else shown.get(name)
        if not name.endswith(("[]", "{}")):
            assert isinstance(section, dict)
            assert list(section) == list(model.model_fields), name
    assert load_source(CONFIGS / "corral.yaml").config == Config()


def test_the_demo_computes_on_the_cpu_and_leaves_an_installed_ollama_alone() -> None:
    """It must run on any box, and must not read or write anybody's models."""
    demo = load_source(CONFIGS / "demo.yaml").config
    assert demo.workers != "auto"
    assert [worker.gpus for worker in demo.workers] == [(), ()]
    assert demo.worker_defaults.engine == "embedded"
    assert demo.store is not None
    assert "corral" in demo.store
    assert demo.gguf_dir is None


def test_a_file_that_cannot_be_read_is_a_mistake_like_others(tmp_path: Path) -> None:
    """With the system's reason, or the line that is no UTF-8."""
    file = tmp_path / "c.yaml"
    with pytest.raises(ConfigError) as caught:
        load_source(file)
    reason = "the file cannot be read: No such file or directory"
    assert caught.value.mistakes == (ConfigMistake(str(file), None, "", reason),)
    file.write_bytes(b"log: {}\nstore: \xff\n")
    with pytest.raises(ConfigError, match=r"c\.yaml:2: the byte 0xff is no UTF-8"):
        load_source(file)


def test_what_is_far_too_long_for_a_configuration_is_not_read_to_its_end() -> None:
    """As when the name of a device or a model's file stands there: memory would run out."""
    with pytest.raises(ConfigError, match="/dev/zero: is longer than 4 MiB and can be no configuration"):
        load_source(Path("/dev/zero"))


def test_without_a_file_everything_has_its_default() -> None:
    """`corral up` needs no file."""
    assert load_source(None).config == Config()
