"""Keys and keyrings: what is in them, who may do what, and what ends them."""

from __future__ import annotations

import errno

from hypothesis import given
from hypothesis import strategies as st

from hostabi.syscalls.builder import Ref, Slot
from hostabi.syscalls.cases import Case, Script, batches, hold, long_lists
from hostabi.syscalls.strategies import pattern
from hostabi.syscalls.table import C

SESSION = -3
"""KEY_SPEC_SESSION_KEYRING of linux/keyctl.h."""
VIEW, READ, WRITE, SEARCH, LINK, SETATTR = (1 << bit for bit in range(6))
"""Rights of one class, keyctl_setperm(3); those of the possessor lie 24 bits up, the owner's 16."""
LONGEST = 32767
"""Bytes of a payload of type user: keyrings(7)."""
ROOM = 512

name = st.sampled_from("abc")
ring = st.integers(0, 2)
size = st.integers(1, 60)
operation = st.one_of(
    st.tuples(st.just("add"), ring, name, size),
    st.tuples(st.just("add"), ring, name, size),
    st.tuples(st.just("update"), st.integers(0, 5), size),
    st.tuples(st.just("read"), st.integers(0, 5)),
    st.tuples(st.just("search"), ring, name),
    st.tuples(st.just("search"), st.just(0), name),
    st.tuples(st.just("link"), st.integers(0, 5), ring),
    st.tuples(st.just("link"), st.integers(0, 5), ring),
    st.tuples(st.just("unlink"), st.integers(0, 5), ring),
    st.tuples(st.just("clear"), st.integers(1, 2)),
    st.tuples(st.just("list"), ring),
)


class Keys(Script):
    """A session's keyring with two others in it; a third, never touched, keeps all keys."""

    def __init__(self) -> None:
        super().__init__()
        self.session = self.works("keyctl", C.KEYCTL_JOIN_SESSION_KEYRING, 0, opaque=True)
        self.rings = [self.session]
        self.held: list[dict[str, Ref]] = [{}, {}, {}]
        self.payloads: dict[Ref, bytes] = {}
        self.keys: list[tuple[str, Ref]] = []
        for name in ("one", "two", "store"):
            self.rings.append(self.add("keyring", name, b"", self.session))
        self.store = self.rings.pop()

    def add(self, kind: str, name: str, payload: bytes, ring: Ref) -> Ref:
        given = (self.content(payload), len(payload)) if payload else (0, 0)
        return self.works(
            "add_key", self.string(kind), self.string(name), *given, ring, opaque=True
        )

    def same(self, ref: Ref, key: Ref) -> None:
        def check(trace) -> None:
            assert trace[ref] == trace[key], f"r{ref.call} is another key than r{key.call}"

        self.ensure(check)

    def do_add(self, index: int, name: str, size: int) -> None:
        """add_key(2): a key of that name in the ring is updated, and stays the one it was."""
        payload = pattern(len(self), size)
        ref = self.add("user", name, payload, self.rings[index])
        known = self.held[index].get(name)
        if known is not None:
            self.same(ref, known)
            self.payloads[known] = payload
            return
        self.held[index][name] = ref
        self.payloads[ref] = payload
        self.keys.append((name, ref))
        # Rings hold one key of a name, so each is kept in a ring of its own.
        own = self.add("keyring", f"of {ref.call}", b"", self.store)
        self.returns(0, "keyctl", C.KEYCTL_LINK, ref, own)

    def pick(self, index: int) -> tuple[str, Ref] | None:
        return self.keys[index % len(self.keys)] if self.keys else None

    def do_update(self, index: int, size: int) -> None:
        found = self.pick(index)
        if found:
            payload = pattern(len(self), size)
            self.returns(0, "keyctl", C.KEYCTL_UPDATE, found[1], self.content(payload), size)
            self.payloads[found[1]] = payload

    def do_read(self, index: int) -> None:
        found = self.pick(index)
        if found:
            payload, into = self.payloads[found[1]], self.buffer(64)
            self.returns(len(payload), "keyctl", C.KEYCTL_READ, found[1], 0, 0)
            ref = self.returns(
                len(payload), "keyctl", C.KEYCTL_READ, found[1], into, 64, out=[into]
            )
            self.holds(ref, into, payload.ljust(64, b"\0"))

    def do_search(self, index: int, name: str) -> None:
        """The ring's own come first, then those of the rings in it: keyctl_search(3)."""
        wanted = (self.rings[index], self.string("user"), self.string(name), 0)
        places = [index] if index else [0, 1, 2]
        able = [self.held[each][name] for each in places if name in self.held[each]]
        if index == 0:
            able += [key for each, key in self.keys if each == name]  # those in the store
        if not able:
            self.returns(-errno.ENOKEY, "keyctl", C.KEYCTL_SEARCH, *wanted)
            return
        ref = self.works("keyctl", C.KEYCTL_SEARCH, *wanted, opaque=True)
        if name in self.held[index]:
            self.same(ref, self.held[index][name])
            return

        def check(trace) -> None:
            assert trace[ref] in [trace[key] for key in able], "a key that nobody has"

        self.ensure(check)

    def do_link(self, index: int, ring: int) -> None:
        """A key of the same name makes way: keyctl_link(3)."""
        found = self.pick(index)
        if found:
            self.returns(0, "keyctl", C.KEYCTL_LINK, found[1], self.rings[ring])
            self.held[ring][found[0]] = found[1]

    def do_unlink(self, index: int, ring: int) -> None:
        """A ring knows its keys by type and name: another key of that name stands for its own."""
        found = self.pick(index)
        if found:
            there = found[0] in self.held[ring]
            result = 0 if there else -errno.ENOENT
            self.returns(result, "keyctl", C.KEYCTL_UNLINK, found[1], self.rings[ring])
            if there:
                del self.held[ring][found[0]]

    def do_clear(self, ring: int) -> None:
        self.returns(0, "keyctl", C.KEYCTL_CLEAR, self.rings[ring])
        self.held[ring].clear()

    def do_list(self, ring: int) -> None:
        """A keyring is read as the numbers of its keys: keyctl_read(3)."""
        keys = [*self.held[ring].values(), *([*self.rings[1:], self.store] if ring == 0 else [])]
        into: Slot = self.buffer(ROOM)
        ref = self.returns(
            4 * len(keys), "keyctl", C.KEYCTL_READ, self.rings[ring], into, ROOM, out=[into]
        )

        def check(trace) -> None:
            raw = trace.bytes(ref, into)[: trace[ref]]
            found = [int.from_bytes(raw[at : at + 4], "little") for at in range(0, len(raw), 4)]
            assert sorted(found) == sorted(trace[key] for key in keys)

        self.ensure(check)


def story(operations: list[tuple]) -> Case:
    script = Keys()
    # Keys that are gone are of their owner's quota until they are collected, and root's is wide.
    script.needs.add("root")
    script.play(operations)
    for index in range(3):
        script.do_list(index)
    for index in range(len(script.keys)):
        script.do_read(index)
    return script.case()


@given(batch=batches(long_lists(operation, 12).map(story), 10))
def test_keyrings_hold_their_keys(agent, features, batch):
    """One key of a name in a ring, found there or in a ring within, with its last payload.

    keyrings(7), add_key(2), keyctl(2) on READ, UPDATE, SEARCH, LINK, UNLINK and CLEAR.
    """
    hold(agent, batch, features)


def allowed(possessor: int, owner: int, deeds: list[str]) -> Case:
    """The owner's rights, and the possessor's for a key that a search may find."""
    script = Script()
    script.works("keyctl", C.KEYCTL_JOIN_SESSION_KEYRING, 0, opaque=True)
    given = (script.string("user"), script.string("a"), script.content(b"payload"), 7)
    key = script.works("add_key", *given, SESSION, opaque=True)
    other = script.works(
        "add_key", script.string("keyring"), script.string("r"), 0, 0, SESSION, opaque=True
    )
    script.returns(0, "keyctl", C.KEYCTL_SETPERM, key, possessor << 24 | owner << 16)
    possessed = bool((possessor | owner) & SEARCH)
    rights = owner | (possessor if possessed else 0)
    room = script.buffer(64)
    calls = {
        "view": (VIEW, C.KEYCTL_DESCRIBE, (key, room, 64)),
        "read": (READ, C.KEYCTL_READ, (key, room, 64)),
        "write": (WRITE, C.KEYCTL_UPDATE, (key, script.content(b"changed"), 7)),
        "link": (LINK, C.KEYCTL_LINK, (key, other)),
        "time": (SETATTR, C.KEYCTL_SET_TIMEOUT, (key, 1000)),
    }
    for deed in deeds:
        need, command, arguments = calls[deed]
        # keyctl_read(3): a key that a search may find may be read.
        able = rights & need or (deed == "read" and possessed)
        if able:
            script.works("keyctl", command, *arguments)
        else:
            script.returns(-errno.EACCES, "keyctl", command, *arguments)
    search = (SESSION, script.string("user"), script.string("a"), 0)
    if possessed:
        script.works("keyctl", C.KEYCTL_SEARCH, *search, opaque=True)
    else:
        script.returns(-errno.EACCES, "keyctl", C.KEYCTL_SEARCH, *search)
    result = 0 if rights & SETATTR else -errno.EACCES
    script.returns(result, "keyctl", C.KEYCTL_SETPERM, key, 0x3F3F0000)
    script.returns(-errno.EINVAL, "keyctl", C.KEYCTL_SETPERM, key, 1 << 30)
    return script.case()


bits = st.integers(0, 63)
deed = st.sampled_from(["view", "read", "write", "link", "time"])


@given(batch=batches(st.builds(allowed, bits, bits, st.lists(deed, max_size=6))))
def test_rights_of_keys_are_kept(agent, features, batch):
    """Each deed needs its right, of the owner or, for a key in reach, of the possessor.

    keyrings(7) on possession and access rights, keyctl_setperm(3).
    """
    hold(agent, batch, features)


def ended(how: str, deeds: list[str], kind: str) -> Case:
    """A revoked key says so, one that was made invalid is gone."""
    script = Script()
    script.works("keyctl", C.KEYCTL_JOIN_SESSION_KEYRING, 0, opaque=True)
    given = (script.content(b"payload"), 7) if kind == "user" else (0, 0)
    key = script.works(
        "add_key", script.string(kind), script.string("a"), *given, SESSION, opaque=True
    )
    command = C.KEYCTL_REVOKE if how == "revoked" else C.KEYCTL_INVALIDATE
    script.returns(0, "keyctl", command, key)
    room = script.buffer(64)
    calls = {
        "read": (C.KEYCTL_READ, key, room, 64),
        "write": (C.KEYCTL_UPDATE, key, script.content(b"changed"), 7),
        "link": (C.KEYCTL_LINK, key, SESSION),
        "time": (C.KEYCTL_SET_TIMEOUT, key, 1000),
        "perm": (C.KEYCTL_SETPERM, key, 0x3F3F0000),
        "revoke": (command, key),
    }
    search = (C.KEYCTL_SEARCH, SESSION, script.string(kind), script.string("a"), 0)
    refs = [script.call("keyctl", *each) for each in (*map(calls.__getitem__, deeds), search)]
    # An invalid one is gone once somebody sweeps, and till then it is out of reach.
    able = {-errno.EKEYREVOKED}
    if how == "invalid":
        able |= {-errno.ENOKEY, -errno.EACCES}

    def check(trace) -> None:
        for ref in refs:
            assert trace[ref] in able, f"r{ref.call} is {trace[ref]}"

    script.ensure(check)
    # A new one of the same name is another key.
    again = script.works(
        "add_key", script.string(kind), script.string("a"), *given, SESSION, opaque=True
    )
    script.ensure(lambda trace: other(trace[again], trace[key]))
    return script.case()


def other(one: int, two: int) -> None:
    assert one != two, "a key came back to life"


deeds = st.lists(st.sampled_from(["read", "link", "time", "perm", "revoke"]), max_size=5)
endings = st.builds(
    ended, st.sampled_from(["revoked", "invalid"]), deeds, st.sampled_from(["user", "keyring"])
)


@given(batch=batches(endings))
def test_ended_keys_stay_ended(agent, features, batch):
    """EKEYREVOKED for whatever is asked of a revoked key, and nothing is done of an invalid one.

    keyctl_revoke(3), keyctl_invalidate(3).
    """
    hold(agent, batch, features)


def refused(size: int, name: str, kind: str, user: int) -> Case:
    """add_key(2): what is no key, and what is more than a user may have."""
    script = Script(arena=1 << 18)
    script.works("keyctl", C.KEYCTL_JOIN_SESSION_KEYRING, 0, opaque=True)
    if size <= QUOTA:
        user = 0  # what an earlier program of his had may not be given back yet
    if user:
        script.needs.add("root")
        script.returns(0, "setresuid", user, user, user)
    payload = script.buffer(LONGEST + 1)
    result = 0
    if kind.startswith("."):
        result = -errno.EPERM
    elif len(name) > 4095:
        result = -errno.EINVAL
    elif kind == "unknown":
        result = -errno.ENODEV
    elif not 0 < size <= LONGEST:
        result = -errno.EINVAL
    elif user and size > QUOTA:
        result = -errno.EDQUOT
    arguments = ("add_key", script.string(kind), script.string(name), payload, size, SESSION)
    if result and size <= QUOTA:
        script.returns(result, *arguments)
        return script.case()
    script.needs.add("root")  # an ordinary user's quota may be used up by what he had before
    if result:
        script.returns(result, *arguments)
    else:
        script.works(*arguments, opaque=True)
    return script.case()


QUOTA = 20000
"""Bytes of keys that a user may have who is not root, keyrings(7) on maxbytes."""
refusals = st.builds(
    refused, st.one_of(st.integers(0, 100), st.sampled_from([LONGEST, LONGEST + 1, QUOTA + 1])),
    st.sampled_from(["a", "name", "n" * 4096]), st.sampled_from(["user", "unknown", ".own"]),
    st.sampled_from([0, 0, 77]),
)  # fmt: skip


@given(batch=batches(refusals))
def test_keys_have_bounds(agent, features, batch):
    """EINVAL for no or too long a payload or name, ENODEV for a type, EDQUOT over the quota.

    add_key(2), keyrings(7).
    """
    hold(agent, batch, features)
