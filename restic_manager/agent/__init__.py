"""Floor 4. The process on a host: journal, scheduler, session, runner."""
