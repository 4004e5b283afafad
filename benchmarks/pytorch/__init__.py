"""The same models in plain PyTorch, to compare with; PyTorch is optional."""
