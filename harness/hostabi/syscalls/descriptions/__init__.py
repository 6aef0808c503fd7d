"""Typed descriptions of syscalls, and programs made of them."""
