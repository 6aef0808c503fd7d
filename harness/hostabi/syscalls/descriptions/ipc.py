"""System V and POSIX inter-process communication, in an IPC namespace of the program's own."""

from __future__ import annotations

import struct as packing

from hostabi.syscalls.descriptions.arguments import fd, flags, just, pick, takes
from hostabi.syscalls.descriptions.memory import (
    After,
    Data,
    Maybe,
    Null,
    Out,
    Room,
    out,
    raw,
    rows,
    struct,
    text,
)
from hostabi.syscalls.descriptions.model import Description, Kind, Makes, describe
from hostabi.syscalls.strategies import PAGE
from hostabi.syscalls.table import C

_IPC = C.CLONE_NEWIPC
_KEY = pick("key", C.IPC_PRIVATE, 17, 18, odd=(19,))
_MAKE = flags("flags", usual=(C.IPC_CREAT | 0o600, C.IPC_CREAT | C.IPC_EXCL | 0o600), ignored=True)
_QUEUE = takes("msqid", Kind.QUEUE, Kind.FILLED, odd=(-1, 99))
_SET = takes("semid", Kind.SEMAPHORES, odd=(-1, 99))
_SEGMENT = takes("shmid", Kind.SEGMENT, odd=(-1, 99))
_MESSAGE = raw(
    "msgp", packing.pack("<q", 1) + b"message", packing.pack("<q", 0) + b"message", written=True
)
_PRIORITY = pick("msg_prio", 0, 5, odd=(1 << 16,))
_NOTHING = raw("timeout", bytes(16))
_OPERATION = pick("sem_op", 1, 0, 2, -1, odd=(32767,))
_SOPS = rows(
    "tsops", "nsops", "struct sembuf",
    sem_num=pick("sem_num", 0, 1, odd=(9,)), sem_op=_OPERATION,
    sem_flg=pick("sem_flg", C.IPC_NOWAIT, C.IPC_NOWAIT | C.SEM_UNDO, odd=()),
)  # fmt: skip
_MQ_NAME = text("u_name", "queue", "other", odd=("", "a/b"))
_MQ = (C.O_RDWR | C.O_CREAT | C.O_NONBLOCK, C.O_RDWR | C.O_CREAT | C.O_EXCL | C.O_NONBLOCK)


def _control(call: str, who: str, kind: Kind, command: str, last: object = None) -> Description:
    """One command of msgctl(2) and its kin."""
    number: int = getattr(C, command)
    argument = last if isinstance(last, Out) else Null("buf")
    identifier = takes(who, kind, odd=(-1, 99), ends=command == "IPC_RMID")
    return describe(f"{call}.{command}", identifier, just("cmd", number), argument, fresh=_IPC)


def _semctl(command: str, argument: object) -> Description:
    number: int = getattr(C, command)
    last = argument if isinstance(argument, Out) else pick("arg", 1, 0, odd=(-1, 1 << 15))
    return describe(
        f"semctl.{command}",
        _SET,
        pick("semnum", 0, 1, odd=(9,)),
        just("cmd", number),
        last,
        fresh=_IPC,
    )


DESCRIPTIONS: tuple[Description, ...] = (
    describe("msgget", _KEY, _MAKE, makes=Kind.QUEUE, opaque=True, fresh=_IPC),
    describe(
        "msgsnd",
        _QUEUE,
        _MESSAGE,
        pick("msgsz", 7, 0, odd=(-1, 9000)),
        flags("msgflg", usual=(C.IPC_NOWAIT,), ignored=True),
        makes=(Makes(Kind.FILLED, of="msqid"),),
        fresh=_IPC,
    ),
    describe(
        "msgrcv",
        takes("msqid", Kind.FILLED, odd=(-1, 99)),
        out("msgp", "uint64_t", 8),
        pick("msgsz", 56, 0, 3, odd=(-1,)),
        pick("msgtyp", 0, 1, -1, 7),
        flags("msgflg", usual=(C.IPC_NOWAIT, C.IPC_NOWAIT | C.MSG_NOERROR), ignored=True),
        fresh=_IPC,
    ),
    _control("msgctl", "msqid", Kind.QUEUE, "IPC_STAT", out("buf", "struct msqid64_ds")),
    _control("msgctl", "msqid", Kind.QUEUE, "IPC_RMID"),
    _control("msgctl", "msqid", Kind.QUEUE, "IPC_INFO", out("buf", "uint64_t", 16, kept=False)),
    describe(
        "semget",
        _KEY,
        pick("nsems", 2, 1, 16, odd=(0, -1)),
        _MAKE,
        makes=Kind.SEMAPHORES,
        opaque=True,
        fresh=_IPC,
    ),
    describe("semop", _SET, _SOPS, fresh=_IPC),
    describe("semtimedop", _SET, _SOPS, _NOTHING, fresh=_IPC),
    _semctl("SETVAL", None),
    _semctl("GETVAL", None),
    _semctl("GETPID", None),
    _semctl("GETNCNT", None),
    _semctl("GETALL", out("arg", "uint16_t", 32)),
    _semctl("IPC_STAT", out("arg", "struct semid64_ds")),
    describe(
        "semctl.IPC_RMID",
        takes("semid", Kind.SEMAPHORES, odd=(-1,), ends=True),
        just("semnum", 0),
        just("cmd", C.IPC_RMID),
        Null("arg"),
        fresh=_IPC,
    ),
    describe(
        "shmget",
        _KEY,
        pick("size", PAGE, 1, 4 * PAGE, odd=(0, -1)),
        _MAKE,
        makes=Kind.SEGMENT,
        opaque=True,
        fresh=_IPC,
    ),
    describe(
        "shmat",
        _SEGMENT,
        just("shmaddr", 0),
        flags("shmflg", usual=(0, C.SHM_RDONLY, C.SHM_EXEC), ignored=True),
        makes=Kind.ATTACHED,
        opaque=True,
        fresh=_IPC,
    ),
    describe("shmdt", takes("shmaddr", Kind.ATTACHED, ends=True, odd=(0, 4096)), fresh=_IPC),
    _control("shmctl", "shmid", Kind.SEGMENT, "IPC_STAT", out("buf", "struct shmid64_ds")),
    _control("shmctl", "shmid", Kind.SEGMENT, "IPC_RMID"),
    _control("shmctl", "shmid", Kind.SEGMENT, "SHM_LOCK"),
    describe(
        "mq_open",
        _MQ_NAME,
        flags("oflag", "O_", usual=_MQ, width=23),
        pick("mode", 0o600, 0),
        # nine queues of the size that NULL means are all that a user may have (RLIMIT_MSGQUEUE),
        # and those of a program count until its namespace is gone, which nobody waits for
        Maybe(
            struct(
                "u_attr",
                "struct mq_attr",
                mq_maxmsg=pick("mq_maxmsg", 4, 1, odd=(0, 1 << 20)),
                mq_msgsize=pick("mq_msgsize", 128, 8, odd=(0, 1 << 30)),
            ),
            first=True,
        ),
        makes=Kind.MESSAGES,
        fresh=_IPC,
    ),
    describe("mq_unlink", After(Kind.MESSAGES, _MQ_NAME), fresh=_IPC),
    describe(
        "mq_timedsend",
        fd("mqdes", Kind.MESSAGES),
        Data("u_msg_ptr", "msg_len", (8, 0, 100)),
        _PRIORITY,
        _NOTHING,
        makes=(Makes(Kind.SENT, of="mqdes"),),
        fresh=_IPC,
    ),
    describe(
        "mq_timedreceive",
        fd("mqdes", Kind.SENT, Kind.MESSAGES),
        Room("u_msg_ptr", "msg_len", (8192, 8, 128)),
        Maybe(out("u_msg_prio", "int")),
        _NOTHING,
        fresh=_IPC,
    ),
    describe(
        "mq_notify",
        fd("mqdes", Kind.MESSAGES),
        Maybe(raw("u_notification", bytes(8) + packing.pack("<ii", 0, 1) + bytes(48))),
        fresh=_IPC,
    ),
    describe(
        "mq_getsetattr",
        fd("mqdes", Kind.MESSAGES),
        Maybe(
            struct("u_mqstat", "struct mq_attr", mq_flags=pick("mq_flags", C.O_NONBLOCK, odd=(1,)))
        ),
        Maybe(out("u_omqstat", "struct mq_attr"), first=True),
        fresh=_IPC,
    ),
)
