"""What restic answers to the kinds beside backup and init, read purely: one reader a command, from 0.14 to 0.19."""
