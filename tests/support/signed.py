"""Tokens of every algorithm but EdDSA, signed in plain Python, and the public keys that verify them.

For tests alone: the arithmetic is slow and leaks through its timing, and the private keys are in this file.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
import time
from typing import Any

SECRET = b"a secret of the tests, long enough to be one"

# An RSA key of 2048 bits: modulus and private exponent.
_N = int(
    "bfc01298aa5398e1bd328d48997642f0096b00a52219b2c2bfaae6955bb7c389e2e836d0729a89534bf1da3f3415a6b7"
    "0bd587318d1687dc651a183bdec675ba9c317464a24cd8a9f0becef2d6508222481a5756d8bd9a0e6852b437aa465ec1"
    "1222e5cc8e8e4a334a8c7b319f3dfe302485d25f2785d3951e583f838eb87377bfe7d9c76981066720ad6f58da7698ca"
    "37b7f2f5b392cbcf03c21172a5257f3e1d5baa4d499d439e52c1098eb03e57439d68132cd86fc7c98ea4bd0f7b96fe89"
    "75f65d7e192d2eec7ac82edcb174e796ff12cd4cac3d790384c991451cfac40d2c42458a31c991aee1088d102ce70889"
    "87232c01466787b231eca6cdb77ec71d",
    16,
)
_D = int(
    "57a62f99f3399547929939f5b698554eadaf68b3131c5617294fb069136cb38822dd6cb8e9b9f40dcc48382fedd9fbc3"
    "ee37e3bd65b5a7d2b9b02ce5a9166498316f75b9ce6a7c1b6a3d7e11889f726cc332af3bb6852c976b5e6a9c8b4bf162"
    "25ad2807d21dfe92e57fc38c52331f2ed873074f919c5db3eb1401ac5c1fba3f75e555dfad0f182b398ece4f78cb38dd"
    "1ccfc146549a5fb67f884f5aba6f12386346b514ba063e0b4151d7420bc1a874061cde6d15e67aac9375f68b3d5bcec0"
    "b1644a39d639eca31035aa70480bf434410ae4a897dc7d204937befabb9af8c601a1e257d087e7f71f7a4889cbde2862"
    "9c775540a1dd31c866c892e3ba7c948d",
    16,
)
_E = 65537

# P-256 (FIPS 186-4, D.1.2.3), and a private key on it.
_P = 0xFFFFFFFF00000001000000000000000000000000FFFFFFFFFFFFFFFFFFFFFFFF
_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
_BASE = (
    0x6B17D1F2E12C4247F8BCE6E563A440F277037D812DEB33A0F4A13945D898C296,
    0x4FE342E2FE1A7F9B8EE7EB4A7C0F9E162BCE33576B315ECECBB6406837BF51F5,
)
_SCALAR = 0x1234567890ABCDEF1234567890ABCDEF1234567890ABCDEF1234567890ABCDEF

Point = tuple[int, int] | None


def encode(data: bytes | object) -> str:
    """Base64 as tokens have it; what is not bytes becomes JSON."""
    raw = data if isinstance(data, bytes) else json.dumps(data).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def claims(*names: str, **more: Any) -> dict[str, Any]:
    """The claims of a token for these names that is good for an hour; None leaves one out."""
    now = time.time()
    all_claims = {"iat": now, "exp": now + 3600.0, "sse": {"subscribe": list(names)}, **more}
    return {name: value for name, value in all_claims.items() if value is not None}


def sign(algorithm: str, signed: bytes, secret: bytes = SECRET) -> bytes:
    """The signature of an algorithm; that of ``none`` is empty."""
    if algorithm == "none":
        return b""
    if algorithm == "RS256":
        return _rsa(signed)
    if algorithm == "ES256":
        return _ecdsa(signed)
    return hmac.digest(secret, signed, {"HS256": "sha256", "HS384": "sha384", "HS512": "sha512"}[algorithm])


def token(algorithm: str, body: object, secret: bytes = SECRET, *, named: str | None = None, **head: Any) -> str:
    """A token; its head may name another algorithm than it is signed with."""
    full = {"alg": algorithm if named is None else named, "typ": "JWT", **head}
    signed = f"{encode(full)}.{encode(body)}"
    return f"{signed}.{encode(sign(algorithm, signed.encode(), secret))}"


def rsa_jwk(**more: Any) -> dict[str, Any]:
    """The public RSA key as a JWK."""
    return {"kty": "RSA", "n": encode(_N.to_bytes(256, "big")), "e": encode(b"\1\0\1"), **more}


def p256_jwk(**more: Any) -> dict[str, Any]:
    """The public key on P-256 as a JWK."""
    x, y = _public()
    return {"kty": "EC", "crv": "P-256", "x": encode(x.to_bytes(32, "big")), "y": encode(y.to_bytes(32, "big")), **more}


def rsa_pem() -> str:
    """The public RSA key as a PEM."""
    numbers = _der(0x30, _der(2, b"\0" + _N.to_bytes(256, "big")) + _der(2, b"\1\0\1"))
    algorithm = _der(0x30, bytes.fromhex("06092a864886f70d0101010500"))
    return _pem(_der(0x30, algorithm + _der(3, b"\0" + numbers)))


def p256_pem() -> str:
    """The public key on P-256 as a PEM."""
    x, y = _public()
    algorithm = _der(0x30, bytes.fromhex("06072a8648ce3d020106082a8648ce3d030107"))
    point = b"\0\4" + x.to_bytes(32, "big") + y.to_bytes(32, "big")
    return _pem(_der(0x30, algorithm + _der(3, point)))


def _der(tag: int, value: bytes) -> bytes:
    length = len(value)
    head = (
        bytes([length])
        if length < 0x80
        else bytes([0x81, length] if length < 0x100 else [0x82, *length.to_bytes(2, "big")])
    )
    return bytes([tag]) + head + value


def _pem(der: bytes) -> str:
    text = base64.b64encode(der).decode()
    lines = "\n".join(text[at : at + 64] for at in range(0, len(text), 64))
    return f"-----BEGIN PUBLIC KEY-----\n{lines}\n-----END PUBLIC KEY-----\n"


def _rsa(signed: bytes) -> bytes:
    digest = bytes.fromhex("3031300d060960864801650304020105000420") + hashlib.sha256(signed).digest()
    padded = b"\0\1" + b"\xff" * (256 - 3 - len(digest)) + b"\0" + digest
    return pow(int.from_bytes(padded, "big"), _D, _N).to_bytes(256, "big")


def _ecdsa(signed: bytes) -> bytes:
    digest = int.from_bytes(hashlib.sha256(signed).digest(), "big")
    nonce = secrets.randbelow(_ORDER - 1) + 1
    point = _times(nonce, _BASE)
    assert point is not None
    r = point[0] % _ORDER
    s = pow(nonce, -1, _ORDER) * (digest + r * _SCALAR) % _ORDER
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")


def _public() -> tuple[int, int]:
    point = _times(_SCALAR, _BASE)
    assert point is not None
    return point


def _times(scalar: int, point: Point) -> Point:
    total: Point = None
    while scalar:
        if scalar & 1:
            total = _add(total, point)
        point = _add(point, point)
        scalar >>= 1
    return total


def _add(one: Point, other: Point) -> Point:
    if one is None or other is None:
        return one or other
    (x1, y1), (x2, y2) = one, other
    if x1 == x2 and (y1 + y2) % _P == 0:
        return None
    slope = (3 * x1 * x1 - 3) * pow(2 * y1, -1, _P) if one == other else (y2 - y1) * pow(x2 - x1, -1, _P)
    x = (slope * slope - x1 - x2) % _P
    return x, (slope * (x1 - x) - y1) % _P
