"""Keeps pytest's search for doctests away from the script that needs torch."""

collect_ignore = ['make_torch_goldens.py']
