"""Scheduling: policies, priorities, processors: sched(7)."""

from __future__ import annotations

import struct as packing

from hostabi.syscalls.descriptions.arguments import flags, just, pick, takes
from hostabi.syscalls.descriptions.memory import Maybe, Null, out, raw, struct
from hostabi.syscalls.descriptions.model import Description, Kind, describe
from hostabi.syscalls.table import C

_WHO = takes("pid", Kind.CHILD, also=(0,), odd=(4194305, -1))
_SELF = pick("pid", 0, odd=(4194305, -1))
_POLICY = pick("policy", C.SCHED_NORMAL, C.SCHED_BATCH, C.SCHED_IDLE, odd=(99, -1))
_ANY_POLICY = pick(
    "policy", C.SCHED_NORMAL, C.SCHED_FIFO, C.SCHED_RR, C.SCHED_BATCH, C.SCHED_IDLE, odd=(99, -1)
)
_ZERO = raw("param", bytes(4), (0).to_bytes(4, "little"), (5).to_bytes(4, "little"))
_ATTR = struct(
    "uattr",
    "struct sched_attr",
    size=48,
    sched_policy=pick("sched_policy", C.SCHED_NORMAL, C.SCHED_BATCH, C.SCHED_IDLE, odd=(99,)),
    sched_flags=flags(
        "sched_flags", "SCHED_FLAG_", usual=(0, C.SCHED_FLAG_RESET_ON_FORK), width=64
    ),
    sched_nice=pick("sched_nice", 0, 5, 19, odd=(100,)),
)
_IOPRIO = tuple(level << 13 | data for level, data in ((2, 4), (0, 0), (3, 0), (2, 7)))
_WHICH = pick("which", 1, 2, 3, odd=(0, 4))

DESCRIPTIONS: tuple[Description, ...] = (
    describe("sched_yield"),
    describe("sched_getscheduler", _WHO),
    describe("sched_setscheduler", _SELF, _POLICY, _ZERO),
    describe("sched_getparam", _WHO, out("param", "int")),
    describe("sched_setparam", _SELF, _ZERO),
    describe("sched_get_priority_max", _ANY_POLICY),
    describe("sched_get_priority_min", _ANY_POLICY),
    describe("sched_rr_get_interval", _WHO, out("interval", "struct timespec", kept=False)),
    describe(
        "sched_getattr", _WHO, out("uattr", "struct sched_attr", size="usize"), flags("flags")
    ),
    describe("sched_setattr", _SELF, _ATTR, flags("flags")),
    describe(
        "sched_getaffinity",
        _WHO,
        pick("len", 128, 1024, odd=(0, 7)),
        out("user_mask_ptr", "uint64_t", 128, kept=False),
        opaque=True,
    ),
    describe(
        "sched_setaffinity",
        _SELF,
        pick("len", 8, 128, 1),
        raw("user_mask_ptr", packing.pack("<Q", 1).ljust(128, b"\0"), b"\xff" * 128, bytes(128)),
    ),
    describe("getpriority", pick("which", C.PRIO_PROCESS, C.PRIO_PGRP, odd=(3,)), just("who", 0)),
    describe(
        "setpriority",
        pick("which", C.PRIO_PROCESS, C.PRIO_PGRP, odd=(3,)),
        just("who", 0),
        pick("niceval", 0, 5, 19, 100, -5),
    ),
    describe("ioprio_get", _WHICH, just("who", 0)),
    describe("ioprio_set", _WHICH, just("who", 0), pick("ioprio", *_IOPRIO, odd=(1 << 13, -1))),
    describe(
        "getcpu",
        Maybe(out("cpup", "int", kept=False)),
        Maybe(out("nodep", "int", kept=False)),
        Null("unused"),
    ),
    describe(
        "membarrier",
        pick(
            "cmd",
            C.MEMBARRIER_CMD_QUERY,
            C.MEMBARRIER_CMD_GLOBAL,
            C.MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED,
            C.MEMBARRIER_CMD_PRIVATE_EXPEDITED,
            odd=(1 << 20,),
        ),
        flags("flags"),
        just("cpu_id", 0),
        opaque=True,
    ),
)
