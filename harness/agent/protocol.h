/*
 * The wire between the host and the agent: its only definition.
 *
 * The C compiler reads this file and so does cffi on the host, hence plain
 * C only: no packed attributes, no bit fields, no shifted constants, and
 * every field naturally aligned so that both sides see the same layout.
 * Numbers are little-endian, as on every machine the agent runs on. Hello
 * carries the agent's own sizes and offsets, so a difference is found before
 * anything else is said.
 *
 * The host asks, the agent answers, one answer for each request, in order.
 * An answer repeats the request's type and id. Its status is 0, or an errno
 * of Linux, and then the payload is a short text that names what failed.
 * Variable parts follow their fixed struct in the order of their counts;
 * "padded" parts end on the next multiple of 8 from the payload's start.
 */
#ifndef HOSTABI_PROTOCOL_H
#define HOSTABI_PROTOCOL_H

#include <stdint.h>

#define WIRE_MAGIC 0x49424148
#define WIRE_VERSION 5
/* The longest payload either side accepts, in bytes. */
#define WIRE_LIMIT 33554432
/* Where a program's arena lies, the same on every kernel. */
#define WIRE_ARENA 0x200000000000
/* The largest arena of one program, in bytes. */
#define WIRE_ARENA_LIMIT 16777216
/* The most processes, threads and images of one program. */
#define WIRE_ROLES 64
/* A value of a call that was not begun, and of one that did not return; no call returns these. */
#define WIRE_UNMADE -9223372036854775807
#define WIRE_BEGUN -9223372036854775806
/* The descriptor by which a program that executes itself anew finds its record. */
#define WIRE_RECORD 1000
/* Arguments of one system call. */
#define WIRE_ARGUMENTS 6

enum wire_type {
	WIRE_HELLO = 1,
	WIRE_PING = 2,
	WIRE_RUN = 3,
	WIRE_COMMAND = 4,
	WIRE_READ = 5,
	WIRE_WRITE = 6,
	WIRE_WALK = 7,
	WIRE_RESET = 8,
	WIRE_CLOCK = 9,
	WIRE_SHELL = 10,
	WIRE_POWER_OFF = 11,
	WIRE_ALTER = 12		/* only builds for tests know it */
};

struct wire_frame {
	uint32_t magic;
	uint32_t type;
	uint32_t id;
	uint32_t length;	/* bytes of payload after this struct */
	int32_t status;
	uint32_t reserved;
};

/* Answer to WIRE_HELLO; then the layouts and the texts of what is missing and what failed. */
struct wire_hello {
	uint32_t version;
	uint32_t pid1;
	uint32_t euid;
	uint32_t cpus;
	uint64_t memory;	/* bytes */
	uint64_t features;	/* bits of wire_feature */
	uint32_t layouts;	/* entries of struct wire_layout */
	uint32_t missing;	/* bytes of NUL-terminated paths of the initramfs */
	uint32_t failed;	/* bytes of NUL-terminated texts: what a guest needs and did not get */
	uint32_t reserved;
	char release[72];
	char machine[72];
};

enum wire_feature {
	WIRE_HAS_CGROUP2 = 1,
	WIRE_HAS_CGROUP1 = 2,
	WIRE_HAS_TRACEFS = 4,
	WIRE_HAS_DEBUGFS = 8,
	WIRE_HAS_MODULES = 16
};

/* "wire_frame.id" for a field, "wire_frame" for a whole struct. */
struct wire_layout {
	char name[56];
	uint32_t offset;
	uint32_t size;
};

enum wire_scratch {
	WIRE_SCRATCH_TMPFS = 0,
	WIRE_SCRATCH_EXT4 = 1,
	WIRE_SCRATCH_OVERLAY = 2
};

enum wire_sandbox_flag {
	WIRE_MAP_ROOT = 1,
	WIRE_NO_NEW_PRIVS = 2,
	WIRE_OWN_PROC = 4,	/* mount a proc of its own PID namespace at /proc */
	WIRE_OWN_SYS = 8	/* mount a sysfs of its own network namespace at /sys */
};

struct wire_sandbox {
	uint64_t namespaces;	/* CLONE_NEW* bits */
	uint32_t uid;
	uint32_t gid;
	uint32_t flags;		/* bits of wire_sandbox_flag */
	uint32_t scratch;	/* one of wire_scratch */
	uint32_t timeout;	/* milliseconds */
	uint32_t filter;	/* bytes of struct sock_filter that follow the request's struct */
};

enum wire_kind {
	WIRE_NUMBER = 0,	/* value itself */
	WIRE_RESULT = 1,	/* value returned by the call with index value */
	WIRE_WORD = 2,		/* signed number of size bytes found in the arena at offset value */
	WIRE_POINTER = 3	/* address of the arena plus value */
};

struct wire_value {
	uint32_t kind;		/* one of wire_kind */
	uint32_t size;		/* bytes, of WIRE_WORD only */
	uint64_t value;
};

/* Done before a call: size bytes of value are put at offset of the arena. */
struct wire_store {
	uint32_t offset;
	uint32_t size;
	struct wire_value value;
};

/* How a call enters the kernel, and by which table its number is read. */
enum wire_abi {
	WIRE_NATIVE = 0,	/* syscall */
	WIRE_X32 = 1,		/* syscall, the number with bit 30 set */
	WIRE_IA32 = 2,		/* int $0x80: each argument is cut to 32 bits */
	WIRE_DEED = 3		/* no system call: number is one of wire_deed */
};

enum wire_deed {
	WIRE_AWAIT = 1		/* wait until the call with index argument 0 is as argument 1 says */
};

enum wire_until {
	WIRE_UNTIL_MADE = 0,	/* it has returned */
	WIRE_UNTIL_BEGUN = 1,	/* it was entered, or nearly so */
	WIRE_UNTIL_ASLEEP = 2	/* who makes it sleeps in it, or it has returned */
};

struct wire_call {
	int64_t number;
	uint32_t arguments;
	uint32_t stores;	/* how many of the program's next stores belong to this call */
	uint32_t abi;		/* one of wire_abi */
	uint16_t role;		/* who makes it; 0 is the first process */
	uint16_t starts;	/* the role of what it forks or executes; 0: as the flags say */
	struct wire_value argument[6];
};

/* Bytes of the arena to keep as they were right after a call. */
struct wire_output {
	uint32_t call;
	uint32_t offset;
	uint32_t length;
	uint32_t reserved;
};

enum wire_program_flag {
	WIRE_PAUSE_CHILDREN = 1,	/* what a call forks waits to be killed; else it ends at once */
	WIRE_REPORT_STATE = 2,	/* say what is left in the process and in its folder */
	WIRE_REPORT_MOUNTS = 4	/* and its mounts */
};

/* Then calls, stores, outputs and data (padded). */
struct wire_program {
	uint32_t calls;
	uint32_t stores;
	uint32_t outputs;
	uint32_t data;		/* bytes the arena starts with */
	uint32_t arena;		/* bytes */
	uint32_t flags;		/* bits of wire_program_flag */
	uint32_t roles;		/* with more than one the arena is shared, also over execve */
	uint32_t reserved;
};

/* WIRE_RUN: then the filter (padded) and the programs. */
struct wire_run {
	struct wire_sandbox sandbox;
	uint32_t programs;
	uint32_t reserved;
};

enum wire_end {
	WIRE_EXITED = 0,	/* code is the exit status */
	WIRE_SIGNALLED = 1,	/* code is the signal */
	WIRE_TIMED_OUT = 2,
	WIRE_REFUSED = 3	/* the sandbox was not made; code is an errno, step says where */
};

/*
 * One for each program: then values up to the last call that was made
 * (int64_t), taken (uint32_t, 1 when the output was taken; padded), the bytes
 * of the outputs that were taken, each padded, and the text of what was left
 * (padded): lines "NAME: VALUE".
 */
struct wire_ran {
	uint32_t end;		/* one of wire_end */
	int32_t code;
	uint32_t values;
	uint32_t outputs;
	uint32_t state;		/* bytes of text */
	uint32_t reserved;
	char step[32];
};

/*
 * WIRE_COMMAND: then text (NUL-terminated strings: root, cwd, the arguments,
 * the environment as NAME=value) and the bytes of standard input.
 */
struct wire_command {
	uint32_t timeout;	/* milliseconds */
	uint32_t limit;		/* bytes kept of each stream */
	uint32_t arguments;
	uint32_t environment;
	uint32_t text;		/* bytes */
	uint32_t input;		/* bytes */
};

/* Then the bytes of standard output and of standard error. */
struct wire_completed {
	int32_t status;		/* exit status, -1 when ended by a signal */
	int32_t signal;
	uint32_t timed_out;
	uint32_t truncated;
	uint32_t output;
	uint32_t error;
};

/* WIRE_READ: then the path. The answer is the bytes. */
struct wire_read {
	uint64_t offset;
	uint32_t limit;
	uint32_t path;		/* bytes, with the NUL */
};

enum wire_write_flag {
	WIRE_CREATE = 1,
	WIRE_TRUNCATE = 2
};

/* WIRE_WRITE: then the path and the bytes. */
struct wire_write {
	uint64_t offset;
	uint32_t mode;
	uint32_t flags;		/* bits of wire_write_flag */
	uint32_t path;		/* bytes, with the NUL */
	uint32_t length;
};

enum wire_walk_flag {
	WIRE_FOLLOW_MOUNTS = 1,
	WIRE_SKIP_NUMBERS = 2	/* pass over names of digits only, such as processes in proc(5) */
};

/* WIRE_WALK: then the filter (padded) and the path. */
struct wire_walk {
	struct wire_sandbox sandbox;
	uint32_t path;		/* bytes, with the NUL */
	uint32_t contents;	/* bytes kept of each regular file; 0 opens none */
	uint32_t entries;	/* most entries to answer */
	uint32_t flags;		/* bits of wire_walk_flag */
	uint32_t depth;		/* levels below the path; 0 is as deep as a walk goes */
	uint32_t reserved;
};

struct wire_walked {
	uint32_t entries;
	uint32_t truncated;	/* 1: there was more than fits the limits */
};

/* Then the path, the target and the content (padded together). */
struct wire_entry {
	uint64_t size;
	uint64_t rdev;
	uint32_t kind;		/* a letter: f d l c b p s, or ? when it cannot be told */
	uint32_t mode;		/* permission bits, with set-user-id and the like */
	uint32_t uid;
	uint32_t gid;
	int32_t error;		/* errno of looking at it or of reading it */
	int32_t writable;	/* 1 or 0; -1 when it was not tried */
	uint32_t path;		/* bytes */
	uint32_t target;	/* bytes of a symbolic link's target */
	int32_t content;	/* bytes; -1 when it was not read */
	uint32_t reserved;
};

enum wire_alteration {
	WIRE_ALTER_NOTHING = 0,
	WIRE_ALTER_ERROR = 1,	/* the errno match is told as the errno value */
	WIRE_ALTER_RESULT = 2,	/* what works returns value more */
	WIRE_ALTER_FLAG = 3,	/* an argument with all bits of match is refused: the errno value */
	WIRE_ALTER_OUT = 4	/* bits of value are turned in a byte that a call wrote */
};

/* WIRE_ALTER: from now on one call of programs is not as the kernel has it. */
struct wire_alter {
	int64_t number;
	uint32_t kind;		/* one of wire_alteration */
	uint32_t argument;
	uint64_t match;
	int64_t value;
	uint64_t offset;	/* of the byte, in what the argument points to */
};

/* WIRE_CLOCK: then the entropy. */
struct wire_clock {
	int64_t seconds;
	int64_t nanoseconds;
	uint32_t entropy;	/* bytes */
	uint32_t reserved;
};

#endif
