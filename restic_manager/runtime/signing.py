"""Ed25519, as bytes: make a key, sign, check. The only place that asks the library; it is loaded when it is needed.

It refuses to know where keys are kept and what is signed.
"""

from __future__ import annotations


def make_key() -> bytes:
    """Return a new private key: 32 bytes."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    return Ed25519PrivateKey.generate().private_bytes_raw()


def public_key(private_key: bytes) -> bytes:
    """Given a private key, return its public key: 32 bytes; raise ValueError for what is none."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    return Ed25519PrivateKey.from_private_bytes(private_key).public_key().public_bytes_raw()


def sign(private_key: bytes, data: bytes) -> bytes:
    """Given a private key and data, return the signature: 64 bytes; raise ValueError for what is no key."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    return Ed25519PrivateKey.from_private_bytes(private_key).sign(data)


def is_signed(public_key: bytes, data: bytes, signature: bytes) -> bool:
    """Given a public key, data and a signature, return whether that key has signed that data. Never raises."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, data)
    except (InvalidSignature, ValueError):
        return False
    return True
