/*
 * exits 0 where it sees what 5.10 did:
 * r0 = open("n1", O_RDWR|O_CREAT, 2048) = 3
 * r1 = dup3(r0, 0, 0) = 0
 * r2 = fallocate(r1, 0, 0, 1) = 0
 * r3 = fcntl(0, F_GETFD, 0) = 0
 * r4 = fcntl(0, F_GETFL, 0) = 32770
 * r5 = fstat(0, struct stat) = 0
 * r6 = lseek(0, 0, SEEK_CUR) = 0
 * exited 0
 * fd 0: /scratch/tmpfs/cwd/n1 cloexec=0 flags=0100002 mode=0104000 size=1 at=0 seals=1
 * fd 3: /scratch/tmpfs/cwd/n1 cloexec=0 flags=0100002 mode=0104000 size=1 at=0 seals=1
 * file : mode=040755 uid=1000 gid=1000
 * file /n1: mode=0104000 uid=1000 gid=1000 links=1 size=1 sum=0xaf63bd4c8601b7df
 *
 * exits 1 where it sees what 6.1 did:
 * r0 = open("n1", O_RDWR|O_CREAT, 2048) = 3
 * r1 = dup3(r0, 0, 0) = 0
 * r2 = fallocate(r1, 0, 0, 1) = 0
 * r3 = fcntl(0, F_GETFD, 0) = 0
 * r4 = fcntl(0, F_GETFL, 0) = 32770
 * r5 = fstat(0, struct stat) = 0
 * r6 = lseek(0, 0, SEEK_CUR) = 0
 * exited 0
 * fd 0: /scratch/tmpfs/cwd/n1 cloexec=0 flags=0100002 mode=0100000 size=1 at=0 seals=1
 * fd 3: /scratch/tmpfs/cwd/n1 cloexec=0 flags=0100002 mode=0100000 size=1 at=0 seals=1
 * file : mode=040755 uid=1000 gid=1000
 * file /n1: mode=0100000 uid=1000 gid=1000 links=1 size=1 sum=0xaf63bd4c8601b7df
 *
 *
 * cc -o reproducer reproducer.c && ./reproducer; exit status 2: something else was seen,
 * 3: it could not be tried. Made by hostabi.
 */
#include "shared-1.h"

#define CALLS 7
#define ARENA 131216
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
	{ 32, 19,
	"user\000\000\000\000\000\000\000\000\000\000\000\000two" },
	{ 64, 1,
	"X" },
	{ 0, 0, 0 }
};
static const char *const names[] = {
	"open",
	"dup3",
	"fallocate",
	"fcntl",
	"fcntl",
	"fstat",
	"lseek",
	0
};
static const struct { int call; unsigned offset, length; } outputs[] = {
	{ 5, 131072, 144 },
	{ -1, 0, 0 }
};
/* INT64_MIN: not reached; INT64_MAX: anything but an error. */
static const struct side sides[] = {
	{ "5.10", { 3LL, 0LL, 0LL, 0LL, 32770LL, 0LL, 0LL },
	"\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\001\000\000\000\000\000\000\000"
	"\000\210\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000"
	"\001\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000"
	"\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000"
	"\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000"
	"\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000",
	"\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\377\377\377\377\377\377\377\377"
	"\377\377\377\377\377\377\377\377\377\377\377\377\377\377\377\377\377\377\377\377\377\377\377\377"
	"\377\377\377\377\377\377\377\377\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000"
	"\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000"
	"\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000"
	"\377\377\377\377\377\377\377\377\377\377\377\377\377\377\377\377\377\377\377\377\377\377\377\377" },
	{ "6.1", { 3LL, 0LL, 0LL, 0LL, 32770LL, 0LL, 0LL },
	"\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\001\000\000\000\000\000\000\000"
	"\000\200\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000"
	"\001\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000"
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
	/* r0 = open("n1", O_RDWR|O_CREAT, 2048) */
	do_call(0, 2, NATIVE, AT(0), 66, 2048, 0, 0, 0);
	/* r1 = dup3(r0, 0, 0) */
	do_call(1, 292, NATIVE, R(0), 0, 0, 0, 0, 0);
	/* r2 = fallocate(r1, 0, 0, 1) */
	do_call(2, 285, NATIVE, R(1), 0, 0, 1, 0, 0);
	/* r3 = fcntl(0, F_GETFD, 0) */
	do_call(3, 72, NATIVE, 0, 1, 0, 0, 0, 0);
	/* r4 = fcntl(0, F_GETFL, 0) */
	do_call(4, 72, NATIVE, 0, 3, 0, 0, 0, 0);
	/* r5 = fstat(0, struct stat) */
	do_call(5, 5, NATIVE, 0, AT(131072), 0, 0, 0, 0);
	/* r6 = lseek(0, 0, SEEK_CUR) */
	do_call(6, 8, NATIVE, 0, 0, 1, 0, 0, 0);
}

#include "shared-3.h"
