"""The commands, one module each: flags, one call, an exit code.

`vos-NAME` where the package is installed, `python -m vos_jax.commands.NAME` everywhere.
"""
