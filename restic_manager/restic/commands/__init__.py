"""The command lines of the kinds beside backup and init, one small module a family. The rules are `restic.command`'s.

A flag's value is in the flag's own word, what a user chose comes after `--`, secrets are in the environment.
"""
