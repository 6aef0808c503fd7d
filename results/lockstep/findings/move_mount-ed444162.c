/*
 * exits 0 where it sees what 5.10 did:
 * r0 = fsopen("ramfs", 0) = 3
 * r1 = fsconfig(r0, 6, 0, 0, 0) = 0
 * r2 = fsmount(r0, 0, 0) = 4
 * r3 = move_mount(r2, "x", 0, "", 512) = -EINVAL
 * exited 0
 * fd 3: anon_inode:[fscontext] cloexec=0 flags=02 mode=0600
 *
 * exits 1 where it sees what 6.12 did:
 * r0 = fsopen("ramfs", 0) = 3
 * r1 = fsconfig(r0, 6, 0, 0, 0) = 0
 * r2 = fsmount(r0, 0, 0) = 4
 * r3 = move_mount(r2, "x", 0, "", 512) = -ENOENT
 * exited 0
 * fd 3: anon_inode:[fscontext] cloexec=0 flags=02 mode=0600
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
	unsigned char outputs[1];
};

struct side {
	const char *name;
	int64_t values[CALLS + 1];
	const char *outputs, *mask;
};

static const struct { unsigned offset, length; const char *bytes; } data[] = {
	{ 16, 17,
	"ramfs\000\000\000\000\000\000\000\000\000\000\000x" },
	{ 64, 1,
	"\020" },
	{ 208, 316,
	"security.a\000\000\000\000\000\000xxxxxxxx"
	"xxxxxxxxxxxxxxxxxxxxxxxx"
	"xxxxxxxxxxxxxxxxxxxxxxxx"
	"xxxxxxxxxxxxxxxxxxxxxxxx"
	"xxxxxxxxxxxxxxxxxxxxxxxx"
	"xxxxxxxxxxxxxxxxxxxxxxxx"
	"xxxxxxxxxxxxxxxxxxxxxxxx"
	"xxxxxxxxxxxxxxxxxxxxxxxx"
	"xxxxxxxxxxxxxxxxxxxxxxxx"
	"xxxxxxxxxxxxxxxxxxxxxxxx"
	"xxxxxxxxxxxxxxxxxxxxxxxx"
	"xxxxxxxxxxxxxxxxxxxxxxxx"
	"xxxxxxxxxxxxxxxxxxxxxxxx"
	"xxxx" },
	{ 0, 0, 0 }
};
static const char *const names[] = {
	"fsopen",
	"fsconfig",
	"fsmount",
	"move_mount",
	0
};
static const struct { int call; unsigned offset, length; } outputs[] = {
	{ -1, 0, 0 }
};
/* INT64_MIN: not reached; INT64_MAX: anything but an error. */
static const struct side sides[] = {
	{ "5.10", { 3LL, 0LL, 4LL, -22LL },
	"",
	"" },
	{ "6.12", { 3LL, 0LL, 4LL, -2LL },
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
	/* r0 = fsopen("ramfs", 0) */
	do_call(0, 430, NATIVE, AT(16), 0, 0, 0, 0, 0);
	/* r1 = fsconfig(r0, 6, 0, 0, 0) */
	do_call(1, 431, NATIVE, R(0), 6, 0, 0, 0, 0);
	/* r2 = fsmount(r0, 0, 0) */
	do_call(2, 432, NATIVE, R(0), 0, 0, 0, 0, 0);
	/* r3 = move_mount(r2, "x", 0, "", 512) */
	do_call(3, 429, NATIVE, R(2), AT(32), 0, AT(48), 512, 0);
}

#include "shared-3.h"
