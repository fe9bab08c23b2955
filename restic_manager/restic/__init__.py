"""Floor 3. The only room that knows restic: its argv, its output, its process, its versions."""
