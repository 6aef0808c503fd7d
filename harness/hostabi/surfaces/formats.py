"""Shell lines that tell whether a file has a format that :mod:`.shapes` knows."""

from __future__ import annotations

from hostabi.surfaces.reproducers import Reproducer, file_passes, quoted, word_of

_KEYED = r"/^[ \t]*[A-Za-z_#.][^:]*:([ \t]|$)/ { keyed++ }"
_FLAT = r"/^[A-Za-z_][A-Za-z0-9_.()-]*:?[ \t]+[^ \t]/ { flat++ }"
_PAIRS = "NR % 2 { head = $1; width = NF; next } $1 != head || NF != width { odd = 1 }"
_AWK = {
    "keyed": f"NF {{ all++ }} {_KEYED} END {{ exit !(all && keyed * 2 >= all) }}",
    "flat keyed": f"NF {{ all++ }} {_FLAT} END {{ exit !(all && flat == all) }}",
    "names": "NF { all++ } NF > 2 { odd = 1 } END { exit odd || all < 2 }",
    "named pairs": f"{_PAIRS} END {{ exit odd || !NR || NR % 2 }}",
    "fields": "NF { all++; if (width && NF != width) odd = 1; width = NF } "
    "END { exit odd || !all || width < 2 }",
    "mounts": "NF { all++ } / - / { tagged++ } END { exit !all || all != tagged }",
}
"""Programs of awk that end with status 0 for what has the format."""
_NUMBER = r"[-+]?[0-9]+|0x[0-9a-f]+"
_CHOICE = r"([^][]*[[:space:]])?\[[[:alnum:]_+-]+\]([[:space:]][^][]*)?"


def file_has_format(path: str, name: str) -> Reproducer | None:
    """A file's content has the format ``name``; None where that takes more than a line to tell."""
    file = word_of(path)
    number = f"echo $(cat {file}) | grep -Eqx {quoted(_NUMBER)}"
    choice = f'test "$(grep -c . {file})" = 1 && grep -Eqx {quoted(_CHOICE)} {file}'
    if name in _AWK:
        test = f"awk {quoted(_AWK[name])} {file}"
    elif name == "number":
        test = number
    elif name == "choice":
        test = choice
    elif name == "text":
        test = f"grep -q . {file} && ! {{ {number}; }} && ! {{ {choice}; }}"
    else:
        return None
    return file_passes(path, test, f"reads as {name}")


def file_has_fields(path: str, count: int) -> Reproducer:
    """Each line of a file has so many words."""
    test = f"NF {{ all++ }} NF && NF != {count} {{ odd = 1 }} END {{ exit odd || !all }}"
    return file_passes(path, f"awk {quoted(test)} {word_of(path)}", f"{count} fields in a line")
