"""TLS in front of a server, with certificates of an authority of the test's own.

`Authority` is made by the system's openssl; `TlsProxy` ends TLS as a proxy does, and hands on what it carries.
"""

from __future__ import annotations

import asyncio
import ssl
import subprocess
import threading
from pathlib import Path

_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")


class Authority:
    """An authority in a folder: `file` is its certificate."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file = folder / "authority.crt"
        named = ("-subj", "/CN=an authority of the tests", "-addext", "keyUsage=critical,keyCertSign")
        self._openssl("req", "-x509", *_KEY, "-days", "2", *named, "-keyout", "authority.key", "-out", self.file)

    def server(self, *names: str) -> ssl.SSLContext:
        """How a server speaks TLS whose certificate is for these names, such as ``DNS:localhost``."""
        (self.folder / "names").write_text(f"subjectAltName={','.join(names)}\n")
        self._openssl("req", *_KEY, "-subj", "/CN=a server of the tests", "-keyout", "server.key", "-out", "server.csr")
        signing = ("-CA", self.file, "-CAkey", "authority.key", "-CAcreateserial", "-days", "2", "-extfile", "names")
        self._openssl("x509", "-req", "-in", "server.csr", *signing, "-out", "server.crt")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.folder / "server.crt", self.folder / "server.key")
        return context

    def _openssl(self, *arguments: object) -> None:
        subprocess.run(["openssl", *map(str, arguments)], check=True, cwd=self.folder, capture_output=True)


class TlsProxy:
    """Ends TLS on a port of its own, and forwards to another."""

    def __init__(self, target: int, context: ssl.SSLContext) -> None:
        self._target = target
        self._loop = asyncio.new_event_loop()
        self._server = self._loop.run_until_complete(self._begin(context))
        self.port: int = self._server.sockets[0].getsockname()[1]
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def __enter__(self) -> TlsProxy:  # noqa: PYI034 - typing has no Self before Python 3.11
        return self

    def __exit__(self, *_error: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.run_until_complete(self._end())
        self._loop.close()

    async def _begin(self, context: ssl.SSLContext) -> asyncio.Server:
        return await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=context)

    async def _end(self) -> None:
        self._server.close()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0)  # What was closed lets go of its socket in the loop's next round.

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        onward, behind = await asyncio.open_connection("127.0.0.1", self._target)
        forward, back = asyncio.ensure_future(_pass(reader, behind)), asyncio.ensure_future(_pass(onward, writer))
        try:
            await asyncio.wait([forward, back], return_when=asyncio.FIRST_COMPLETED)
        finally:
            forward.cancel()
            back.cancel()
            behind.close()
            writer.close()


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(1 << 16):
        writer.write(data)
        await writer.drain()
