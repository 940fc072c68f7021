"""A gateway that only says which process it is: on the inherited socket and on its unix socket.

`python -I -S fake_gateway.py --fd N --runtime-dir DIR`; ends with 0 on SIGTERM. As long as there is a file
`hold` in that directory it does not come up.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import socket
from contextlib import suppress
from pathlib import Path


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer one request with our pid, and hang up."""
    with suppress(ConnectionError, asyncio.IncompleteReadError):
        await reader.readuntil(b"\r\n\r\n")
        body = str(os.getpid()).encode()
        head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        writer.write(head.encode() + body)
        await writer.drain()
    writer.close()


async def main() -> None:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--fd", type=int, required=True)
    parser.add_argument("--runtime-dir", type=Path, required=True)
    parser.add_argument("--config")
    parser.add_argument("--accepted")
    parser.add_argument("--generation", required=True)
    args = parser.parse_args()
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    while (args.runtime_dir / "hold").exists():  # noqa: ASYNC110 -- another process's
        await asyncio.sleep(0.01)
    await asyncio.start_server(answer, sock=socket.socket(fileno=args.fd))
    for name in ("gateway.sock", f"gateway.{args.generation}.sock"):
        admin = args.runtime_dir / name
        admin.unlink(missing_ok=True)
        await asyncio.start_unix_server(answer, admin)
    await stop.wait()


if __name__ == "__main__":
    asyncio.run(main())
