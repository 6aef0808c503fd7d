"""hostabi measures what a kernel change does to the containers that run on it."""

__version__ = "0.1.0"
