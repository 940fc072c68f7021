"""Answers of /api/show: asked of one worker that has the model, and kept.

Decides who is asked, for how long, and what is kept. An answer belongs to a name and the digest behind it,
so that a model that was pulled or created anew is read anew; those that ask at once share one question.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final
from weakref import WeakValueDictionary

import aiohttp

from gateway.fleet.roster import Roster, key_of
from gateway.surfaces.model_lists import Listed
from gateway.surfaces.show import ShowRequest
from supervisor.contract.fleet import WorkerStatus

Key = tuple[str, str, bool]
"""Name, digest, verbose."""

_ANSWER_S: Final = 4.0
"""For one worker's answer: clients give up after 10 s, and the next one may be quicker."""
_MOST_BYTES: Final = 32 * 2**20
_MOST_EACH: Final = 8 * 2**20
"""A verbose answer has the whole vocabulary."""


@dataclass(frozen=True, slots=True)
class Shown:
    """What a worker said."""

    status: int
    body: bytes


class NotShownError(Exception):
    """No worker that has the model answers."""

    def __init__(self, message: str, status: HTTPStatus) -> None:
        super().__init__(message)
        self.status = status


class Shows:
    """Asks and keeps."""

    def __init__(self, session: aiohttp.ClientSession, roster: Roster) -> None:
        """Share the gateway's session; the roster is only read."""
        self._session = session
        self._roster = roster
        self._kept: OrderedDict[Key, Shown] = OrderedDict()
        self._bytes = 0
        self._asking: WeakValueDictionary[Key, asyncio.Lock] = WeakValueDictionary()

    async def show(self, asked: ShowRequest, model: Listed) -> Shown:
        """Return the answer for one name.

        Raises:
            NotShownError: no worker that has the model is ready, or none of them answers.
        """
        if not asked.cacheable:
            return await self._ask(asked, model)
        key: Key = (key_of(model.own_name) or "", model.digest, asked.verbose)
        lock = self._asking.setdefault(key, asyncio.Lock())
        async with lock:
            if key not in self._kept:
                shown = await self._ask(asked, model)
                if shown.status != HTTPStatus.OK or len(shown.body) > _MOST_EACH:
                    return shown
                self._keep(key, shown)
            self._kept.move_to_end(key)
            return self._kept[key]

    def _keep(self, key: Key, shown: Shown) -> None:
        self._kept[key] = shown
        self._bytes += len(shown.body)
        while self._bytes > _MOST_BYTES:
            _, dropped = self._kept.popitem(last=False)
            self._bytes -= len(dropped.body)

    async def _ask(self, asked: ShowRequest, model: Listed) -> Shown:
        """Ask one worker after the other until one answers."""
        holders = [status for status in self._roster.ready() if status.worker in model.workers]
        error = NotShownError(f"no worker that has {model.name} is ready", HTTPStatus.SERVICE_UNAVAILABLE)
        for status in holders[:2]:
            try:
                async with asyncio.timeout(_ANSWER_S):
                    return await self._post(status, asked.body_for(model.own_name))
            except (aiohttp.ClientError, TimeoutError) as failure:
                text = f"worker {status.worker} does not show {model.name}: {failure or 'no answer in time'}"
                error = NotShownError(text, HTTPStatus.BAD_GATEWAY)
        raise error

    async def _post(self, status: WorkerStatus, body: bytes) -> Shown:
        url, headers = status.base_url + "/api/show", {"Content-Type": "application/json"}
        async with self._session.post(url, data=body, headers=headers) as response:
            return Shown(response.status, await response.read())
