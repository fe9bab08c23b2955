"""What a server and an agent are told at start: flags, environment and a TOML file, as one frozen value each.

A flag wins over the environment, that over the file, that over the default. Every error names where the value stands
(the flag, the variable, or file and key) and what is wrong with it. It refuses to open, bind or dial anything.

The file has the tables `[server]`, `[agent]` and, for operators' commands, `[client]`; a machine may keep all in one.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

from restic_manager.config import values
from restic_manager.config.values import seconds_between
from restic_manager.domain.errors import InputError
from restic_manager.protocol.address import check_pinned_url, parse_server_url
from restic_manager.protocol.jointoken import JoinToken, parse_token
from restic_manager.runtime.datadir import ENVIRONMENT as DATA_DIR_ENVIRONMENT
from restic_manager.runtime.datadir import default_data_dir
from restic_manager.runtime.exposure import NO_TLS, TlsChoice, check_mode, choose_tls
from restic_manager.runtime.keyplace import OWN_KEY, KeyChoice, choose_key
from restic_manager.runtime.localzone import local_timezone

CONFIG_ENVIRONMENT: Final = "RESTIC_MANAGER_CONFIG"
TOKEN_ENVIRONMENT: Final = "RESTIC_MANAGER_TOKEN"  # noqa: S105 - the variable's name
_LONGEST_TOKEN: Final = 4_096
_HOUR: Final = 3_600.0

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class ServerConfig:
    """What a server is told. Durations in seconds.

    listen_port: 0 takes a free one. timezone: of schedules that name none. public_url: what a host is told to dial (the
    default is where the server listens). tls: of the agents' door. behind_proxy: a proxy speaks TLS with the
    hosts, so that they see its certificate and not ours. reconnect_spread: agents spread their reconnects over at least
    this long. request_expires: how long what an operator wants from a host that is away is kept. api_listen: where
    operators are answered over TCP, beside the socket; api_tls: of that door. socket_group: whose members may use the
    socket.
    """

    data_dir: Path
    listen_host: str = "127.0.0.1"
    listen_port: int = 8787
    timezone: str = "UTC"
    public_url: str | None = None
    tls: TlsChoice = NO_TLS
    behind_proxy: bool = False
    api_listen: tuple[str, int] | None = None
    api_tls: TlsChoice = NO_TLS
    socket_group: str | None = None
    heartbeat_interval: float = 15.0
    reconnect_spread: float = 5.0
    lost_after: float = 7 * 86_400.0
    request_expires: float = 86_400.0
    log_level: str = "info"
    key: KeyChoice = OWN_KEY


@dataclass(frozen=True, kw_only=True)
class AgentConfig:
    """What an agent is told. Durations in seconds.

    pin: of the server's certificate, for a machine that announces itself because it has no token.
    reconnect_max: longest pause between two dials. catch_up_delay: how long after the start missed slots wait.
    offline: run by standing orders when the server does not answer, after offline_grace, for as long as offline_lease
    since it was last heard.
    cancel_grace: how long restic has to stop and drop its lock. reset_journal: begin anew where the journal is damaged.
    policy: the file that says what the server may do here (None: that in the data directory). allow: kind words that a
    join writes into it.
    """

    server_url: str
    data_dir: Path
    token: JoinToken | None = None
    pin: str | None = None
    restic_path: str | None = None
    reconnect_max: float = 60.0
    catch_up_delay: float = 30.0
    offline: bool = True
    offline_grace: float = 60.0
    offline_lease: float = 30 * 86_400.0
    cancel_grace: float = 30.0
    log_level: str = "info"
    reset_journal: bool = False
    key: KeyChoice = OWN_KEY
    policy: Path | None = None
    allow: tuple[str, ...] = ()

    def __repr__(self) -> str:
        """Return it without the token: this may end up in a traceback or a log."""
        return f"AgentConfig(server_url={self.server_url!r}, data_dir={str(self.data_dir)!r})"


_KEYS: Final[dict[str, tuple[str, ...]]] = {
    "server": (
        "listen",
        "data_dir",
        "timezone",
        "public_url",
        "tls",
        "tls_cert",
        "tls_key",
        "behind_proxy",
        "api_listen",
        "socket_group",
        "heartbeat",
        "reconnect_spread",
        "lost_after",
        "request_expires",
        "log_level",
        "key_file",
        "key_command",
    ),
    "agent": (
        "server",
        "data_dir",
        "token_file",
        "pin",
        "restic",
        "policy",
        "reconnect_max",
        "catch_up_delay",
        "offline",
        "offline_grace",
        "offline_lease",
        "cancel_grace",
        "log_level",
        "key_file",
        "key_command",
    ),
    "client": ("server", "data_dir"),
}
"""The tables of the file and their keys. All values are text."""


def load_server(
    environ: Mapping[str, str],
    *,
    config: str | None = None,
    listen: str | None = None,
    data_dir: str | None = None,
    timezone: str | None = None,
    public_url: str | None = None,
    tls: str | None = None,
    tls_cert: str | None = None,
    tls_key: str | None = None,
    behind_proxy: str | None = None,
    api_listen: str | None = None,
    socket_group: str | None = None,
    log_level: str | None = None,
) -> ServerConfig:
    """Given the environment and the server's flags as they were typed, return its config; raise InputError."""
    place = _Place.of(config, environ, "server")
    host, port = place.read("listen", listen, "RESTIC_MANAGER_LISTEN", values.address, values.DEFAULT_LISTEN)
    proxied = place.read("behind_proxy", behind_proxy, "RESTIC_MANAGER_BEHIND_PROXY", values.yes_or_no, "no")
    tls_of = partial(
        choose_tls,
        tls=place.read_optional("tls", tls, "RESTIC_MANAGER_TLS", check_mode),
        certificate=place.read_optional("tls_cert", tls_cert, "RESTIC_MANAGER_TLS_CERT", values.not_empty),
        key=place.read_optional("tls_key", tls_key, "RESTIC_MANAGER_TLS_KEY", values.not_empty),
        behind_proxy=proxied,
    )
    choice = tls_of(host)
    api = place.read_optional("api_listen", api_listen, "RESTIC_MANAGER_API_LISTEN", values.address)
    public = place.read_optional("public_url", public_url, "RESTIC_MANAGER_PUBLIC_URL", values.server_url)
    if public is not None and choice.mode != "off" and not proxied and not parse_server_url(public).tls:
        raise InputError(f"public_url: {public!r} has to begin with wss://: this server speaks TLS (or say --tls off)")
    return ServerConfig(
        data_dir=place.data_dir(data_dir),
        listen_host=host,
        listen_port=port,
        timezone=place.read("timezone", timezone, "RESTIC_MANAGER_TIMEZONE", values.timezone, local_timezone()),
        public_url=public,
        tls=choice,
        behind_proxy=proxied,
        api_listen=api,
        api_tls=NO_TLS if api is None else tls_of(api[0]),
        socket_group=place.read_optional("socket_group", socket_group, None, values.not_empty),
        heartbeat_interval=place.read("heartbeat", None, None, seconds_between(1, _HOUR), "15s"),
        reconnect_spread=place.read("reconnect_spread", None, None, seconds_between(0, _HOUR), "5s"),
        lost_after=place.read("lost_after", None, None, seconds_between(60, 366 * 86_400), "7d"),
        request_expires=place.read("request_expires", None, None, seconds_between(60, 366 * 86_400), "1d"),
        log_level=place.read("log_level", log_level, "RESTIC_MANAGER_LOG_LEVEL", values.level, "info"),
        key=_key(place),
    )


def load_agent(
    environ: Mapping[str, str],
    *,
    config: str | None = None,
    server: str | None = None,
    token: str | None = None,
    token_file: str | None = None,
    pin: str | None = None,
    data_dir: str | None = None,
    restic: str | None = None,
    policy: str | None = None,
    allow: str | None = None,
    reconnect_max: str | None = None,
    catch_up_delay: str | None = None,
    offline: str | None = None,
    offline_grace: str | None = None,
    offline_lease: str | None = None,
    log_level: str | None = None,
) -> AgentConfig:
    """Given the environment and the agent's flags as they were typed, return its config; raise InputError."""
    place = _Place.of(config, environ, "agent")
    url = place.read_optional("server", server, "RESTIC_MANAGER_AGENT_SERVER", values.server_url)
    if url is None:
        raise InputError("which server? Say --server ws://HOST:PORT (or `server` in the config file's table [agent])")
    joining = _the_token(place, token, token_file)
    known_by = place.read_optional("pin", pin, "RESTIC_MANAGER_PIN", values.pin)
    if joining is not None and pin is not None:
        raise InputError("--pin and --token: say only one of them; the token tells the pin")
    if known_by is not None or (joining is not None and joining.pins):
        check_pinned_url(url)
    return AgentConfig(
        server_url=url,
        data_dir=place.data_dir(data_dir),
        token=joining,
        pin=known_by,
        restic_path=place.read_optional("restic", restic, "RESTIC_MANAGER_RESTIC", values.not_empty),
        policy=place.read_optional("policy", policy, "RESTIC_MANAGER_POLICY", values.file_path),
        allow=() if allow is None else values.kind_words(allow),
        reconnect_max=place.read("reconnect_max", reconnect_max, None, seconds_between(1, 24 * _HOUR), "60s"),
        catch_up_delay=place.read("catch_up_delay", catch_up_delay, None, seconds_between(0, 24 * _HOUR), "30s"),
        offline=place.read("offline", offline, None, values.yes_or_no, "yes"),
        offline_grace=place.read("offline_grace", offline_grace, None, seconds_between(1, 7 * 24 * _HOUR), "60s"),
        offline_lease=place.read("offline_lease", offline_lease, None, seconds_between(60, 3_660 * 24 * _HOUR), "30d"),
        cancel_grace=place.read("cancel_grace", None, None, seconds_between(1, _HOUR), "30s"),
        log_level=place.read("log_level", log_level, "RESTIC_MANAGER_LOG_LEVEL", values.level, "info"),
        key=_key(place),
    )


def _key(place: _Place) -> KeyChoice:
    """Where the key is that secrets are sealed with; for a mode of its own, never from a flag."""
    return choose_key(
        place.environ,
        file=place.read_optional("key_file", None, None, values.not_empty),
        command=place.read_optional("key_command", None, None, values.not_empty),
    )


def load_client(environ: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """Given the environment, return what the config file says of where operators find the server: `server`, else
    `data_dir` (the server's own when [client] names none), each with where it stands; raise InputError.
    """
    client, server = (_Place.of(None, environ, mode) for mode in ("client", "server"))
    found = {"server": client.find("server", None, None)}
    found["data_dir"] = client.find("data_dir", None, None) or server.find("data_dir", None, None)
    return {key: value for key, value in found.items() if value is not None}


@dataclass(frozen=True)
class _Place:
    """Where values of one mode come from."""

    mode: str
    environ: Mapping[str, str]
    file: str | None
    table: Mapping[str, Any]

    @classmethod
    def of(cls, config: str | None, environ: Mapping[str, str], mode: str) -> _Place:
        file = config or environ.get(CONFIG_ENVIRONMENT) or None
        return cls(mode, environ, file, _tables(file).get(mode, {}) if file else {})

    def find(self, key: str, flag: str | None, variable: str | None) -> tuple[str, str] | None:
        """Return the value as written and where it stands."""
        if flag is not None:
            return flag, f"--{key.replace('_', '-')}"
        if variable is not None and self.environ.get(variable):
            return self.environ[variable], variable
        value = self.table.get(key)
        return None if value is None else (value, f"{self.file}, key {self.mode}.{key}")

    def read_optional(self, key: str, flag: str | None, variable: str | None, parse: Callable[[str], T]) -> T | None:
        found = self.find(key, flag, variable)
        if found is None:
            return None
        text, where = found
        try:
            return parse(text)
        except InputError as error:
            raise InputError(f"{where}: {error.message}", code=error.code) from None

    def read(self, key: str, flag: str | None, variable: str | None, parse: Callable[[str], T], default: str) -> T:
        value = self.read_optional(key, flag, variable, parse)
        return parse(default) if value is None else value

    def data_dir(self, flag: str | None) -> Path:
        found = self.read_optional("data_dir", flag, DATA_DIR_ENVIRONMENT, values.not_empty)
        return default_data_dir(found, {})


def _tables(file: str) -> Mapping[str, Mapping[str, Any]]:
    try:
        content = tomllib.loads(Path(file).read_bytes().decode("utf-8"))
    except OSError as error:
        raise InputError(f"the config file {file} cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"the config file {file} is no TOML: {error}") from None
    _refuse_unknown(file, "", content, tuple(_KEYS))
    tables: dict[str, Mapping[str, Any]] = {}
    for name, table in content.items():
        if not isinstance(table, dict):
            raise InputError(f"{file}: {name} has to be a table, [{name}]")
        _refuse_unknown(file, f"{name}.", table, _KEYS[name])
        for key, value in table.items():
            if not isinstance(value, str):
                raise InputError(f'{file}, key {name}.{key}: has to be text in quotes, like "60s", not {value!r}')
        tables[name] = table
    return tables


def _refuse_unknown(file: str, prefix: str, found: Mapping[str, Any], known: tuple[str, ...]) -> None:
    for key in found:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f"did you mean {prefix}{near[0]}?" if near else f"known are {', '.join(known)}"
            raise InputError(f"{file}: unknown key {prefix}{key}: {hint}")


def _the_token(place: _Place, token: str | None, token_file: str | None) -> JoinToken | None:
    if token is not None and token_file is not None:
        raise InputError("--token and --token-file: say only one of them")
    if token is not None:
        return _token(token, "--token")
    if token_file is None and place.environ.get(TOKEN_ENVIRONMENT):
        return _token(place.environ[TOKEN_ENVIRONMENT], TOKEN_ENVIRONMENT)
    found = place.find("token_file", token_file, None)
    if found is None:
        return None
    path, where = found
    try:
        with Path(path).expanduser().open("rb") as file:
            content = file.read(_LONGEST_TOKEN + 1)
    except OSError as error:
        raise InputError(f"{where}: the token file {path} cannot be read: {error.strerror}") from None
    return _token(content.decode("utf-8", "replace"), f"{where}: {path}")


def _token(text: str, where: str) -> JoinToken:
    """Given a token as found, return it; the error never shows it."""
    if not text.strip():
        raise InputError(f"{where}: the token is empty")
    try:
        return parse_token(text)
    except InputError as error:
        raise InputError(f"{where}: {error.message}") from None
