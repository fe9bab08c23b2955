"""The agent's composition root: the journal, and round it the nursery of signals, scheduler, runner and session.

Owns the order in which things start and stop. The first SIGTERM or SIGINT drains: nothing new starts, what runs is
asked to stop, its verdict is journaled and, if the link is up, sent. The second cancels.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from pathlib import Path
from typing import Final

import trio

from restic_manager.agent import records
from restic_manager.agent.identity import Identity, IdentityFiles, establish
from restic_manager.agent.journal import Journal, open_journal
from restic_manager.agent.runner import Runner, RunOrder, Stream
from restic_manager.agent.scheduler import Scheduler
from restic_manager.agent.session import Bell, ResticFacts, Session
from restic_manager.agent.slots import Slots
from restic_manager.config import AgentConfig
from restic_manager.domain.cron import splay_offset
from restic_manager.domain.errors import ManagerError
from restic_manager.domain.model import Failure, Outcome, Progress, Status
from restic_manager.link import Link, dial
from restic_manager.protocol import codec
from restic_manager.protocol.messages import CommandRun
from restic_manager.restic.run import Binary, Task, find_binary, run_task
from restic_manager.runtime import datadir
from restic_manager.runtime.clock import Clock, SystemClock
from restic_manager.runtime.signals import watch_signals
from restic_manager.runtime.wakeup import open_alarm

logger = logging.getLogger(__name__)

_FAREWELL_WITHIN: Final = 10.0
"""Seconds for the last reports to leave when the agent stops."""


async def run_agent(config: AgentConfig, *, task_status: trio.TaskStatus[Identity] = trio.TASK_STATUS_IGNORED) -> None:
    """Given its config, run the agent until a signal ends it.

    Raise StorageError if the data directory cannot be used or another agent has it, InputError or RefusedError if this
    host has not joined and cannot.
    """
    datadir.prepare(config.data_dir)
    with datadir.lock(config.data_dir, "agent"):
        async with trio.open_nursery() as nursery:
            first, second = await nursery.start(watch_signals, name="signals")
            async with trio.open_nursery() as work:
                work.start_soon(_cancel_when, second, work.cancel_scope, name="second signal")
                with trio.CancelScope() as joining:
                    work.start_soon(_cancel_when, first, joining, name="signal while joining")
                    identity = await establish(
                        IdentityFiles(config.data_dir),
                        config.token,
                        lambda token: _dial(config, "/join", token),
                        reconnect_max=config.reconnect_max,
                    )
                    joining.shield = True
                    await _run_as(identity, config, first, task_status)
                work.cancel_scope.cancel()
            nursery.cancel_scope.cancel()
