"""The server's certificate: made once, private, changed with an overlap; one that was given is looked at first."""

from __future__ import annotations

import os
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from restic_manager.domain.errors import ConflictError, InputError, StorageError
from restic_manager.protocol.jointoken import pin_of
from restic_manager.server.certificates import OwnCertificate, load_given
from tests.support.tls import good_pair, write_pair

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
MONTH = timedelta(days=30)


def test_it_is_made_once_and_only_this_user_can_read_it(tmp_path: Path) -> None:
    made = OwnCertificate(tmp_path, now=NOW)
    (file,) = tmp_path.iterdir()
    assert (file.name, file.stat().st_mode & 0o777) == ("server-tls.pem", 0o600)
    certificate = x509.load_pem_x509_certificate(file.read_bytes())
    assert made.pins_at(NOW) == (pin_of(certificate.public_bytes(Encoding.DER)),)
    key = certificate.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    assert key.curve.name == "secp256r1"
    assert certificate.not_valid_after_utc > NOW + timedelta(days=15 * 365)
    assert made.context(NOW).minimum_version == ssl.TLSVersion.TLSv1_2
    again = OwnCertificate(tmp_path, now=NOW + 100 * MONTH)
    assert again.pins_at(NOW) == made.pins_at(NOW)


def test_a_change_has_an_overlap_that_outlives_the_process(tmp_path: Path) -> None:
    own = OwnCertificate(tmp_path, now=NOW)
    (old,) = own.pins_at(NOW)
    own.rotate(NOW, MONTH)
    end, new = NOW + MONTH, own.pins_at(NOW)[1]
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in tmp_path.iterdir())
    for certificate in (own, OwnCertificate(tmp_path, now=NOW)):
        assert certificate.pins_at(end - timedelta(seconds=1)) == (old, new)
        assert certificate.now(end - timedelta(seconds=1))[0].pin == old
        assert certificate.pins_at(end) == (new,)
        assert certificate.context(end) is not certificate.context(NOW)
    with pytest.raises(ConflictError, match="2026-03-31T12:00:00Z"):
        own.rotate(NOW, MONTH)
    later = OwnCertificate(tmp_path, now=end)
    later.rotate(end, MONTH)
    assert later.pins_at(end)[0] == new
    assert OwnCertificate(tmp_path, now=end).pins_at(end) == later.pins_at(end)


def test_a_change_can_be_ended_at_once(tmp_path: Path) -> None:
    own = OwnCertificate(tmp_path, now=NOW)
    with pytest.raises(ConflictError, match="no certificate is waiting"):
        own.finish(NOW)
    own.rotate(NOW, MONTH)
    new = own.pins_at(NOW)[1]
    own.finish(NOW)
    assert own.pins_at(NOW) == (new,)
    assert OwnCertificate(tmp_path, now=NOW).pins_at(NOW) == (new,)
    assert [path.name for path in tmp_path.iterdir()] == ["server-tls.pem"]


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:100]), "is damaged"),
        (lambda path: path.write_bytes(b""), "is damaged"),
        (lambda path: path.chmod(0o640), "chmod 600"),
    ],
)
def test_a_damaged_or_open_one_is_not_used_and_not_replaced(tmp_path: Path, damage: object, says: str) -> None:
    OwnCertificate(tmp_path, now=NOW)
    path = tmp_path / "server-tls.pem"
    assert callable(damage)
    damage(path)
    before = path.read_bytes()
    with pytest.raises(StorageError) as caught:
        OwnCertificate(tmp_path, now=NOW)
    assert str(path) in caught.value.message
    assert says in caught.value.message
    assert path.read_bytes() == before


# -- one that was given ----------------------------------------------------------------------------------------------


def test_a_given_one_needs_no_pin(tmp_path: Path) -> None:
    now = datetime.now(UTC)
    given = load_given(*good_pair(tmp_path / "c"), now=now)
    assert given.pins_at(now) == ()
    assert given.now(now)[0].subject == "CN=a test"


def test_files_that_cannot_be_used_are_named_with_the_remedy(tmp_path: Path) -> None:
    certificate, key = good_pair(tmp_path / "one")
    _, other_key = good_pair(tmp_path / "two")
    now = datetime.now(UTC)
    day = timedelta(days=1)
    expired, expired_key = write_pair(tmp_path / "old", begins=now - 2 * day, ends=now - day)
    early, early_key = write_pair(tmp_path / "early", begins=now + day, ends=now + 2 * day)
    nothing = tmp_path / "nothing"
    nothing.write_bytes(b"hello\n")
    missing = tmp_path / "missing"
    for files, named, says in (
        ((missing, key), missing, "--tls-cert: "),
        ((certificate, missing), missing, "--tls-key: "),
        ((tmp_path, key), tmp_path, "cannot be read"),
        ((nothing, key), nothing, "BEGIN CERTIFICATE"),
        ((certificate, nothing), nothing, "without a passphrase"),
        ((certificate, other_key), other_key, "belong together"),
        ((expired, expired_key), expired, "expired on"),
        ((early, early_key), early, "only from"),
    ):
        with pytest.raises(InputError) as caught:
            load_given(*files, now=now)
        assert str(named) in caught.value.message
        assert says in caught.value.message
    if os.geteuid() != 0:
        key.chmod(0)
        with pytest.raises(InputError, match="allowed to read"):
            load_given(certificate, key, now=now)


def test_renewed_files_are_shown_without_a_restart(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    now = datetime.now(UTC)
    certificate, key = good_pair(tmp_path / "c")
    given = load_given(certificate, key, now=now)
    first = given.now(now)[0]
    new_certificate, new_key = good_pair(tmp_path / "new")
    new_certificate.replace(certificate)  # as certbot does: one file after the other
    assert given.now(now)[0] is first
    assert given.now(now)[0] is first
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "the one before is shown further: --tls-key:" in caplog.text
    new_key.replace(key)
    second = given.now(now)[0]
    assert second.pin != first.pin
    assert given.context(now) is second.context
    certificate.unlink()
    assert given.now(now)[0] is second
    assert "cannot be read" in caplog.text


def test_what_is_written_in_place_is_seen(tmp_path: Path) -> None:
    now = datetime.now(UTC)
    certificate, key = good_pair(tmp_path / "c")
    given = load_given(certificate, key, now=now)
    first = given.now(now)[0]
    for old, new in zip((key, certificate), reversed(good_pair(tmp_path / "new")), strict=True):
        old.write_bytes(new.read_bytes())
    assert given.now(now)[0].pin != first.pin
