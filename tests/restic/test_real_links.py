"""What a restore does with symbolic links that its target holds already: facts that the policy of hosts rests on."""

from __future__ import annotations

from pathlib import Path

import pytest

from restic_manager.restic.version import Feature, parse_version
from tests.support.restic_binaries import REAL_RESTICS, RealRestic

pytestmark = pytest.mark.parametrize("real", REAL_RESTICS)


@pytest.fixture
def saved(tmp_path: Path, real: RealRestic) -> Path:
    """A folder with `sub/file`, in a snapshot."""
    source = tmp_path / "source"
    (source / "sub").mkdir(parents=True)
    (source / "sub" / "file").write_text("restored")
    real.run(str(tmp_path / "repo"), "init")
    real.run(str(tmp_path / "repo"), "backup", str(source))
    return source


def lead_out(tmp_path: Path, link: Path) -> Path:
    outside = tmp_path / "outside"
    outside.mkdir()
    link.parent.mkdir(parents=True)
    link.symlink_to(outside)
    return outside


def test_a_link_in_the_place_of_a_folder(tmp_path: Path, real: RealRestic, saved: Path) -> None:
    target = tmp_path / "target"
    outside = lead_out(tmp_path, target / str(saved / "sub")[1:])
    real.run(str(tmp_path / "repo"), "restore", "latest", "--target", str(target))
    over = parse_version(f"restic {real.version} compiled with go1.2 on linux/amd64").has(Feature.RESTORES_OVER_LINKS)
    assert list(outside.iterdir()) == ([] if over else [outside / "file"])


def test_a_link_above_what_is_chosen_is_followed_by_every_version(
    tmp_path: Path, real: RealRestic, saved: Path
) -> None:
    target = tmp_path / "target"
    outside = lead_out(tmp_path, target / str(saved)[1:])
    chosen = str(saved / "sub" / "file")
    real.run(str(tmp_path / "repo"), "restore", "latest", "--target", str(target), "--include", chosen)
    assert (outside / "sub" / "file").read_text() == "restored"
