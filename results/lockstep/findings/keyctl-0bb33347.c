/*
 * exits 0 where it sees what 5.10 did:
 * r0 = openat2(AT_FDCWD, "n1", {flags=524354, mode=493, resolve=1}, 24) = 3
 * r1 = fcntl(r0, 36, "\001\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000") = 0
 * r2 = unlink("n1") = 0
 * r3 = add_key("user", "two", "VWXYZABCDEFGHIJKLMNOPQRSTUVWXYZABCDEFGHI"..., 100, -1) = 0x18eee215
 * r4 = keyctl(9, r3, -1) = 0
 * r5 = time(0) = 0x6b07833d
 * r6 = clone(17, 0, 0, 0, 0) = 2
 * r7 = timer_create(7, "\000\000\000\000\000\000\000\000\027\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000"..., int) = 0
 * r8 = timer_getoverrun(int[0]) = 0
 * r9 = keyctl(4, r3, 0, -1) = -EACCES
 * exited 0
 * fd 3: /scratch/tmpfs/cwd/n1\040(deleted) cloexec=1 flags=0100002 mode=0100755 size=0 at=0 seals=1
 * children: 0
 *
 * exits 1 where it sees what 7.2 did:
 * r0 = openat2(AT_FDCWD, "n1", {flags=524354, mode=493, resolve=1}, 24) = 3
 * r1 = fcntl(r0, 36, "\001\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000") = 0
 * r2 = unlink("n1") = 0
 * r3 = add_key("user", "two", "VWXYZABCDEFGHIJKLMNOPQRSTUVWXYZABCDEFGHI"..., 100, -1) = 0x1d5ef66d
 * r4 = keyctl(9, r3, -1) = 0
 * r5 = time(0) = 0x6b07833d
 * r6 = clone(17, 0, 0, 0, 0) = 2
 * r7 = timer_create(7, "\000\000\000\000\000\000\000\000\027\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000"..., int) = 0
 * r8 = timer_getoverrun(int[0]) = 0
 * r9 = keyctl(4, r3, 0, -1) = -ENOKEY
 * exited 0
 * fd 3: /scratch/tmpfs/cwd/n1\040(deleted) cloexec=1 flags=0100002 mode=0100755 size=0 at=0 seals=1
 * children: 0
 *
 *
 * cc -o reproducer reproducer.c && ./reproducer; exit status 2: something else was seen,
 * 3: it could not be tried. Made by hostabi.
 */
#include "shared-1.h"

#define CALLS 10
#define ARENA 131072
#define SIDES 2
#define NAMESPACES 0x2e020000L
#define UID 0
#define GID 0
#define MAP_ROOT 1
#define NO_NEW_PRIVS 0
#define OWN_PROC 0
#define OWN_SYS 0
#define OVERLAY 0
/* Whether TMPDIR has to name a folder on ext4; what is there, linux/magic.h numbers. */
#define EXT4 0
#define EXT4_MAGIC 0xef53
#define SECONDS 10
/* What a process does that a call makes: 1 it ends at once, 2 it waits to be killed. */
#define CHILDREN 1
/* Bits of the deciding call's result that matter, where it is compared with what was seen. */
#define BITS -1
#define X32_BIT 0x40000000L

enum abi { NATIVE, X32, IA32 };
/* What is expected of the deciding call: nothing, that it works, an errno, a signal that
 * ends the program there, that it hangs, or the very result and bytes of the first side. */
enum expect { NOTHING, WORKS, FAILS, SIGNALLED, HANGS, SEEN };

struct seen {
	int64_t values[CALLS + 1];
	unsigned char outputs[36];
};

struct side {
	const char *name;
	int64_t values[CALLS + 1];
	const char *outputs, *mask;
};

static const struct { unsigned offset, length; const char *bytes; } data[] = {
	{ 0, 2,
	"n1" },
	{ 16, 17,
	"B\000\010\000\000\000\000\000\355\001\000\000\000\000\000\000\001" },
	{ 48, 1,
	"\001" },
	{ 80, 19,
	"user\000\000\000\000\000\000\000\000\000\000\000\000two" },
	{ 112, 100,
	"VWXYZABCDEFGHIJKLMNOPQRS"
	"TUVWXYZABCDEFGHIJKLMNOPQ"
	"RSTUVWXYZABCDEFGHIJKLMNO"
	"PQRSTUVWXYZABCDEFGHIJKLM"
	"NOPQ" },
	{ 232, 1,
	"\027" },
	{ 0, 0, 0 }
};
static const char *const names[] = {
	"openat2",
	"fcntl",
	"unlink",
	"add_key",
	"keyctl",
	"time",
	"clone",
	"timer_create",
	"timer_getoverrun",
	"keyctl",
	0
};
static const struct { int call; unsigned offset, length; } outputs[] = {
	{ 1, 48, 32 },
	{ 7, 131056, 4 },
	{ -1, 0, 0 }
};
/* INT64_MIN: not reached; INT64_MAX: anything but an error. */
static const struct side sides[] = {
	{ "5.10", { 3LL, 0LL, 0LL, INT64_MAX, 0LL, INT64_MAX, 2LL, 0LL, 0LL, -13LL },
	"\002\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000"
	"\000\000\000\000\000\000\000\000\000\000\000\000",
	"\377\377\377\377\377\377\377\377\377\377\377\377\377\377\377\377\377\377\377\377\377\377\377\377"
	"\377\377\377\377\377\377\377\377\377\377\377\377" },
	{ "7.2", { 3LL, 0LL, 0LL, INT64_MAX, 0LL, INT64_MAX, 2LL, 0LL, 0LL, -126LL },
	"\002\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000"
	"\000\000\000\000\000\000\000\000\000\000\000\000",
	"\377\377\377\377\377\377\377\377\377\377\377\377\377\377\377\377\377\377\377\377\377\377\377\377"
	"\377\377\377\377\377\377\377\377\377\377\377\377" },
	{ 0, { 0 }, "", "" }
};

/* Calls that have to work first, then the one that decides. */
static const int chain[] = { -1 };
static const int fine[] = { 0 };
static const enum expect expect = NOTHING;
static const int expected = 0;
static const unsigned char filter[] =
	"";

#include "shared-2.h"

static void program(void)
{
	/* r0 = openat2(AT_FDCWD, "n1", {flags=524354, mode=493, resolve=1}, 24) */
	do_call(0, 437, NATIVE, -100, AT(0), AT(16), 24, 0, 0);
	/* r1 = fcntl(r0, 36, "\001\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000") */
	do_call(1, 72, NATIVE, R(0), 36, AT(48), 0, 0, 0);
	/* r2 = unlink("n1") */
	do_call(2, 87, NATIVE, AT(0), 0, 0, 0, 0, 0);
	/* r3 = add_key("user", "two", "VWXYZABCDEFGHIJKLMNOPQRSTUVWXYZABCDEFGHI"..., 100, -1) */
	do_call(3, 248, NATIVE, AT(80), AT(96), AT(112), 100, -1, 0);
	/* r4 = keyctl(9, r3, -1) */
	do_call(4, 250, NATIVE, 9, R(3), -1, 0, 0, 0);
	/* r5 = time(0) */
	do_call(5, 201, NATIVE, 0, 0, 0, 0, 0, 0);
	/* r6 = clone(17, 0, 0, 0, 0) */
	do_call(6, 56, NATIVE, 17, 0, 0, 0, 0, 0);
	/* r7 = timer_create(7, "\000\000\000\000\000\000\000\000\027\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000"..., int) */
	do_call(7, 222, NATIVE, 7, AT(224), AT(131056), 0, 0, 0);
	/* r8 = timer_getoverrun(int[0]) */
	do_call(8, 225, NATIVE, word(131056, 4), 0, 0, 0, 0, 0);
	/* r9 = keyctl(4, r3, 0, -1) */
	do_call(9, 250, NATIVE, 4, R(3), 0, -1, 0, 0);
}

#include "shared-3.h"
