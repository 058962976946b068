"""Helpers shared by the tests: sockets, a parser, deadlines, processes, a browser.

Nothing in here knows the engine: everything reads what a stranger would see on
the wire, so that a test never proves the engine right by the engine's own code.
"""
