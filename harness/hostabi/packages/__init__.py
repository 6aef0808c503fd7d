"""Signed apt repositories, downloads, the cache and what is unpacked into it."""
