"""Settings for the harness's own tests."""

from hypothesis import settings

# How long an example takes says how busy the machine is, and nothing about the code.
settings.register_profile("selftest", deadline=None)
settings.load_profile("selftest")
