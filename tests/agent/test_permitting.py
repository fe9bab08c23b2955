"""The gate: what a server may have done on a host, and that everything else is refused before restic is spawned."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from restic_manager.agent.carrying import Permit
from restic_manager.domain.errors import NotPermittedError
from restic_manager.domain.hooks import Hooks
from restic_manager.domain.model import RepoAccess
from restic_manager.domain.specs import (
    BackupSpec,
    CheckSpec,
    CopySpec,
    ForgetSpec,
    PruneSpec,
    RestoreSpec,
    SnapshotsSpec,
    Spec,
    TagSpec,
    Tuning,
    UnlockSpec,
    VerifySpec,
)
from tests.agent.gatehouse import gatehouse

BACKUP = BackupSpec(paths=("/etc",))
SNAPSHOT = "ab" * 8
OTHER = RepoAccess(repo_id="r2", url="rest:https://u:s3cret@evil.example/x", password="p")


@pytest.mark.parametrize(
    "spec",
    [
        ForgetSpec(snapshots=(SNAPSHOT,)),
        PruneSpec(),
        TagSpec(snapshots=(SNAPSHOT,), add=("a",)),
        UnlockSpec(remove_all=True),
    ],
)
async def test_what_takes_away_is_not_in_the_safe_default(tmp_path: Path, spec: Spec) -> None:
    async with gatehouse(tmp_path) as house:
        said = await house.refused(spec)
        assert "(the safe default, no policy file)" in said
        assert "`restic-manager agent policy allow-kind " in said
        house.policy("kinds = ['*']\n")
        await house.allowed(spec)


async def test_what_only_reads_the_host_or_adds_is(tmp_path: Path) -> None:
    async with gatehouse(tmp_path) as house:
        for spec in (BACKUP, SnapshotsSpec(), CheckSpec(), UnlockSpec(), VerifySpec(), PruneSpec(dry_run=True)):
            assert await house.allowed(spec) == (house.order(spec), Permit())


async def test_a_change_of_the_file_counts_for_the_next_job(tmp_path: Path) -> None:
    async with gatehouse(tmp_path) as house:
        await house.allowed(BACKUP)
        house.policy("kinds = []\n")
        assert f"({house.data}/agent-policy.toml, line 1: kinds)" in await house.refused(BACKUP)


async def test_a_file_that_cannot_be_believed_refuses_every_job(tmp_path: Path) -> None:
    async with gatehouse(tmp_path) as house:
        house.policy("kinds = ['*']\n")
        (house.data / "agent-policy.toml").chmod(0o666)
        assert "writable by others" in await house.refused(BACKUP)
        house.policy("kinds = [\n")
        assert "is no TOML" in await house.refused(SnapshotsSpec())
        assert (await house.gate.facts()).kinds == ()


async def test_the_hello_tells_the_kinds(tmp_path: Path) -> None:
    async with gatehouse(tmp_path) as house:
        house.policy("kinds = ['default', 'forget']\n")
        kinds = (await house.gate.facts()).kinds
        assert kinds is not None
        assert "forget" in kinds
        assert "prune" not in kinds


# -- repositories -----------------------------------------------------------------------------------------------------


async def test_another_repository_needs_a_word_on_the_host(tmp_path: Path) -> None:
    async with gatehouse(tmp_path) as house:
        said = await house.refused(BACKUP, repo=OTHER)
        assert "the repository rest:https://evil.example/x" in said
        assert "s3cret" not in said
        assert "allow-repository rest:https://evil.example/x" in said
        house.policy("repositories = ['rest:https://evil.example']\n")
        await house.allowed(BACKUP, repo=OTHER)
        house.policy("")
        await house.allowed(BACKUP, repo=OTHER)  # it is one that this host uses now


async def test_the_source_of_a_copy_counts_too(tmp_path: Path) -> None:
    async with gatehouse(tmp_path) as house:
        assert "evil.example" in await house.refused(CopySpec(from_repo="r2"), source=OTHER)


async def test_a_variable_cannot_lead_elsewhere(tmp_path: Path) -> None:
    repo = RepoAccess(repo_id="r", url="rest:http://h/x", password="p")
    async with gatehouse(tmp_path, joined_with=["rest:http://h/x"]) as house:
        await house.allowed(BACKUP, repo=repo)
        await house.refused(BACKUP, repo=replace(repo, env={"HTTP_PROXY": "http://evil.example"}))


async def test_a_refused_repository_is_not_asked_about_a_cut_off_run(tmp_path: Path) -> None:
    async with gatehouse(tmp_path) as house:
        with pytest.raises(NotPermittedError):
            await house.gate.look_up(house.order(BACKUP, repo=OTHER, recover=True), None)
        assert house.inner.asked == []
        assert await house.gate.look_up(house.order(BACKUP, recover=True), None) is None


# -- sources ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """`srv` with a file, beside `secret`, and links from one to the other."""
    tree = tmp_path.resolve() / "tree"
    (tree / "srv" / "www").mkdir(parents=True)
    (tree / "secret").mkdir()
    (tree / "secret" / "key").write_text("key")
    (tree / "srv" / "out").symlink_to(tree / "secret")
    (tree / "srv" / "deep").symlink_to(tree / "secret" / "key")
    return tree


@pytest.mark.parametrize(
    "path",
    [
        "secret",
        "secret/key",
        "srv/../secret",
        "srv/out/key",
        "srv//out/./key",
        "srv/out/../secret/key",
        "srv2",
        "",
        "srv/www/../out/../../tree/secret",
    ],
)
async def test_a_path_beyond_the_sources_is_refused(tmp_path: Path, tree: Path, path: str) -> None:
    async with gatehouse(tmp_path) as house:
        house.policy(f"sources = ['{tree}/srv']\n")
        said = await house.refused(BackupSpec(paths=(f"{tree}/srv/www", f"{tree}/{path}")))
        assert "does not allow reading" in said
        assert "allow-source" in said


@pytest.mark.parametrize("path", ["srv", "srv/", "srv/www", "srv/out", "srv/deep", "srv/not-there", "srv/www/.."])
async def test_a_path_below_them_is_not(tmp_path: Path, tree: Path, path: str) -> None:
    async with gatehouse(tmp_path) as house:
        house.policy(f"sources = ['{tree}/srv']\n")
        await house.allowed(BackupSpec(paths=(f"{tree}/{path}",)))


async def test_lists_of_paths_are_read(tmp_path: Path, tree: Path) -> None:
    async with gatehouse(tmp_path) as house:
        house.policy(f"sources = ['{tree}/srv']\n")
        paths = tree / "srv" / "list"
        spec = BackupSpec(files_from=(str(paths),))
        paths.write_text(f"{tree}/srv/www\n\n{tree}/srv/out\n")
        await house.allowed(spec)
        for line in (f"{tree}/secret", f"{tree}/srv/out/key", f"{tree}/srv/../secret\r", "etc"):
            paths.write_text(f"{tree}/srv/www\n{line}\n")
            await house.refused(spec)
        paths.unlink()
        assert "is no file" in await house.refused(spec)


@pytest.mark.parametrize("field", ["files_from", "exclude_files"])
@pytest.mark.parametrize("path", ["secret/key", "srv/deep", "srv/out/key"])
async def test_a_list_is_itself_something_that_is_read(tmp_path: Path, tree: Path, field: str, path: str) -> None:
    async with gatehouse(tmp_path) as house:
        house.policy(f"sources = ['{tree}/srv']\n")
        spec = BackupSpec(paths=(f"{tree}/srv/www",))
        await house.refused(replace(spec, **{field: (f"{tree}/{path}",)}))


async def test_a_proof_does_not_read_the_hosts_files_where_sources_are_named(tmp_path: Path) -> None:
    async with gatehouse(tmp_path) as house:
        house.policy("sources = ['/srv']\n")
        order, _ = await house.allowed(VerifySpec(live=True))
        assert order.spec == VerifySpec(live=False)
        assert "not compared" in house.lines[0]


# -- restores ---------------------------------------------------------------------------------------------------------


def restore(target: str | None, *paths: str, **facts: object) -> RestoreSpec:
    return replace(
        RestoreSpec(snapshot=SNAPSHOT, target=target, in_place=target is None, paths=paths, overwrite="always"),
        **facts,
    )


async def test_restores_go_below_the_agents_own_folder(tmp_path: Path) -> None:
    async with gatehouse(tmp_path) as house:
        own = f"{house.data}/restores"
        await house.allowed(restore(own))
        await house.allowed(restore(f"{own}/x", "/etc"))
        for target in ("/etc", f"{own}/../agent-policy.toml", f"{house.data}", f"{own}2", "/"):
            said = await house.refused(restore(target))
            assert "does not allow restores into" in said
            assert "agent policy allow-restore" in said
        await house.refused(restore(None))
        await house.refused(restore(None, "/etc/passwd"))


async def test_a_target_that_is_allowed_and_one_beside_it(tmp_path: Path, tree: Path) -> None:
    async with gatehouse(tmp_path) as house:
        house.policy(f"restore_targets = ['{tree}/srv']\n")
        await house.allowed(restore(f"{tree}/srv/new/deeper"))
        await house.allowed(restore(None, f"{tree}/srv/www"))
        for spec in (
            restore(f"{tree}/srv/out"),
            restore(f"{tree}/srv/out/x"),
            restore(f"{tree}/srv", "/out/key"),
            restore(None, f"{tree}/srv/www", f"{tree}/srv/out/key"),
            restore(None, f"{tree}/srv/deep"),
            restore(None, f"{tree}/srv/www/../../secret"),
            restore(None),
            restore(f"{house.data}/restores"),  # the list stands for the default
        ):
            await house.refused(spec)


async def test_an_own_folder_that_became_a_link_leads_nowhere(tmp_path: Path, tree: Path) -> None:
    async with gatehouse(tmp_path) as house:
        (house.data / "restores").symlink_to(tree / "secret")
        await house.refused(restore(f"{house.data}/restores"))
        await house.refused(restore(f"{house.data}/restores/x"))


async def test_links_in_a_target_are_looked_for_where_restic_would_follow_them(tmp_path: Path, tree: Path) -> None:
    async with gatehouse(tmp_path) as house:
        house.policy(f"restore_targets = ['{tree}/srv']\n")
        await house.allowed(restore(f"{tree}/srv"))
        said = await house.refused(restore(f"{tree}/srv", includes=("key",)))
        assert f"is a symbolic link to {tree}/secret" in said
        house.inner.safe = False
        await house.refused(restore(f"{tree}/srv"))
        await house.allowed(restore(f"{tree}/srv/www"))
        (tree / "srv" / "www" / "up").symlink_to("..")
        await house.allowed(restore(f"{tree}/srv/www"))
        house.policy("restore_targets = ['/']\n")
        await house.allowed(restore(f"{tree}/srv"))


async def test_a_dry_run_writes_nothing(tmp_path: Path) -> None:
    async with gatehouse(tmp_path) as house:
        await house.allowed(restore("/etc", dry_run=True))


# -- programs and ceilings --------------------------------------------------------------------------------------------


async def test_a_hook_has_to_be_allowed_and_there(tmp_path: Path) -> None:
    hooks = Hooks(finally_=("start-db",))
    async with gatehouse(tmp_path) as house:
        assert "agent policy allow-hook start-db" in await house.refused(BACKUP, hooks=hooks)
        house.policy("hooks = ['start-*']\n")
        assert "there is no" in await house.refused(BACKUP, hooks=hooks)
        house.program("hooks/start-db", "true").chmod(0o702)
        assert "writable by others" in await house.refused(BACKUP, hooks=hooks)


async def test_a_command_has_to_be_allowed_and_there(tmp_path: Path) -> None:
    spec = BackupSpec(stdin_command="dump-db")
    async with gatehouse(tmp_path) as house:
        house.policy("hooks = ['*']\n")
        assert "agent policy allow-command dump-db" in await house.refused(spec)
        house.policy("commands = ['dump-db']\n")
        assert "there is no" in await house.refused(spec)
        program = house.program("commands/dump-db", "true")
        assert (await house.allowed(spec))[1] == Permit(program=program)


async def test_ceilings_lower_an_order_and_bound_every_kind(tmp_path: Path) -> None:
    async with gatehouse(tmp_path) as house:
        house.policy("upload_limit = 100\nconcurrent_jobs = 1\n")
        order, permit = await house.allowed(replace(BACKUP, tuning=Tuning(upload_limit=900, download_limit=900)))
        assert order.spec == replace(BACKUP, tuning=Tuning(upload_limit=100, download_limit=900))
        assert permit == Permit(upload_limit=100)
        assert (await house.allowed(SnapshotsSpec()))[1] == Permit(upload_limit=100)
        assert house.gate.jobs_at_once() == 1
