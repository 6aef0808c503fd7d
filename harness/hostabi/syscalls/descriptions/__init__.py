"""Typed descriptions of syscalls, and programs made of them.

A table module describes the calls of one group, in the words of :mod:`.model`,
:mod:`.arguments`, :mod:`.memory` and :mod:`.values`; :mod:`.groups` has them all, and
:mod:`.programs` makes programs of them.
"""
