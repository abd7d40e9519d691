"""Keeps pytest's search for doctests away from the scripts that need torch."""

collect_ignore = ['make_embedding_goldens.py', 'make_torch_goldens.py']
