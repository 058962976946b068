"""The inside of `sse_fast.client`: a server of another process, spoken to over HTTP.

Owns: nothing itself. `address`, `attempts`, `encoding`, `batches`, `wire`, `incoming`, `questions` and `following` are
pure: no socket, no clock, no thread; `pool` and `threads` do what they say with sockets, `tasks` with asyncio.
Must not know: the engine. Nothing here may import `_core`, and orjson and asyncio only when they are first needed.
"""
