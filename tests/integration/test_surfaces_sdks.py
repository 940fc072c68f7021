"""What the makers' own packages make of the surfaces' answers, errors and broken streams."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anthropic
import openai
import pytest
from anthropic.types import MessageParam

from supervisor.contract.config import ModelConfig
from tests.support.gateway import Bench, gateway
from tests.support.speaking_worker import OF_EMBEDDED, TOOL_ARGUMENTS, SpeakingWorker

ALIAS = {"count": ModelConfig(aliases=("claude-local",))}
GO: list[MessageParam] = [{"role": "user", "content": "go"}]


@asynccontextmanager
async def running(directory: Path, worker: SpeakingWorker) -> AsyncIterator[Bench]:
    """Run a gateway before one worker whose model has an alias."""
    async with gateway(directory, worker, wishes=ALIAS) as bench:
        yield bench


@asynccontextmanager
async def claude(bench: Bench, retries: int = 0) -> AsyncIterator[anthropic.AsyncAnthropic]:
    """Anthropic's client, pointed at the gateway."""
    async with anthropic.AsyncAnthropic(base_url=bench.url, api_key="none", max_retries=retries) as client:
        yield client


@asynccontextmanager
async def gpt(bench: Bench, retries: int = 0) -> AsyncIterator[openai.AsyncOpenAI]:
    """OpenAI's client, pointed at the gateway."""
    async with openai.AsyncOpenAI(base_url=f"{bench.url}/v1", api_key="none", max_retries=retries) as client:
        yield client


async def test_anthropics_messages(tmp_path: Path) -> None:
    """Whole and streamed, under an alias, with a tool's input as the model wrote it."""
    async with running(tmp_path, SpeakingWorker("w0")) as bench, claude(bench) as client:
        whole = await client.messages.create(model="claude-local", max_tokens=9, messages=GO)
        assert (whole.model, whole.content[0].type, whole.usage.input_tokens) == ("claude-local", "text", 7)
        async with client.messages.stream(model="claude-local", max_tokens=9, messages=GO) as stream:
            streamed = await stream.get_final_message()
    assert (streamed.model, streamed.stop_reason) == ("claude-local", "end_turn")
    assert streamed.content[0].type == "tool_use"
    assert streamed.content[0].input == TOOL_ARGUMENTS


@pytest.mark.parametrize("failure", ["cut", "cut in a frame", "end early"])
async def test_anthropics_client_raises_what_broke_off(tmp_path: Path, failure: str) -> None:
    """With the gateway's own words."""
    worker = SpeakingWorker("w0")
    worker.script.append(failure)
    async with running(tmp_path, worker) as bench, claude(bench) as client:
        with pytest.raises(anthropic.APIError, match="the worker broke off"):
            async with client.messages.stream(model="count", max_tokens=9, messages=GO) as stream:
                await stream.get_final_message()


async def test_anthropics_client_knows_the_errors(tmp_path: Path) -> None:
    """By their class, with the request's id; what nobody speaks is not tried again."""
    worker = SpeakingWorker("w0")
    async with running(tmp_path, worker) as bench, claude(bench, retries=2) as client:
        with pytest.raises(anthropic.NotFoundError, match="model 'nobody' not found") as missing:
            await client.messages.create(model="nobody", max_tokens=9, messages=GO)
        assert missing.value.request_id
        with pytest.raises(anthropic.InternalServerError, match="embedded") as refused:
            await client.messages.count_tokens(model="count", messages=GO)
        assert refused.value.status_code == 501
    assert worker.loads == []


async def test_anthropics_client_counts_tokens(tmp_path: Path) -> None:
    """Where the engine can."""
    worker = SpeakingWorker("w0", inference_routes=OF_EMBEDDED, engine="embedded")
    async with running(tmp_path, worker) as bench, claude(bench) as client:
        counted = await client.messages.count_tokens(model="claude-local", messages=GO)
    assert counted.input_tokens == 7


async def test_openais_responses(tmp_path: Path) -> None:
    """Whole and streamed, under an alias."""
    async with running(tmp_path, SpeakingWorker("w0")) as bench, gpt(bench) as client:
        whole = await client.responses.create(model="claude-local", input="go")
        assert (whole.model, whole.output[0].type) == ("claude-local", "function_call")
        stream = await client.responses.create(model="claude-local", input="go", stream=True)
        events = [event async for event in stream]
    assert [event.type for event in events] == ["response.created", "response.completed"]
    last = events[-1]
    assert last.type == "response.completed"
    assert last.response.model == "claude-local"


@pytest.mark.parametrize("failure", ["cut", "cut in a frame", "end early"])
async def test_openais_client_raises_what_broke_off(tmp_path: Path, failure: str) -> None:
    """On both of its streamed surfaces, with the gateway's own words."""
    worker = SpeakingWorker("w0")
    worker.script.extend([failure] * 2)
    async with running(tmp_path, worker) as bench, gpt(bench) as client:
        with pytest.raises(openai.APIError, match="the worker broke off"):
            async for _ in await client.responses.create(model="count", input="go", stream=True):
                pass
        with pytest.raises(openai.APIError, match="the worker broke off"):
            async for _ in await client.chat.completions.create(
                model="count", messages=[{"role": "user", "content": "go"}], stream=True
            ):
                pass


async def test_openais_transcriptions(tmp_path: Path) -> None:
    """The form of its client is read, and the model in it renamed."""
    worker = SpeakingWorker("w0")
    sound = io.BytesIO(b"RIFF" * 1000)
    sound.name = "a.wav"
    async with running(tmp_path, worker) as bench, gpt(bench) as client:
        text = await client.audio.transcriptions.create(model="claude-local", file=sound, language="en")
        with pytest.raises(openai.NotFoundError, match="nobody"):
            await client.audio.transcriptions.create(model="nobody", file=sound)
    assert text.text == "one"
    assert worker.served[0]["body"]["model"] == "count"
