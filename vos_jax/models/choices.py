"""Refusing settings that no code understands."""

from vos_jax.errors import InputError


def check_choices(spec, choices, where):
    """Raises InputError where a field of `spec` has a value that is not among its choices.

    Args:
      spec: dataclass.
      choices: dict of field name -> allowed values.
      where: config key of the spec, as 'model.encoder'.
    """
    for name, allowed in choices.items():
        value = getattr(spec, name)
        if value not in allowed:
            raise InputError(
                f"'{where}.{name}' is {value!r}; one of {', '.join(map(repr, allowed))}"
            )
