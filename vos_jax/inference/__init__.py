"""The temporal step, memory policies and the Python API for segmenting a video."""
