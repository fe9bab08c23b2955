"""Flags, environment, file, default: which wins, and what is said about a wrong one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from restic_manager.config import load_agent, load_client, load_server
from restic_manager.domain.errors import InputError
from restic_manager.protocol.jointoken import make_token, pin_of
from restic_manager.runtime.exposure import TlsChoice

NONE: Mapping[str, str] = {}
TOKENS = [make_token(bytes([number]) * 32).text for number in range(3)]
PINNED = make_token(bytes(32), [pin_of(b"")]).text


def written(folder: Path, text: str) -> str:
    file = folder / "restic-manager.toml"
    file.write_text(text)
    return str(file)


def test_a_server_needs_to_be_told_nothing() -> None:
    config = load_server({"RESTIC_MANAGER_DATA_DIR": "/srv/rm"})
    assert (config.listen_host, config.listen_port) == ("127.0.0.1", 8787)
    assert config.data_dir == Path("/srv/rm")
    assert config.timezone
    assert config.public_url is None
    assert (config.api_listen, config.socket_group) == (None, None)
    assert (config.heartbeat_interval, config.reconnect_spread, config.lost_after) == (15, 5, 7 * 86_400)
    assert config.request_expires == 86_400
    assert config.log_level == "info"


def test_flag_then_environment_then_file_then_default(tmp_path: Path) -> None:
    file = written(tmp_path, '[server]\nlisten = "127.0.0.1:3"\ntimezone = "Europe/Berlin"\nlog_level = "error"\n')
    environ = {"RESTIC_MANAGER_LISTEN": "127.0.0.1:2"}
    assert load_server(environ, config=file, listen="127.0.0.1:1").listen_port == 1
    assert load_server(environ, config=file).listen_port == 2
    assert load_server(NONE, config=file).listen_port == 3
    assert load_server({"RESTIC_MANAGER_CONFIG": file}).timezone == "Europe/Berlin"
    assert load_server(NONE, config=file).log_level == "error"
    assert load_server(NONE).listen_port == 8787


def test_operators_over_tcp_are_under_the_same_rules_as_agents() -> None:
    assert load_server({"RESTIC_MANAGER_API_LISTEN": "127.0.0.1:2"}).api_listen == ("127.0.0.1", 2)
    assert load_server(NONE, api_listen="localhost:1").api_listen == ("localhost", 1)
    beyond = load_server(NONE, api_listen="0.0.0.0:8788")
    assert (beyond.tls.mode, beyond.api_tls.mode) == ("off", "auto")
    given = load_server(NONE, api_listen="localhost:1", tls_cert="/c", tls_key="/k")
    assert (given.tls, given.api_tls.mode) == (given.api_tls, "given")
    assert load_server(NONE, api_listen="0.0.0.0:1", behind_proxy="yes").api_tls.mode == "off"
    for option in ("listen", "api_listen"):
        with pytest.raises(InputError, match=r"0\.0\.0\.0 can be reached from other machines"):
            load_server(NONE, tls="off", **{option: "0.0.0.0:8788"})


def test_every_key_of_the_file_is_used(tmp_path: Path) -> None:
    file = written(
        tmp_path,
        """
        [server]
        listen = "[::1]:0"
        data_dir = "/srv/server"
        timezone = "America/Santiago"
        public_url = "wss://backup.example.org/rm"
        api_listen = "[::1]:8788"
        socket_group = "backup"
        heartbeat = "20s"
        reconnect_spread = "1m"
        lost_after = "2d"
        request_expires = "12h"
        log_level = "debug"

        [agent]
        server = "wss://backup.example.org/rm"
        data_dir = "/srv/agent"
        restic = "/opt/restic"
        reconnect_max = "2m"
        catch_up_delay = "0s"
        cancel_grace = "1m30s"
        log_level = "warning"

        [client]
        server = "http://127.0.0.1:9"
        """,
    )
    server = load_server(NONE, config=file)
    assert (server.listen_host, server.listen_port, server.data_dir) == ("::1", 0, Path("/srv/server"))
    assert (server.api_listen, server.socket_group) == (("::1", 8788), "backup")
    assert (server.timezone, server.public_url) == ("America/Santiago", "wss://backup.example.org/rm")
    assert (server.heartbeat_interval, server.reconnect_spread, server.lost_after) == (20, 60, 172_800)
    assert (server.request_expires, server.log_level) == (43_200, "debug")
    agent = load_agent(NONE, config=file)
    assert (agent.server_url, agent.data_dir) == ("wss://backup.example.org/rm", Path("/srv/agent"))
    assert (agent.restic_path, agent.reconnect_max, agent.catch_up_delay) == ("/opt/restic", 120, 0)
    assert (agent.cancel_grace, agent.log_level, agent.token) == (90, "warning", None)
    assert load_client({"RESTIC_MANAGER_CONFIG": file})["server"][0] == "http://127.0.0.1:9"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[server]\nlisen = '127.0.0.1:1'", "unknown key server.lisen: did you mean server.listen?"),
        ("[server]\nxyzzy = '1'", "unknown key server.xyzzy: known are listen,"),
        ("[serve]\n", "unknown key serve: did you mean server?"),
        ("listen = '127.0.0.1:1'", "unknown key listen"),
        ("server = 'x'", "server has to be a table, [server]"),
        ("[server]\nheartbeat = 15", 'key server.heartbeat: has to be text in quotes, like "60s", not 15'),
        ("[server]\nheartbeat = 'soon'", "key server.heartbeat: 'soon' is not a duration"),
        ("[server]\nheartbeat = '0s'", "key server.heartbeat: '0s' has to be between 1 and 3600 seconds"),
        ("[server]\ntimezone = 'Europe/Berln'", "key server.timezone: "),
        ("[server]\nlog_level = 'loud'", "key server.log_level: 'loud' is not a log level"),
        ("[server]\ndata_dir = ''", "key server.data_dir: is empty"),
        ("[agent]\nserverr = 'ws://h'", "unknown key agent.serverr: did you mean agent.server?"),
        ("[server\n", "is no TOML"),
        ("[server]\nlisten = '\udcff'", "is no TOML"),
    ],
)
def test_an_error_in_the_file_names_file_and_key(tmp_path: Path, text: str, says: str) -> None:
    file = tmp_path / "restic-manager.toml"
    file.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(InputError) as caught:
        load_server(NONE, config=str(file))
    assert str(file) in caught.value.message
    assert says in caught.value.message


def test_a_file_that_is_not_there_is_an_error() -> None:
    with pytest.raises(InputError) as caught:
        load_server({"RESTIC_MANAGER_CONFIG": "/nowhere/rm.toml"})
    assert "/nowhere/rm.toml" in caught.value.message
    assert "No such file" in caught.value.message


@pytest.mark.parametrize("listen", ["127.0.0.1:0", "127.8.9.1:65535", "[::1]:8787", "localhost:1"])
def test_listening_on_loopback_is_fine(listen: str) -> None:
    assert load_server(NONE, listen=listen).listen_port == int(listen.rpartition(":")[2])


@pytest.mark.parametrize("listen", ["127.0.0.1:0", "[::1]:8787", "localhost:1"])
def test_on_loopback_there_is_no_tls_unless_it_is_said(listen: str) -> None:
    assert load_server(NONE, listen=listen).tls == TlsChoice("off")
    assert load_server(NONE, listen=listen, tls="auto").tls == TlsChoice("auto")


@pytest.mark.parametrize("listen", ["0.0.0.0:8787", "192.168.1.2:8787", "[::]:8787", "example.org:8787"])
def test_beyond_loopback_there_is_tls_or_a_proxy(listen: str, tmp_path: Path) -> None:
    assert load_server(NONE, listen=listen).tls == TlsChoice("auto")
    with pytest.raises(InputError) as caught:
        load_server(NONE, listen=listen, tls="off")
    assert listen.rpartition(":")[0].strip("[]") in caught.value.message
    assert "--behind-proxy" in caught.value.message
    for proxied in (
        load_server(NONE, listen=listen, behind_proxy="yes"),
        load_server({"RESTIC_MANAGER_BEHIND_PROXY": "yes", "RESTIC_MANAGER_TLS": "off"}, listen=listen),
        load_server(NONE, config=written(tmp_path, '[server]\nbehind_proxy = "yes"'), listen=listen),
    ):
        assert (proxied.tls, proxied.behind_proxy) == (TlsChoice("off"), True)
    assert load_server(NONE, listen=listen, behind_proxy="yes", tls="auto").tls.mode == "auto"


def test_a_certificate_of_ones_own_comes_with_its_key(tmp_path: Path) -> None:
    file = written(tmp_path, '[server]\ntls_cert = "/srv/c.pem"\ntls_key = "/srv/k.pem"')
    assert load_server(NONE, config=file).tls == TlsChoice("given", Path("/srv/c.pem"), Path("/srv/k.pem"))
    for flags, says in (
        ({"tls_cert": "c"}, "--tls-cert without --tls-key"),
        ({"tls_key": "k"}, "--tls-key without --tls-cert"),
        ({"tls_cert": "c", "tls_key": "k", "tls": "auto"}, "say only one"),
        ({"tls": "on"}, "--tls: 'on' is neither auto nor off"),
        ({"tls": "auto", "public_url": "ws://h"}, "has to begin with wss://"),
    ):
        with pytest.raises(InputError) as caught:
            load_server(NONE, **flags)
        assert says in caught.value.message


def test_a_pin_instead_of_a_token() -> None:
    pin = pin_of(b"")
    asked = {"server": "wss://backup.example.org", "data_dir": "/d"}
    assert load_agent(NONE, **asked).pin is None
    assert load_agent(NONE, pin=f" {pin.upper()} ", **asked).pin == pin
    assert load_agent({"RESTIC_MANAGER_PIN": pin}, **asked).pin == pin
    with pytest.raises(InputError, match=r"--pin: .*52 letters.*server cert show"):
        load_agent(NONE, pin=pin[:-1], **asked)
    with pytest.raises(InputError, match=r"--pin and --token: say only one"):
        load_agent(NONE, pin=pin, token=PINNED, **asked)
    with pytest.raises(InputError, match="did you mean 'wss://h'"):
        load_agent(NONE, pin=pin, server="ws://h", data_dir="/d")


def test_a_pinned_token_is_not_sent_without_tls() -> None:
    with pytest.raises(InputError) as caught:
        agent_token(NONE, token=PINNED)
    assert "did you mean 'wss://h:1'?" in caught.value.message
    config = load_agent({"RESTIC_MANAGER_DATA_DIR": "/srv"}, server="wss://h:1", token=PINNED)
    assert config.token is not None
    assert config.token.pins == (pin_of(b""),)


@pytest.mark.parametrize(
    "listen",
    ["", "8787", ":8787", "127.0.0.1", "127.0.0.1:", "127.0.0.1:x", "127.0.0.1:65536", "::1:8787", "127.0.0.1:٣"],
)
def test_an_address_that_is_none_is_refused(listen: str) -> None:
    with pytest.raises(InputError) as caught:
        load_server(NONE, listen=listen)
    assert "--listen: " in caught.value.message


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("http://h:8787", "did you mean 'ws://h:8787'?"),
        ("https://h/x", "did you mean 'wss://h/x'?"),
        ("h:8787", "has to look like ws://HOST:PORT"),
        ("ws://", "has to look like"),
        ("ws://joe:pw@h", "must not hold a user or password"),
        ("ws://h:99999", "cannot be read"),
        ("ws://h:0", "port 0"),
        ("ws://h?x=1", "query"),
        ("ws://h#x", "fragment"),
        ("ws://bücher.example", "ASCII"),
        ("ws://h /x", "characters"),
        ("", "has to look like"),
    ],
)
def test_a_server_url_that_cannot_be_is_refused_with_a_remedy(url: str, says: str) -> None:
    with pytest.raises(InputError) as caught:
        load_agent(NONE, server=url)
    assert caught.value.message.startswith("--server: ")
    assert says in caught.value.message
    assert "joe" not in caught.value.message
    assert "pw" not in caught.value.message


def test_an_agent_has_to_be_told_its_server() -> None:
    with pytest.raises(InputError) as caught:
        load_agent(NONE)
    assert "--server" in caught.value.message


def agent_token(environ: Mapping[str, str], **flags: str) -> str | None:
    token = load_agent({"RESTIC_MANAGER_DATA_DIR": "/srv", **environ}, server="ws://h:1", **flags).token
    return None if token is None else token.text


def test_the_token_comes_from_flag_file_or_environment(tmp_path: Path) -> None:
    file = tmp_path / "token"
    from_file, from_flag, from_environment = TOKENS
    file.write_text(f"  {from_file}\n")
    environ = {"RESTIC_MANAGER_TOKEN": from_environment}
    assert agent_token(environ, token=from_flag) == from_flag
    assert agent_token(environ, token_file=str(file)) == from_file
    assert agent_token(environ) == from_environment
    assert agent_token(NONE) is None
    config = written(tmp_path, f'[agent]\ntoken_file = "{file}"\n')
    assert agent_token(NONE, config=config) == from_file


@pytest.mark.parametrize("token", ["", " ", "two words", "ümlaut", "x" * 5_000, "line\nbreak", TOKENS[0][:-1] + "1"])
def test_a_token_that_is_none_is_refused_without_showing_it(tmp_path: Path, token: str) -> None:
    file = tmp_path / "token"
    file.write_text(token)
    for flags in ({"token": token}, {"token_file": str(file)}):
        with pytest.raises(InputError) as caught:
            agent_token(NONE, **flags)
        assert "--token" in caught.value.message
        assert not token.strip() or token not in caught.value.message


def test_both_token_flags_are_refused() -> None:
    with pytest.raises(InputError):
        agent_token(NONE, token="a", token_file="b")


def test_a_token_file_that_is_not_there_is_named() -> None:
    with pytest.raises(InputError) as caught:
        agent_token(NONE, token_file="/nowhere/token")
    assert "/nowhere/token" in caught.value.message


def test_the_config_does_not_show_its_token() -> None:
    config = load_agent({"RESTIC_MANAGER_DATA_DIR": "/srv"}, server="ws://h:1", token=TOKENS[0])
    assert config.token is not None
    assert config.token.text == TOKENS[0]
    assert TOKENS[0] not in repr(config)
    assert TOKENS[0] not in repr(config.token)
