"""Semi-supervised video object segmentation in JAX: GIEL, CFBI and STM."""

__version__ = '0.1.0'
