from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.commands import init
from supervisor.contract.config import Config
from supervisor.contract.yaml_config import parse_config
from supervisor.core.machine import Machine
from supervisor.core.placement import place
from supervisor.core.service_environment import parse_environment
from supervisor.core.spec import WorkerSpec
from supervisor.core.starter_file import starter_file
from supervisor.core.takeover import take_over
from supervisor.host.ollama_service import read_service_environment
from tests.support.machines import PATHS, a_gpu, a_machine, a_mig_instance, an_amd_gpu

OLLAMA = "/usr/bin/ollama"


def text_for(machine: Machine, environment: Mapping[str, str] = {}, service: Mapping[str, str] = {}) -> str:
    """Return the file for a machine and Ollama's variables."""
    has_ollama = machine.ollama_path is not None
    return starter_file(machine, take_over(environment, service, has_ollama=has_ollama))


def config_for(
    environment: Mapping[str, str], service: Mapping[str, str] = {}, *, ollama_path: str | None = OLLAMA
) -> Config:
    """Return what the file means on a machine with one GPU."""
    return parse_config(text_for(a_machine(gpus=1, ollama_path=ollama_path), environment, service), file="f")


def remark(environment: Mapping[str, str], *, has_ollama: bool = True) -> str:
    """Return why the one variable is not taken over."""
    (taken,) = take_over(environment, {}, has_ollama=has_ollama)
    assert not taken.key
    return taken.remark


def placed(machine: Machine, engines: Collection[str] = ("embedded", "ollama")) -> tuple[WorkerSpec, ...]:
    """Return the workers that the file for a machine means on it."""
    return place(parse_config(text_for(machine), file="f"), machine, paths=PATHS, engines=engines)


MACHINES = {
    "no GPU": a_machine(),
    "one core": a_machine(cores=(3,)),
    "no GPU, Ollama": a_machine(ollama_path=OLLAMA),
    "two GPUs": a_machine(gpus=2, ollama_path=OLLAMA),
    "two GPUs, no Ollama": a_machine(gpus=2),
    "MIG": replace(
        a_machine(ollama_path=OLLAMA), gpus=(a_gpu(0), a_mig_instance(1, 0), a_mig_instance(1, 4))
    ),
    "AMD": replace(
        a_machine(ollama_path=OLLAMA), gpus=(replace(an_amd_gpu(0), uuid="0"), an_amd_gpu(1, gib=0.5))
    ),
}


@pytest.mark.parametrize("machine", MACHINES.values(), ids=list(MACHINES))
def test_the_file_means_workers_on_the_machine_it_was_written_for(machine: Machine) -> None:
    """As `corral check` would say."""
    assert placed(machine)


def test_each_gpu_found_has_a_worker_of_its_own_in_the_file() -> None:
    """The same as with `workers: auto`, ready to be edited."""
    machine = MACHINES["MIG"]
    automatic = place(Config(), machine, paths=PATHS, engines=("embedded", "ollama"))
    assert placed(machine) == automatic
    assert "gpus: [MIG-1-4]  # GPU 1 MIG 4 (NVIDIA A100 MIG 1g.10gb, 10.0 GiB)" in text_for(machine)


def test_without_ollama_the_workers_compute_on_the_cpu_and_the_file_says_what_to_do() -> None:
    """The embedded engine would leave the GPUs idle in silence."""
    text = text_for(MACHINES["two GPUs, no Ollama"])
    assert all(not worker.gpu_uuids for worker in placed(MACHINES["two GPUs, no Ollama"]))
    assert "Once Ollama is installed" in text
    assert "#   - name: gpu1\n" in text


def test_every_limit_of_ollama_has_its_key() -> None:
    """With the value that the running server has."""
    config = config_for(
        {
            "OLLAMA_MODELS": "/srv/models$1",
            "OLLAMA_NUM_PARALLEL": "8",
            "OLLAMA_MAX_LOADED_MODELS": "2",
            "OLLAMA_MAX_QUEUE": "1024",
            "OLLAMA_CONTEXT_LENGTH": "8192",
            "OLLAMA_KEEP_ALIVE": "24h",
            "OLLAMA_FLASH_ATTENTION": "1",
            "OLLAMA_KV_CACHE_TYPE": "Q8_0",
            "OLLAMA_LOAD_TIMEOUT": "10m",
            "OLLAMA_HOST": "127.0.0.1:12000",
            "OLLAMA_GPU_OVERHEAD": "1000",
            "HSA_OVERRIDE_GFX_VERSION": "10.3.0",
            "PATH": "/bin",
        }
    )
    defaults = config.worker_defaults
    assert (defaults.num_parallel, defaults.max_loaded_models, defaults.max_queue) == (8, 2, 1024)
    assert (defaults.context_length, defaults.keep_alive) == (8192, 86400)
    assert (defaults.flash_attention, defaults.kv_cache_type) == (True, "q8_0")
    assert defaults.env == {"OLLAMA_GPU_OVERHEAD": "1000", "HSA_OVERRIDE_GFX_VERSION": "10.3.0"}
    assert (config.store, config.listen) == ("/srv/models$$1", "127.0.0.1:12000")
    assert config.gateway.load_timeout == 600


@pytest.mark.parametrize(("text", "seconds"), [("-1", None), ("-5m", None), ("300", 300), ("0", 0)])
def test_keep_alive_is_read_as_ollama_reads_it(text: str, seconds: float | None) -> None:
    """Bare numbers are seconds; anything negative is for ever."""
    assert config_for({"OLLAMA_KEEP_ALIVE": text}).worker_defaults.keep_alive == seconds


@pytest.mark.parametrize(
    ("host", "listen"),
    [
        ("127.0.0.1", "127.0.0.1:11434"),
        ("localhost:1", "localhost:1"),
        ("http://127.0.0.1", "127.0.0.1:80"),
        ("[::1]", "[::1]:11434"),
        ("::1", "[::1]:11434"),
        ("[::1]:5/path", "[::1]:5"),
    ],
)
def test_the_address_is_read_as_ollama_reads_it(host: str, listen: str) -> None:
    """A host, a port, both, with or without a scheme."""
    assert config_for({"OLLAMA_HOST": host}).listen == listen


@pytest.mark.parametrize(
    ("host", "listen"), [("0.0.0.0", "0.0.0.0:11434"), ("::", "[::]:11434"), (":8080", "0.0.0.0:8080")]
)
def test_an_address_beyond_loopback_is_a_question_in_the_file(host: str, listen: str) -> None:
    """Nobody is let in without being asked for; the answer is two lines to uncomment."""
    text = text_for(a_machine(), service={"OLLAMA_HOST": host})
    assert parse_config(text, file="f").listen == "127.0.0.1:11434"
    question = text[text.index("# OLLAMA_HOST of ollama.service") :].splitlines()
    assert question[3] == "# auth: none"
    assert listen in question[4]
    opened = text.replace("\nlisten:", "\n#").replace("# auth", "auth").replace("# listen", "listen")
    assert parse_config(opened, file="f").listen == listen


def test_the_environment_wins_over_the_service() -> None:
    """It is what the person who runs the command has now."""
    config = config_for({"OLLAMA_MAX_QUEUE": "7"}, {"OLLAMA_MAX_QUEUE": "8", "OLLAMA_DEBUG": "1"})
    assert config.worker_defaults.max_queue == 7
    assert config.worker_defaults.env == {"OLLAMA_DEBUG": "1"}


@pytest.mark.parametrize(
    ("variable", "value", "why"),
    [
        ("OLLAMA_NUM_PARALLEL", "0", "0 leaves it to Ollama, and here to Corral's default"),
        ("OLLAMA_NUM_PARALLEL", "999", "Corral's worker_defaults.num_parallel does not take it"),
        ("OLLAMA_NUM_PARALLEL", "many", "it is no number, so Ollama ignored it too"),
        ("OLLAMA_KEEP_ALIVE", "soon", "it is no duration, so Ollama ignored it too"),
        ("OLLAMA_KV_CACHE_TYPE", "q8_0", "Ollama ignored it: it needs OLLAMA_FLASH_ATTENTION=1"),
        ("OLLAMA_LOAD_TIMEOUT", "0", "Corral gives up every load at some time"),
        ("OLLAMA_VULKAN", "1", "it would show a worker the GPUs of the others"),
        ("CUDA_VISIBLE_DEVICES", "1", "Corral shows each worker its own GPUs"),
        ("OLLAMA_HOST", "a b", '"a b:11434" is no address'),
        ("OLLAMA_DEBUG", "\udcff", "it is no UTF-8"),
    ],
)
def test_what_is_not_taken_over_is_told_with_the_reason(variable: str, value: str, why: str) -> None:
    """Nothing is lost in silence, and nothing invalid is written."""
    assert remark({variable: value}).startswith(why)
    config_for({variable: value})


def test_what_only_ollama_heeds_is_left_out_where_there_is_none() -> None:
    """`corral check` would refuse it."""
    assert "no ollama binary" in remark({"OLLAMA_FLASH_ATTENTION": "1"}, has_ollama=False)


@given(
    st.dictionaries(
        st.sampled_from(
            ["OLLAMA_HOST", "OLLAMA_MODELS", "OLLAMA_KEEP_ALIVE", "OLLAMA_MAX_QUEUE", "OLLAMA_X"]
        ),
        st.text(max_size=8).filter(lambda text: "\0" not in text),
    )
)
def test_no_value_breaks_the_file(environment: dict[str, str]) -> None:
    """Whatever stands in the variables, the file can be read, and what it says of the others is the same."""
    config = config_for(environment)
    assert config.worker_defaults.num_parallel == "auto"
    assert config.worker_defaults.env.get("OLLAMA_X", "") == environment.get("OLLAMA_X", "")


def test_what_systemd_says_of_a_unit_is_read() -> None:
    """One line, quoted where it must be."""
    said = 'Environment=PATH=/bin "OLLAMA_MODELS=/my models" OLLAMA_DEBUG=1\n'
    assert parse_environment([said]) == {"PATH": "/bin", "OLLAMA_MODELS": "/my models", "OLLAMA_DEBUG": "1"}
    assert parse_environment(["Environment=\n"]) == {}


def test_without_systemd_the_units_files_are_read(tmp_path: Path) -> None:
    """Drop-ins in their order; an empty assignment forgets what came before."""
    unit = tmp_path / "etc/systemd/system/ollama.service"
    drop_ins = unit.with_name("ollama.service.d")
    drop_ins.mkdir(parents=True)
    unit.write_text('[Service]\nExecStart=/bin/ollama serve\nEnvironment="PATH=/bin"\nEnvironment=A=1\n')
    (drop_ins / "20.conf").write_text('[Service]\nEnvironment="OLLAMA_HOST=0.0.0.0" \\\n "OLLAMA_DEBUG=1"\n')
    (drop_ins / "10.conf").write_text('[Service]\nEnvironment=\nEnvironment="broken\nEnvironment="B=2"\n')
    expected = {"B": "2", "OLLAMA_HOST": "0.0.0.0", "OLLAMA_DEBUG": "1"}
    assert read_service_environment(lambda: None, tmp_path) == expected
    assert read_service_environment(lambda: "Environment=\n", tmp_path) == expected
    assert read_service_environment(lambda: "Environment=C=3\n", tmp_path) == {"C": "3"}
    assert read_service_environment(lambda: None, tmp_path / "nowhere") == {}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Run in an empty directory on a machine with a GPU and a service of Ollama's."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(init, "read_machine", lambda: a_machine(gpus=1, ollama_path=OLLAMA))
    monkeypatch.setattr(init, "read_service_environment", lambda: {"OLLAMA_NUM_PARALLEL": "2"})
    for name in ("OLLAMA_HOST", "OLLAMA_MODELS", "OLLAMA_NUM_PARALLEL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OLLAMA_HOST", "0.0.0.0")
    return tmp_path


def run_init(*arguments: str) -> int:
    """Run the command with arguments and return its exit code."""
    parser = ArgumentParser()
    init.add_arguments(parser)
    return init.run(parser.parse_args(arguments))


def test_the_command_writes_the_file_and_tells_what_it_took_over(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And from where, and what not."""
    assert run_init() == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "corral.yaml: written"
    assert (
        "  OLLAMA_HOST=0.0.0.0 (the environment) is not taken over: 0.0.0.0:11434 is reachable from other "
        "machines: the file asks what you want"
    ) in lines
    assert "  OLLAMA_NUM_PARALLEL=2 (ollama.service) -> worker_defaults.num_parallel" in lines
    assert lines[-1] == "see what it means: corral check corral.yaml"
    assert parse_config((here / "corral.yaml").read_text(), file="f").worker_defaults.num_parallel == 2


def test_a_file_that_is_there_stays_unless_force_is_given(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It may hold a day's work."""
    file = here / "mine.yaml"
    file.write_text("# mine\n")
    assert run_init("--output", str(file)) == 2
    assert "is there already" in capsys.readouterr().err
    assert file.read_text() == "# mine\n"
    assert run_init("--output", str(file), "--force") == 0
    assert "workers:" in file.read_text()


def test_a_file_that_cannot_be_written_is_told_with_the_reason(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Such as in a directory that is not there."""
    assert run_init("-o", str(here / "nowhere" / "c.yaml")) == 1
    assert "cannot be written: No such file or directory" in capsys.readouterr().err
