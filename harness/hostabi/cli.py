"""The hostabi command."""


def main() -> int:
    """Placeholder entry until the commands land."""
    return 2
