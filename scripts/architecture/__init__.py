"""The rules of the architecture, as functions that are given the repository's folder and yield violations as text.

Owns: nothing itself; `crates`, `modules` and `packages` hold who may know whom, `shape` holds headers and sizes,
`comments` and `names` hold words. `tree` finds the files.
Invariants: a rule only reads, and each of its violations names the file, and the line where there is one.
Changes together with: `tests/test_architecture.py`, which shows that every rule can fail.
"""
