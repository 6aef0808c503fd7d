/*
 * exits 0 where it sees what 5.10 did:
 * r0 = add_key("user", "two", "abcdefgh", 8, -2) = 0x2ea0be36
 * r1 = keyctl(9, r0, -2) = 0
 * r2 = io_uring_setup(32, {}) = 3
 * r3 = io_uring_register(r2, 2, {iov_base=r4}, 1) = 0
 * r4 = io_uring_register(r2, 3, 0, 0) = 0
 * r5 = keyctl(0, r0, 0, 0, 0) = -ENOKEY
 * exited 0
 * fd 3: anon_inode:[io_uring] cloexec=1 flags=02 mode=0600
 *
 * exits 1 where it sees what 6.12 did:
 * r0 = add_key("user", "two", "abcdefgh", 8, -2) = 0x1a1931c4
 * r1 = keyctl(9, r0, -2) = 0
 * r2 = io_uring_setup(32, {}) = 3
 * r3 = io_uring_register(r2, 2, {iov_base=r4}, 1) = 0
 * r4 = io_uring_register(r2, 3, 0, 0) = 0
 * r5 = keyctl(0, r0, 0, 0, 0) = -EACCES
 * exited 0
 * fd 3: anon_inode:[io_uring] cloexec=1 flags=02 mode=0600
 *
 *
 * cc -o reproducer reproducer.c && ./reproducer; exit status 2: something else was seen,
 * 3: it could not be tried. Made by hostabi.
 */
#include "shared-1.h"

#define CALLS 6
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
	unsigned char outputs[1];
};

struct side {
	const char *name;
	int64_t values[CALLS + 1];
	const char *outputs, *mask;
};

static const struct { unsigned offset, length; const char *bytes; } data[] = {
	{ 0, 19,
	"user\000\000\000\000\000\000\000\000\000\000\000\000two" },
	{ 32, 8,
	"abcdefgh" },
	{ 176, 2,
	"n1" },
	{ 0, 0, 0 }
};
static const char *const names[] = {
	"add_key",
	"keyctl",
	"io_uring_setup",
	"io_uring_register",
	"io_uring_register",
	"keyctl",
	0
};
static const struct { int call; unsigned offset, length; } outputs[] = {
	{ -1, 0, 0 }
};
/* INT64_MIN: not reached; INT64_MAX: anything but an error. */
static const struct side sides[] = {
	{ "5.10", { INT64_MAX, 0LL, 3LL, 0LL, 0LL, -126LL },
	"",
	"" },
	{ "6.12", { INT64_MAX, 0LL, 3LL, 0LL, 0LL, -13LL },
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
	/* r0 = add_key("user", "two", "abcdefgh", 8, -2) */
	do_call(0, 248, NATIVE, AT(0), AT(16), AT(32), 8, -2, 0);
	/* r1 = keyctl(9, r0, -2) */
	do_call(1, 250, NATIVE, 9, R(0), -2, 0, 0, 0);
	/* r2 = io_uring_setup(32, {}) */
	do_call(2, 425, NATIVE, 32, AT(48), 0, 0, 0, 0);
	/* r3 = io_uring_register(r2, 2, {iov_base=r4}, 1) */
	store(192, 8, -1);
	do_call(3, 427, NATIVE, R(2), 2, AT(192), 1, 0, 0);
	/* r4 = io_uring_register(r2, 3, 0, 0) */
	do_call(4, 427, NATIVE, R(2), 3, 0, 0, 0, 0);
	/* r5 = keyctl(0, r0, 0, 0, 0) */
	do_call(5, 250, NATIVE, 0, R(0), 0, 0, 0, 0);
}

#include "shared-3.h"
