/*
 * exits 0 where it sees what 5.10 did:
 * r0 = getpid() = 1
 * r1 = pidfd_open(r0, 0) = 3
 * r2 = process_madvise(r1, struct iovec, 0, 0, 0) = -EINVAL
 * exited 0
 * fd 3: anon_inode:[pidfd] cloexec=1 flags=02 mode=0600
 *
 * exits 1 where it sees what 6.18 did:
 * r0 = getpid() = 1
 * r1 = pidfd_open(r0, 0) = 3
 * r2 = process_madvise(r1, struct iovec, 0, 0, 0) = 0
 * exited 0
 * fd 3: anon_inode:[pidfd] cloexec=1 flags=02 mode=0700
 *
 *
 * cc -o reproducer reproducer.c && ./reproducer; exit status 2: something else was seen,
 * 3: it could not be tried. Made by hostabi.
 */
#include "shared-1.h"

#define CALLS 3
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
	unsigned char outputs[1];
};

struct side {
	const char *name;
	int64_t values[CALLS + 1];
	const char *outputs, *mask;
};

static const struct { unsigned offset, length; const char *bytes; } data[] = {
	{ 0, 0, 0 }
};
static const char *const names[] = {
	"getpid",
	"pidfd_open",
	"process_madvise",
	0
};
static const struct { int call; unsigned offset, length; } outputs[] = {
	{ -1, 0, 0 }
};
/* INT64_MIN: not reached; INT64_MAX: anything but an error. */
static const struct side sides[] = {
	{ "5.10", { 1LL, 3LL, -22LL },
	"",
	"" },
	{ "6.18", { 1LL, 3LL, 0LL },
	"",
	"" },
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
	/* r0 = getpid() */
	do_call(0, 39, NATIVE, 0, 0, 0, 0, 0, 0);
	/* r1 = pidfd_open(r0, 0) */
	do_call(1, 434, NATIVE, R(0), 0, 0, 0, 0, 0);
	/* r2 = process_madvise(r1, struct iovec, 0, 0, 0) */
	do_call(2, 440, NATIVE, R(1), AT(131056), 0, 0, 0, 0);
}

#include "shared-3.h"
