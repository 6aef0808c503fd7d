"""One QEMU process that runs one build: how it is started, watched, saved and ended."""
