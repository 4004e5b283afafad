"""What pyproject.toml cannot say: the recipes of configs/ go into the package."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=['vos_jax*', 'data_prep*']), 'vos_jax.recipes'],
    package_dir={'vos_jax.recipes': 'configs'},
)
