"""Talking to an agent: its build, the wire, programs and commands."""
