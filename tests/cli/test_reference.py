"""docs/cli.md tells every command and option, and none that is not there; and every help text fits its terminal."""

from __future__ import annotations

import re

from tests.cli.conftest import Command
from tests.cli.reference import BEGIN, DOCUMENT, END, commands, renewed

ISSUE = """
server --listen --data-dir --config
server backup --force --data-dir
server restore --force --data-dir
server --tls --tls-cert --tls-key --behind-proxy
server cert show
server cert rotate --overlap --finish
agent --server --token --token-file --data-dir --restic --reconnect-max
agent --policy --allow
agent policy show --policy --data-dir
agent policy check --policy --data-dir
agent policy allow-kind
agent policy allow-source
agent policy allow-restore
agent policy allow-repository
agent policy allow-hook
agent policy allow-command
host invite --repo --allow
version
status --wait
host invite --label
host list
host show
host label
host rename
host remove
repo add --password-file --generate-password --env-file
repo list
repo show
repo init --host --wait
repo remove
schedule add --host --label --all --cron --every --repo --timezone --splay --overlap --disabled --exclude --tag
schedule list
schedule show
schedule edit --host --label --all --cron --every --repo --timezone --splay --overlap --path --name --yes --tag
schedule enable
schedule disable
schedule remove
schedule run --host --wait
schedule next
schedule explain --timezone --after --count
schedule add --kind --keep-last --keep-hourly --keep-daily --keep-weekly --keep-monthly --keep-yearly --keep-tag
schedule add --keep-within --keep-within-hourly --keep-within-daily --keep-within-weekly --keep-within-monthly
schedule add --exclude-larger-than --compression --read-concurrency --skip-if-unchanged --files-from --nice
schedule forget-preview --host
job run --host --repo --wait --dry-run --limit-upload --limit-download --ionice-class --ionice-level
repo add --append-only --max-parallel --chunker-from
repo edit --append-only --max-parallel
repo maintenance --maintainer --maintainer-url --prune --check --check-subset --forget --stats --verify
repo locks
repo unlock --remove-all --yes
repo stats --refresh --wait
repo copy --host --snapshot --of-host --of-schedule --wait
snapshot list --host --repo --schedule --path --tag --latest --since --until --limit --refresh
snapshot show
snapshot ls --recursive
snapshot find --host --repo --since --until --ignore-case
snapshot diff --metadata
snapshot tag --add --remove
snapshot forget --dry-run --yes
restore --host --repo --at --path --to --in-place --on-host --include --exclude --overwrite --delete --dry-run --verify
restore --stdout --wait --yes --limit-download
job list --host --schedule --status --limit
job show
job logs --follow
job cancel
token create --role --expires
token list
token revoke
login --token-file
context list
context use
context remove
audit list --since --who --limit
audit verify
audit export
server --api-listen --socket-group
"""


def test_the_reference_is_as_the_commands_are() -> None:
    """Renew it with `python -m tests.cli.reference`."""
    document = DOCUMENT.read_text(encoding="utf-8")
    assert document.count(BEGIN) == document.count(END) == 1
    assert renewed(document) == document


def test_every_command_and_option_is_documented_and_no_other() -> None:
    """Read from the document as a person would, not by the code that wrote it."""
    told: dict[str, set[str]] = {}
    for section in re.split(r"^### ", DOCUMENT.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]:
        words, _, body = section.partition("\n")
        listed = [line for line in body.splitlines() if line.startswith(("| `--", "| `-", "And `"))]
        told[words] = set(re.findall(r"`(--[a-z-]+)", "\n".join(line.split(" | ")[0] for line in listed)))
    there = {
        words: {
            name for param in command.params for name in (*param.opts, *param.secondary_opts) if name.startswith("--")
        }
        for words, command in commands()
    }
    assert told == there


def test_the_commands_of_the_issue_are_all_there() -> None:
    there = {words: {name for param in command.params for name in param.opts} for words, command in commands()}
    for line in filter(None, ISSUE.splitlines()):
        words = " ".join(word for word in line.split() if not word.startswith("--"))
        assert {word for word in line.split() if word.startswith("--")} <= there[words], words


def test_operators_options_stand_behind_every_verb() -> None:
    for words, command in commands():
        if words in {"server", "agent"}:
            continue
        names = {name for param in command.params for name in param.opts}
        local = words in {
            "version",
            "schedule explain",
            "server backup",
            "server restore",
            "server secrets make-key",
            "login",
        } or words.startswith(("context ", "agent policy "))
        assert {"--json"} <= names, words
        assert ({"--server", "--data-dir"} <= names) is not local, words


def test_every_help_fits_80_columns_and_every_option_says_something(command: Command) -> None:
    for words, made in commands():
        ended = command(*words.split(), "--help")
        assert ended.code == 0, words
        assert max(map(len, ended.out.splitlines())) <= 80, words
        for param in made.params:
            assert param.param_type_name == "argument" or param.help, (words, param.name)
