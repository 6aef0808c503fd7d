/*
 * exits 0 where it sees what 5.10 did:
 * r0 = clone(4096, 0, int, 0, 0) = 2
 * r1 = wait4(r0, 0, 0x40000000, struct rusage) = 2
 * r2 = ppoll({fd=int[0], events=0}, 1, "\000\000\000\000\000\000\000\000\350\003\000\000\000\000\000\000", "\000\000\000\000\000\000\000\000", 8) = 0
 * exited 0
 * fd 3: anon_inode:[pidfd] cloexec=1 flags=02 mode=0600
 *
 * exits 1 where it sees what 6.12 did:
 * r0 = clone(4096, 0, int, 0, 0) = 2
 * r1 = wait4(r0, 0, 0x40000000, struct rusage) = 2
 * r2 = ppoll({fd=int[0], events=0}, 1, "\000\000\000\000\000\000\000\000\350\003\000\000\000\000\000\000", "\000\000\000\000\000\000\000\000", 8) = 1
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
	unsigned char outputs[12];
};

struct side {
	const char *name;
	int64_t values[CALLS + 1];
	const char *outputs, *mask;
};

static const struct { unsigned offset, length; const char *bytes; } data[] = {
	{ 24, 2,
	"\350\003" },
	{ 56, 4129,
	"\010\000\000\000\000\000\000\000JKLMNOPQ\000\000\000\000\000\000\000\000"
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
	"opqrstuvwxyzabcd\000\000\000\000\000\000\000\000"
	"\010" },
	{ 4201, 20,
	"\020\000\000\000\000\000\000\001\000\000\000\004\000\000\000\010\000\000\000\001" },
	{ 4384, 1,
	"\011" },
	{ 4400, 8,
	"abcd1234" },
	{ 4440, 1,
	"\002" },
	{ 0, 0, 0 }
};
static const char *const names[] = {
	"clone",
	"wait4",
	"ppoll",
	0
};
static const struct { int call; unsigned offset, length; } outputs[] = {
	{ 0, 131056, 4 },
	{ 2, 0, 8 },
	{ -1, 0, 0 }
};
/* INT64_MIN: not reached; INT64_MAX: anything but an error. */
static const struct side sides[] = {
	{ "5.10", { 2LL, INT64_MAX, 0LL },
	"\003\000\000\000\003\000\000\000\000\000\000\000",
	"\377\377\377\377\377\377\377\377\377\377\377\377" },
	{ "6.12", { 2LL, INT64_MAX, 1LL },
	"\003\000\000\000\003\000\000\000\000\000\020\000",
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
	/* r0 = clone(4096, 0, int, 0, 0) */
	do_call(0, 56, NATIVE, 4096, 0, AT(131056), 0, 0, 0);
	/* r1 = wait4(r0, 0, 0x40000000, struct rusage) */
	do_call(1, 61, NATIVE, R(0), 0, 1073741824, AT(130912), 0, 0);
	/* r2 = ppoll({fd=int[0], events=0}, 1, "\000\000\000\000\000\000\000\000\350\003\000\000\000\000\000\000", "\000\000\000\000\000\000\000\000", 8) */
	store(0, 4, word(131056, 4));
	do_call(2, 271, NATIVE, AT(0), 1, AT(16), AT(32), 8, 0);
}

#include "shared-3.h"
