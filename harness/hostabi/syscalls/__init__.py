"""Syscalls by name: numbers, constants, structs, and programs made of them."""
