/*
 * exits 0 where it sees what 5.10 did:
 * r0 = mkdir("n1", 0) = 0
 * r1 = openat(AT_FDCWD, "n1", O_TMPFILE|O_RDWR, 2048) = 3
 * r2 = fallocate(r1, 0, 0, 4096) = 0
 * r3 = fstat(r1, struct stat) = 0
 * exited 0
 * fd 3: /scratch/tmpfs/cwd/n1/#\040(deleted) cloexec=0 flags=020300002 mode=0104000 size=4096 at=0 seals=1
 * file : mode=040755 uid=1000 gid=1000
 * file /n1: mode=040000 uid=1000 gid=1000
 *
 * exits 1 where it sees what 6.1 did:
 * r0 = mkdir("n1", 0) = 0
 * r1 = openat(AT_FDCWD, "n1", O_TMPFILE|O_RDWR, 2048) = 3
 * r2 = fallocate(r1, 0, 0, 4096) = 0
 * r3 = fstat(r1, struct stat) = 0
 * exited 0
 * fd 3: /scratch/tmpfs/cwd/n1/#\040(deleted) cloexec=0 flags=020300002 mode=0100000 size=4096 at=0 seals=1
 * file : mode=040755 uid=1000 gid=1000
 * file /n1: mode=040000 uid=1000 gid=1000
 *
 *
 * cc -o reproducer reproducer.c && ./reproducer; exit status 2: something else was seen,
 * 3: it could not be tried. Made by hostabi.
 */
#include "shared-1.h"

#define CALLS 4
#define ARENA 131072
#define SIDES 2
#define NAMESPACES 0x3e020000L
#define UID 1000
#define GID 1000
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
	unsigned char outputs[144];
};

struct side {
	const char *name;
	int64_t values[CALLS + 1];
	const char *outputs, *mask;
};

static const struct { unsigned offset, length; const char *bytes; } data[] = {
	{ 0, 2,
	"n1" },
	{ 16, 40,
	"none\000\000\000\000\000\000\000\000\000\000\000\000ramfs\000\000\000"
	"\000\000\000\000\000\000\000\000size=64k" },
	{ 0, 0, 0 }
};
static const char *const names[] = {
	"mkdir",
	"openat",
	"fallocate",
	"fstat",
	0
};
static const struct { int call; unsigned offset, length; } outputs[] = {
	{ 3, 130864, 144 },
	{ -1, 0, 0 }
};
/* INT64_MIN: not reached; INT64_MAX: anything but an error. */
static const struct side sides[] = {
	{ "5.10", { 0LL, 3LL, 0LL, 0LL },
	"\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000"
	"\000\210\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000"
	"\000\020\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000"
	"\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000"
	"\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000"
	"\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000",
	"\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\377\377\377\377\377\377\377\377"
	"\377\377\377\377\377\377\377\377\377\377\377\377\377\377\377\377\377\377\377\377\377\377\377\377"
	"\377\377\377\377\377\377\377\377\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000"
	"\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000"
	"\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000"
	"\377\377\377\377\377\377\377\377\377\377\377\377\377\377\377\377\377\377\377\377\377\377\377\377" },
	{ "6.1", { 0LL, 3LL, 0LL, 0LL },
	"\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000"
	"\000\200\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000"
	"\000\020\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000"
	"\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000"
	"\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000"
	"\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000",
	"\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\377\377\377\377\377\377\377\377"
	"\377\377\377\377\377\377\377\377\377\377\377\377\377\377\377\377\377\377\377\377\377\377\377\377"
	"\377\377\377\377\377\377\377\377\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000"
	"\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000"
	"\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000"
	"\377\377\377\377\377\377\377\377\377\377\377\377\377\377\377\377\377\377\377\377\377\377\377\377" },
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
	/* r0 = mkdir("n1", 0) */
	do_call(0, 83, NATIVE, AT(0), 0, 0, 0, 0, 0);
	/* r1 = openat(AT_FDCWD, "n1", O_TMPFILE|O_RDWR, 2048) */
	do_call(1, 257, NATIVE, -100, AT(0), 4259842, 2048, 0, 0);
	/* r2 = fallocate(r1, 0, 0, 4096) */
	do_call(2, 285, NATIVE, R(1), 0, 0, 4096, 0, 0);
	/* r3 = fstat(r1, struct stat) */
	do_call(3, 5, NATIVE, R(1), AT(130864), 0, 0, 0, 0);
}

#include "shared-3.h"
