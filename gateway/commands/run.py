"""`corral run MODEL`: a small chat in the terminal, to try the endpoint without another client."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress

import ollama

from gateway.commands.endpoint import add_endpoint_arguments, with_client
from supervisor.contract.command import EXIT_OK

HELP = "chat with a model in the terminal"

_INVITATION = "Type a message and Enter. Ctrl-C stops an answer, Ctrl-D ends the chat."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("model", metavar="MODEL", help="a name that `corral models` lists")
    parser.add_argument(
        "prompt", metavar="PROMPT", nargs="*", help="ask this one thing and end; without it, chat"
    )
    parser.add_argument("--system", metavar="TEXT", help="what the model is told before the chat")
    add_endpoint_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Chat until the person has enough, or answer one prompt."""
    prompt = " ".join(args.prompt)
    return with_client(args, "run", lambda client: _converse(Chat(client, args.model, args.system), prompt))


class Chat:
    """The conversation so far, and the next answer."""

    def __init__(self, client: ollama.Client, model: str, system: str | None) -> None:
        """Begin with what the model is told, if anything."""
        self._client = client
        self._model = model
        self._messages = [] if system is None else [{"role": "system", "content": system}]

    def answers(self, question: str) -> Iterator[str]:
        """Yield the pieces of an answer; what was said is remembered, also when it is broken off."""
        self._messages.append({"role": "user", "content": question})
        said: list[str] = []
        try:
            for part in self._client.chat(self._model, self._messages, stream=True):
                said.append(part.message.content or "")
                yield said[-1]
        finally:
            self._messages.append({"role": "assistant", "content": "".join(said)})


def _converse(chat: Chat, prompt: str) -> int:
    if prompt or not sys.stdin.isatty():
        _show(chat.answers(prompt or sys.stdin.read()))
        return EXIT_OK
    print(_INVITATION)
    while True:
        try:
            question = input(">>> ").strip()
        except (EOFError, KeyboardInterrupt):
            print()
            return EXIT_OK
        if question:
            with suppress(KeyboardInterrupt):
                _show(chat.answers(question))
            print()


def _show(pieces: Iterable[str]) -> None:
    begun = False
    try:
        for piece in pieces:
            print(piece, end="", flush=True)
            begun = True
    finally:
        if begun:
            print()
