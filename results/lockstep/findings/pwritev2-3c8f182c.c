/*
 * exits 0 where it sees what 5.10 did:
 * r0 = openat(AT_FDCWD, "n1", O_RDWR|O_CREAT, 0) = 3
 * r1 = pwritev2(r0, {}, 3, 0, 0, 256) = -EOPNOTSUPP
 * exited 0
 * fd 3: /scratch/tmpfs/cwd/n1 cloexec=0 flags=0100002 mode=0100000 size=0 at=0 seals=1
 * file : mode=040755 uid=1000 gid=1000
 * file /n1: mode=0100000 uid=1000 gid=1000 links=1 size=0 sum=0xcbf29ce484222325
 *
 * exits 1 where it sees what 6.18 did:
 * r0 = openat(AT_FDCWD, "n1", O_RDWR|O_CREAT, 0) = 3
 * r1 = pwritev2(r0, {}, 3, 0, 0, 256) = 4096
 * exited 0
 * fd 3: /scratch/tmpfs/cwd/n1 cloexec=0 flags=0100002 mode=0100000 size=4096 at=0 seals=1
 * file : mode=040755 uid=1000 gid=1000
 * file /n1: mode=0100000 uid=1000 gid=1000 links=1 size=4096 sum=0xf76b106051b17a6b
 *
 *
 * cc -o reproducer reproducer.c && ./reproducer; exit status 2: something else was seen,
 * 3: it could not be tried. Made by hostabi.
 */
#include "shared-1.h"

#define CALLS 2
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
	{ 0, 2,
	"n1" },
	{ 28, 4132,
	"\012\000\000\000\000\000\000\000\005\000\000\000\000\000\000\000\000\000\000\000opqr"
	"stuv\000\000\000\000\000\000\000\000cdefghijklmn"
	"opqrstuvwxyzabcdefghijkl"
	"mnopqrstuvwxyzabcdefghij"
	"klmnopqrstuvwxyzabcdefgh"
	"ijklmnopqrstuvwxyzabcdef"
	"ghijklmnopqrstuvwxyzabcd"
	"efghijklmnopqrstuvwxyzab"
	"cdefghijklmnopqrstuvwxyz"
	"abcdefghijklmnopqrstuvwx"
	"yzabcdefghijklmnopqrstuv"
	"wxyzabcdefghijklmnopqrst"
	"uvwxyzabcdefghijklmnopqr"
	"stuvwxyzabcdefghijklmnop"
	"qrstuvwxyzabcdefghijklmn"
	"opqrstuvwxyzabcdefghijkl"
	"mnopqrstuvwxyzabcdefghij"
	"klmnopqrstuvwxyzabcdefgh"
	"ijklmnopqrstuvwxyzabcdef"
	"ghijklmnopqrstuvwxyzabcd"
	"efghijklmnopqrstuvwxyzab"
	"cdefghijklmnopqrstuvwxyz"
	"abcdefghijklmnopqrstuvwx"
	"yzabcdefghijklmnopqrstuv"
	"wxyzabcdefghijklmnopqrst"
	"uvwxyzabcdefghijklmnopqr"
	"stuvwxyzabcdefghijklmnop"
	"qrstuvwxyzabcdefghijklmn"
	"opqrstuvwxyzabcdefghijkl"
	"mnopqrstuvwxyzabcdefghij"
	"klmnopqrstuvwxyzabcdefgh"
	"ijklmnopqrstuvwxyzabcdef"
	"ghijklmnopqrstuvwxyzabcd"
	"efghijklmnopqrstuvwxyzab"
	"cdefghijklmnopqrstuvwxyz"
	"abcdefghijklmnopqrstuvwx"
	"yzabcdefghijklmnopqrstuv"
	"wxyzabcdefghijklmnopqrst"
	"uvwxyzabcdefghijklmnopqr"
	"stuvwxyzabcdefghijklmnop"
	"qrstuvwxyzabcdefghijklmn"
	"opqrstuvwxyzabcdefghijkl"
	"mnopqrstuvwxyzabcdefghij"
	"klmnopqrstuvwxyzabcdefgh"
	"ijklmnopqrstuvwxyzabcdef"
	"ghijklmnopqrstuvwxyzabcd"
	"efghijklmnopqrstuvwxyzab"
	"cdefghijklmnopqrstuvwxyz"
	"abcdefghijklmnopqrstuvwx"
	"yzabcdefghijklmnopqrstuv"
	"wxyzabcdefghijklmnopqrst"
	"uvwxyzabcdefghijklmnopqr"
	"stuvwxyzabcdefghijklmnop"
	"qrstuvwxyzabcdefghijklmn"
	"opqrstuvwxyzabcdefghijkl"
	"mnopqrstuvwxyzabcdefghij"
	"klmnopqrstuvwxyzabcdefgh"
	"ijklmnopqrstuvwxyzabcdef"
	"ghijklmnopqrstuvwxyzabcd"
	"efghijklmnopqrstuvwxyzab"
	"cdefghijklmnopqrstuvwxyz"
	"abcdefghijklmnopqrstuvwx"
	"yzabcdefghijklmnopqrstuv"
	"wxyzabcdefghijklmnopqrst"
	"uvwxyzabcdefghijklmnopqr"
	"stuvwxyzabcdefghijklmnop"
	"qrstuvwxyzabcdefghijklmn"
	"opqrstuvwxyzabcdefghijkl"
	"mnopqrstuvwxyzabcdefghij"
	"klmnopqrstuvwxyzabcdefgh"
	"ijklmnopqrstuvwxyzabcdef"
	"ghijklmnopqrstuvwxyzabcd"
	"efghijklmnopqrstuvwxyzab"
	"cdefghijklmnopqrstuvwxyz"
	"abcdefghijklmnopqrstuvwx"
	"yzabcdefghijklmnopqrstuv"
	"wxyzabcdefghijklmnopqrst"
	"uvwxyzabcdefghijklmnopqr"
	"stuvwxyzabcdefghijklmnop"
	"qrstuvwxyzabcdefghijklmn"
	"opqrstuvwxyzabcdefghijkl"
	"mnopqrstuvwxyzabcdefghij"
	"klmnopqrstuvwxyzabcdefgh"
	"ijklmnopqrstuvwxyzabcdef"
	"ghijklmnopqrstuvwxyzabcd"
	"efghijklmnopqrstuvwxyzab"
	"cdefghijklmnopqrstuvwxyz"
	"abcdefghijklmnopqrstuvwx"
	"yzabcdefghijklmnopqrstuv"
	"wxyzabcdefghijklmnopqrst"
	"uvwxyzabcdefghijklmnopqr"
	"stuvwxyzabcdefghijklmnop"
	"qrstuvwxyzabcdefghijklmn"
	"opqrstuvwxyzabcdefghijkl"
	"mnopqrstuvwxyzabcdefghij"
	"klmnopqrstuvwxyzabcdefgh"
	"ijklmnopqrstuvwxyzabcdef"
	"ghijklmnopqrstuvwxyzabcd"
	"efghijklmnopqrstuvwxyzab"
	"cdefghijklmnopqrstuvwxyz"
	"abcdefghijklmnopqrstuvwx"
	"yzabcdefghijklmnopqrstuv"
	"wxyzabcdefghijklmnopqrst"
	"uvwxyzabcdefghijklmnopqr"
	"stuvwxyzabcdefghijklmnop"
	"qrstuvwxyzabcdefghijklmn"
	"opqrstuvwxyzabcdefghijkl"
	"mnopqrstuvwxyzabcdefghij"
	"klmnopqrstuvwxyzabcdefgh"
	"ijklmnopqrstuvwxyzabcdef"
	"ghijklmnopqrstuvwxyzabcd"
	"efghijklmnopqrstuvwxyzab"
	"cdefghijklmnopqrstuvwxyz"
	"abcdefghijklmnopqrstuvwx"
	"yzabcdefghijklmnopqrstuv"
	"wxyzabcdefghijklmnopqrst"
	"uvwxyzabcdefghijklmnopqr"
	"stuvwxyzabcdefghijklmnop"
	"qrstuvwxyzabcdefghijklmn"
	"opqrstuvwxyzabcdefghijkl"
	"mnopqrstuvwxyzabcdefghij"
	"klmnopqrstuvwxyzabcdefgh"
	"ijklmnopqrstuvwxyzabcdef"
	"ghijklmnopqrstuvwxyzabcd"
	"efghijklmnopqrstuvwxyzab"
	"cdefghijklmnopqrstuvwxyz"
	"abcdefghijklmnopqrstuvwx"
	"yzabcdefghijklmnopqrstuv"
	"wxyzabcdefghijklmnopqrst"
	"uvwxyzabcdefghijklmnopqr"
	"stuvwxyzabcdefghijklmnop"
	"qrstuvwxyzabcdefghijklmn"
	"opqrstuvwxyzabcdefghijkl"
	"mnopqrstuvwxyzabcdefghij"
	"klmnopqrstuvwxyzabcdefgh"
	"ijklmnopqrstuvwxyzabcdef"
	"ghijklmnopqrstuvwxyzabcd"
	"efghijklmnopqrstuvwxyzab"
	"cdefghijklmnopqrstuvwxyz"
	"abcdefghijklmnopqrstuvwx"
	"yzabcdefghijklmnopqrstuv"
	"wxyzabcdefghijklmnopqrst"
	"uvwxyzabcdefghijklmnopqr"
	"stuvwxyzabcdefghijklmnop"
	"qrstuvwxyzabcdefghijklmn"
	"opqrstuvwxyzabcdefghijkl"
	"mnopqrstuvwxyzabcdefghij"
	"klmnopqrstuvwxyzabcdefgh"
	"ijklmnopqrstuvwxyzabcdef"
	"ghijklmnopqrstuvwxyzabcd"
	"efghijklmnopqrstuvwxyzab"
	"cdefghijklmnopqrstuvwxyz"
	"abcdefghijklmnopqrstuvwx"
	"yzabcdefghijklmnopqrstuv"
	"wxyzabcdefghijklmnopqrst"
	"uvwxyzabcdefghijklmnopqr"
	"stuvwxyzabcdefghijklmnop"
	"qrstuvwxyzabcdefghijklmn"
	"opqrstuvwxyzabcdefghijkl"
	"mnopqrstuvwxyzabcdefghij"
	"klmnopqrstuvwxyzabcdefgh"
	"ijklmnopqrstuvwxyzabcdef"
	"ghijklmnopqrstuvwxyzabcd"
	"efghijklmnopqrstuvwxyzab"
	"cdefghijklmnopqrstuvwxyz"
	"abcdefghijklmnopqrstuvwx"
	"yzabcdefghijklmnopqrstuv"
	"wxyzabcdefghijklmnopqrst"
	"uvwxyzabcdefghijklmnopqr"
	"stuvwxyzabcdefghijklmnop"
	"qrstuvwxyzabcdefghijklmn"
	"opqrstuvwxyzabcdefghijkl"
	"mnop" },
	{ 4201, 9,
	"\020\000\000\000\000\000\000n2" },
	{ 4240, 316,
	"user.a\000\000\000\000\000\000\000\000\000\000xxxxxxxx"
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
	"openat",
	"pwritev2",
	0
};
static const struct { int call; unsigned offset, length; } outputs[] = {
	{ -1, 0, 0 }
};
/* INT64_MIN: not reached; INT64_MAX: anything but an error. */
static const struct side sides[] = {
	{ "5.10", { 3LL, -95LL },
	"",
	"" },
	{ "6.18", { 3LL, 4096LL },
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
	/* r0 = openat(AT_FDCWD, "n1", O_RDWR|O_CREAT, 0) */
	do_call(0, 257, NATIVE, -100, AT(0), 66, 0, 0, 0);
	/* r1 = pwritev2(r0, {}, 3, 0, 0, 256) */
	store(4160, 8, AT(48));
	store(4176, 8, AT(64));
	store(4192, 8, AT(64));
	do_call(1, 328, NATIVE, R(0), AT(4160), 3, 0, 0, 256);
}

#include "shared-3.h"
