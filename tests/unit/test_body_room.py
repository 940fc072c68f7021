from __future__ import annotations

import asyncio

import pytest

from gateway.http import body_room
from gateway.http.body_room import SMALL_BYTES, BodyRoom, HeldBody, NoRoomError

LARGE = 4 * SMALL_BYTES


def a_room(large: int = 1) -> BodyRoom:
    """Return one for so many large bodies, and what is kept for small ones."""
    return BodyRoom(large * LARGE * 8 // 7 + 8)


def waits(room: BodyRoom, size_bytes: int) -> asyncio.Task[None]:
    """Begin to ask for room."""
    return asyncio.ensure_future(room.take(size_bytes, of_bytes=size_bytes))


async def pending(*tasks: asyncio.Task[None]) -> list[bool]:
    """Let everybody have a turn and return who still waits."""
    for _ in range(5):
        await asyncio.sleep(0)
    return [not task.done() for task in tasks]


async def test_who_does_not_fit_waits_in_the_order_of_arrival() -> None:
    """Nobody who came later takes what the first in line waits for."""
    room = a_room()
    await room.take(LARGE // 2, of_bytes=LARGE // 2)
    first, second = waits(room, LARGE), waits(room, LARGE // 2)
    assert await pending(first, second) == [True, True]
    room.give_back(LARGE // 2)
    assert await pending(first, second) == [False, True]
    room.give_back(LARGE)
    assert await pending(second) == [False]
    assert room.held_bytes == LARGE // 2


async def test_small_bodies_go_past_large_ones() -> None:
    """A part of the room is theirs alone; when that is full, too, they wait as well."""
    room = a_room(2)
    large = [waits(room, LARGE) for _ in range(3)]
    small = [waits(room, SMALL_BYTES) for _ in range(2)]
    assert await pending(*large, *small) == [False, False, True, False, True]
    room.give_back(SMALL_BYTES)
    assert await pending(large[2], small[1]) == [True, False]
    large[2].cancel()


async def test_who_leaves_takes_nothing_with_him() -> None:
    """Neither a place in line nor room, also if it became free in that very moment."""
    room = a_room()
    await room.take(LARGE, of_bytes=LARGE)
    gone, leaving, last = waits(room, LARGE), waits(room, LARGE), waits(room, LARGE // 2)
    await pending()
    gone.cancel()
    await pending(gone)
    room.give_back(LARGE)
    leaving.cancel()
    assert await pending(leaving, last) == [False, False]
    assert leaving.cancelled()
    assert room.held_bytes == LARGE // 2


async def test_a_smaller_one_gets_in_when_the_first_in_line_leaves() -> None:
    """It fitted all the time, and only stood behind him."""
    room = a_room()
    await room.take(LARGE // 2, of_bytes=LARGE // 2)
    first, second = waits(room, LARGE), waits(room, LARGE // 2)
    await pending()
    first.cancel()
    assert await pending(second) == [False]


async def test_nobody_waits_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """Then it is told that there is no room, and holds none."""
    monkeypatch.setattr(body_room, "WAIT_S", 0.0)
    room = a_room()
    body = HeldBody(room)
    await body.grow(LARGE)
    with pytest.raises(NoRoomError):
        await HeldBody(room).grow(LARGE)
    body.shrink(0)
    assert room.held_bytes == 0


async def test_more_room_lets_those_in_who_wait() -> None:
    """The operator may change it at any time."""
    room = a_room()
    await room.take(LARGE, of_bytes=LARGE)
    waiting = waits(room, LARGE)
    assert await pending(waiting) == [True]
    room.use(4 * LARGE)
    assert await pending(waiting) == [False]
