"""`server secrets`: the key that the server's secrets are sealed with. Owns how it is changed and made; prints it only
where it is to be kept elsewhere.
"""

from __future__ import annotations

from restic_manager.cli.command import Operator, new_app, operator_command

app = new_app("The key that the server's secrets are sealed with: change it, or make one to keep elsewhere.")


@operator_command(app, "rotate-key", examples="restic-manager server secrets rotate-key")
def rotate_key(operator: Operator) -> None:
    """Make a new key, seal every secret with it, and forget the old one. The server goes on running.

    Whoever had both the old key and the database has the secrets themselves: change those too (`repo set-secret`).
    Copies made before (`server backup`) still hold the old key, and open with it.
    """
    view = operator.client.rotate_key()
    if operator.as_json:
        operator.screen.data(view)
        return
    count = view.sealed_anew
    operator.screen.say(f"the key is a new one: {count} secret{'' if count == 1 else 's'} sealed with it")


@operator_command(
    app,
    "make-key",
    local=True,
    examples="""
        restic-manager server secrets make-key | systemd-creds encrypt \\
            --name=restic-manager-key - /etc/restic-manager.key.cred
    """,
)
def make_key(operator: Operator) -> None:
    """Print a fresh key, to be kept where the server's config says (`key_file`, `key_command`, a systemd credential).

    To change a key that is kept so, put the new one above the old one there, start the server again, and then take the
    old one out.
    """
    from restic_manager.secrets import key_text, new_key

    text = key_text(new_key())
    if operator.as_json:
        operator.screen.data({"key": text})
    else:
        operator.screen.say(text)
