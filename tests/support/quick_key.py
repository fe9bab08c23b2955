"""Makes a real repository quick to open. Never do this to one that matters.

restic spends half a second of CPU on each password (scrypt); a test has no use for that, and there are hundreds of
openings. The parameters are part of the key file, so it is rewritten with weak ones; restic reads it as any other.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
from pathlib import Path

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.poly1305 import Poly1305

_WEAK = {"N": 1024, "r": 8, "p": 1}


def make_quick(repo: Path, password: str) -> None:
    """Given a local repository and its password, rewrite its one key so that opening it takes milliseconds."""
    (path,) = (repo / "keys").iterdir()
    key = json.loads(path.read_bytes())
    master = _open(_derive(key, password), base64.b64decode(key["data"]))
    key |= _WEAK | {"salt": base64.b64encode(os.urandom(64)).decode()}
    key["data"] = base64.b64encode(_seal(_derive(key, password), master)).decode()
    content = json.dumps(key).encode()
    path.chmod(0o600)
    path.unlink()
    (repo / "keys" / hashlib.sha256(content).hexdigest()).write_bytes(content)


def _derive(key: dict[str, object], password: str) -> bytes:
    salt = base64.b64decode(str(key["salt"]))
    cost, block, parallel = (int(str(key[name])) for name in ("N", "r", "p"))
    return hashlib.scrypt(password.encode(), salt=salt, n=cost, r=block, p=parallel, maxmem=1 << 30, dklen=64)


def _open(derived: bytes, sealed: bytes) -> bytes:
    nonce, text, tag = sealed[:16], sealed[16:-16], sealed[-16:]
    Poly1305.verify_tag(_one_time_key(derived, nonce), text, tag)
    return _crypt(derived, nonce, text)


def _seal(derived: bytes, plain: bytes) -> bytes:
    nonce = os.urandom(16)
    text = _crypt(derived, nonce, plain)
    return nonce + text + Poly1305.generate_tag(_one_time_key(derived, nonce), text)


def _crypt(derived: bytes, nonce: bytes, data: bytes) -> bytes:
    return Cipher(algorithms.AES(derived[:32]), modes.CTR(nonce)).encryptor().update(data)


def _one_time_key(derived: bytes, nonce: bytes) -> bytes:
    """Poly1305-AES: r as it is (the MAC masks it), s the nonce under the MAC's own AES key."""
    masked = Cipher(algorithms.AES(derived[32:48]), modes.ECB()).encryptor().update(nonce)  # noqa: S305
    return derived[48:64] + masked
