/*
 * exits 0 where it sees what 5.10 did:
 * r0 = prlimit64(0, RLIMIT_FSIZE, "d\000\000\000\000\000\000\000\377\377\377\377\377\377\377\377", 0) = 0
 * r1 = mkdirat(AT_FDCWD, "n1", 0) = 0
 * r2 = openat(AT_FDCWD, "n1", O_TMPFILE|O_RDWR, 0) = 3
 * r3 = copy_file_range(r2, 0, r2, "\000\020\000\000\000\000\000\000", 0, 0) = -EFBIG
 * exited 0
 * fd 3: /scratch/tmpfs/cwd/n1/#\040(deleted) cloexec=0 flags=020300002 mode=0100000 size=0 at=0 seals=1
 * limit 1: 100 -1
 * file : mode=040755 uid=0 gid=0
 * file /n1: mode=040000 uid=0 gid=0
 *
 * exits 1 where it sees what 6.12 did:
 * r0 = prlimit64(0, RLIMIT_FSIZE, "d\000\000\000\000\000\000\000\377\377\377\377\377\377\377\377", 0) = 0
 * r1 = mkdirat(AT_FDCWD, "n1", 0) = 0
 * r2 = openat(AT_FDCWD, "n1", O_TMPFILE|O_RDWR, 0) = 3
 * r3 = copy_file_range(r2, 0, r2, "\000\020\000\000\000\000\000\000", 0, 0) = 0
 * exited 0
 * fd 3: /scratch/tmpfs/cwd/n1/#\040(deleted) cloexec=0 flags=020300002 mode=0100000 size=0 at=0 seals=1
 * limit 1: 100 -1
 * file : mode=040755 uid=0 gid=0
 * file /n1: mode=040000 uid=0 gid=0
 *
 *
 * cc -o reproducer reproducer.c && ./reproducer; exit status 2: something else was seen,
 * 3: it could not be tried. Made by hostabi.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define CALLS 4
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
	unsigned char outputs[8];
};

struct side {
	const char *name;
	int64_t values[CALLS + 1];
	const char *outputs, *mask;
};

static const struct { unsigned offset, length; const char *bytes; } data[] = {
	{ 0, 18,
	"d\000\000\000\000\000\000\000\377\377\377\377\377\377\377\377n1" },
	{ 33, 1,
	"\020" },
	{ 52, 9,
	"\001\000\000\000\000\000\000\000\001" },
	{ 112, 5016,
	"user.\000\000\000\000\000\000\000\000\000\000\000yyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy"
	"yyyyyyyyyyyyyyyyyyyyyyyy" },
	{ 0, 0, 0 }
};
static const char *const names[] = {
	"prlimit64",
	"mkdirat",
	"openat",
	"copy_file_range",
	0
};
static const struct { int call; unsigned offset, length; } outputs[] = {
	{ 3, 32, 8 },
	{ -1, 0, 0 }
};
/* INT64_MIN: not reached; INT64_MAX: anything but an error. */
static const struct side sides[] = {
	{ "5.10", { 0LL, 0LL, 3LL, -27LL },
	"\000\020\000\000\000\000\000\000",
	"\377\377\377\377\377\377\377\377" },
	{ "6.12", { 0LL, 0LL, 3LL, 0LL },
	"\000\020\000\000\000\000\000\000",
	"\377\377\377\377\377\377\377\377" },
	{ 0, { 0 }, "", "" }
};

/* Calls that have to work first, then the one that decides. */
static const int chain[] = { -1 };
static const int fine[] = { 0 };
static const enum expect expect = NOTHING;
static const int expected = 0;
static const unsigned char filter[] =
	" \000\000\000\004\000\000\000\025\000\000\001>\000\000\300\005\000\000\000\024\001\000\000"
	"\005\000\000\000\000\000\000\000\025\000\000\001\003\000\000@\005\000\000\000\001\000\000\000"
	"\005\000\000\000\017\001\000\000 \000\000\000\000\000\000\0005\000\206\000\212\000\000\000"
	"5\000;\000J\000\000\0005\000\035\0003\000\000\0005\000\015\000\035\000\000\000"
	"5\000\005\000\023\000\000\0005\000\001\000\021\000\000\000\006\000\000\000\000\000\377\177"
	"5\000\001\000\022\000\000\000\006\000\000\000&\000\005\000\006\000\000\000\001\000\005\000"
	"5\000\003\000\032\000\000\0005\000\001\000\031\000\000\000\006\000\000\000\000\000\377\177"
	"\006\000\000\000\001\000\005\0005\000\001\000\034\000\000\000\006\000\000\000\000\000\377\177"
	"\006\000\000\000\001\000\005\0005\000\007\000#\000\000\0005\000\003\000!\000\000\000"
	"5\000\001\000\037\000\000\000\006\000\000\000\000\000\377\177\006\000\000\000&\000\005\000"
	"5\000\001\000\042\000\000\000\006\000\000\000\000\000\377\177\006\000\000\000\001\000\005\000"
	"5\000\003\000,\000\000\0005\000\001\000$\000\000\000\006\000\000\000&\000\005\000"
	"\006\000\000\000\000\000\377\1775\000\001\000-\000\000\000\006\000\000\000&\000\005\000"
	"\006\000\000\000\000\000\377\1775\000\015\000;\000\000\0005\000\005\0006\000\000\000"
	"5\000\001\0004\000\000\000\006\000\000\000\001\000\005\0005\000\001\0005\000\000\000"
	"\006\000\000\000\000\000\377\177\006\000\000\000&\000\005\0005\000\003\0009\000\000\000"
	"5\000\001\0008\000\000\000\006\000\000\000\000\000\377\177\006\000\000\000&\000\005\000"
	"5\000\001\000:\000\000\000\006\000\000\000\000\000\377\177\006\000\000\000&\000\005\000"
	"5\000\007\000C\000\000\0005\000\003\000>\000\000\0005\000\001\000<\000\000\000"
	"\006\000\000\000\001\000\005\000\006\000\000\000\000\000\377\1775\000\001\000\077\000\000\000"
	"\006\000\000\000\001\000\005\000\006\000\000\000\000\000\377\1775\000\003\000F\000\000\000"
	"5\000\001\000D\000\000\000\006\000\000\000&\000\005\000\006\000\000\000\001\000\005\000"
	"5\000\001\000H\000\000\000\006\000\000\000\000\000\377\177\006\000\000\000&\000\005\000"
	"5\000\035\000p\000\000\0005\000\015\000X\000\000\0005\000\005\000P\000\000\000"
	"5\000\001\000K\000\000\000\006\000\000\000\001\000\005\0005\000\001\000O\000\000\000"
	"\006\000\000\000\000\000\377\177\006\000\000\000\001\000\005\0005\000\003\000U\000\000\000"
	"5\000\001\000T\000\000\000\006\000\000\000\000\000\377\177\006\000\000\000\001\000\005\000"
	"5\000\001\000V\000\000\000\006\000\000\000\000\000\377\177\006\000\000\000\001\000\005\000"
	"5\000\007\000c\000\000\0005\000\003\000Z\000\000\0005\000\001\000Y\000\000\000"
	"\006\000\000\000\000\000\377\177\006\000\000\000&\000\005\0005\000\001\000b\000\000\000"
	"\006\000\000\000\000\000\377\177\006\000\000\000&\000\005\0005\000\003\000f\000\000\000"
	"5\000\001\000e\000\000\000\006\000\000\000\000\000\377\177\006\000\000\000\001\000\005\000"
	"5\000\001\000m\000\000\000\006\000\000\000\000\000\377\177\006\000\000\000\001\000\005\000"
	"5\000\015\000\177\000\000\0005\000\005\000s\000\000\0005\000\001\000q\000\000\000"
	"\006\000\000\000&\000\005\0005\000\001\000r\000\000\000\006\000\000\000\001\000\005\000"
	"\006\000\000\000\000\000\377\1775\000\003\000y\000\000\0005\000\001\000t\000\000\000"
	"\006\000\000\000\001\000\005\000\006\000\000\000\000\000\377\1775\000\001\000z\000\000\000"
	"\006\000\000\000\001\000\005\000\006\000\000\000\000\000\377\1775\000\007\000\204\000\000\000"
	"5\000\003\000\202\000\000\0005\000\001\000\200\000\000\000\006\000\000\000&\000\005\000"
	"\006\000\000\000\001\000\005\0005\000\001\000\203\000\000\000\006\000\000\000&\000\005\000"
	"\006\000\000\000\001\000\005\0005\000\003\000\210\000\000\0005\000\001\000\206\000\000\000"
	"\006\000\000\000\000\000\377\177\006\000\000\000\001\000\005\0005\000\020\000\211\000\000\000"
	" \000\000\000\020\000\000\000\025\000\000\001\000\000\000\000\006\000\000\000\000\000\377\177"
	" \000\000\000\020\000\000\000\025\000\000\001\010\000\000\000\006\000\000\000\000\000\377\177"
	" \000\000\000\020\000\000\000\025\000\000\001\000\000\002\000\006\000\000\000\000\000\377\177"
	" \000\000\000\020\000\000\000\025\000\000\001\010\000\002\000\006\000\000\000\000\000\377\177"
	" \000\000\000\020\000\000\000\025\000\000\001\377\377\377\377\006\000\000\000\000\000\377\177"
	"\006\000\000\000&\000\005\000\006\000\000\000&\000\005\0005\000;\000W\001\000\000"
	"5\000\035\000\010\001\000\0005\000\015\000\274\000\000\0005\000\005\000\246\000\000\000"
	"5\000\001\000\225\000\000\000\006\000\000\000\000\000\377\1775\000\001\000\226\000\000\000"
	"\006\000\000\000&\000\005\000\006\000\000\000\000\000\377\1775\000\003\000\251\000\000\000"
	"5\000\001\000\250\000\000\000\006\000\000\000\001\000\005\000\006\000\000\000\000\000\377\177"
	"5\000\001\000\252\000\000\000\006\000\000\000\001\000\005\000\006\000\000\000\000\000\377\177"
	"5\000\007\000\373\000\000\0005\000\003\000\336\000\000\0005\000\001\000\276\000\000\000"
	"\006\000\000\000&\000\005\000\006\000\000\000\000\000\377\1775\000\001\000\340\000\000\000"
	"\006\000\000\000&\000\005\000\006\000\000\000\000\000\377\1775\000\003\000\375\000\000\000"
	"5\000\001\000\374\000\000\000\006\000\000\000&\000\005\000\006\000\000\000\000\000\377\177"
	"5\000\001\000\376\000\000\000\006\000\000\000\001\000\005\000\006\000\000\000\000\000\377\177"
	"5\000\015\000 \001\000\0005\000\005\000\022\001\000\0005\000\001\000\011\001\000\000"
	"\006\000\000\000\001\000\005\0005\000\001\000\021\001\000\000\006\000\000\000\000\000\377\177"
	"\006\000\000\000&\000\005\0005\000\003\000\034\001\000\0005\000\001\000\033\001\000\000"
	"\006\000\000\000\000\000\377\177\006\000\000\000\001\000\005\0005\000\001\000\035\001\000\000"
	"\006\000\000\000\000\000\377\177\006\000\000\000&\000\005\0005\000\007\000>\001\000\000"
	"5\000\003\000'\001\000\0005\000\001\000&\001\000\000\006\000\000\000\000\000\377\177"
	"\006\000\000\000\001\000\005\0005\000\001\000<\001\000\000\006\000\000\000\000\000\377\177"
	"\006\000\000\000\001\000\005\0005\000\003\000Q\001\000\0005\000\001\000P\001\000\000"
	"\006\000\000\000\000\000\377\177\006\000\000\000\001\000\005\0005\000\001\000V\001\000\000"
	"\006\000\000\000\000\000\377\177\006\000\000\000\001\000\005\0005\000-\000\237\001\000\000"
	"5\000\035\000v\001\000\0005\000\005\000e\001\000\0005\000\001\000]\001\000\000"
	"\006\000\000\000\000\000\377\1775\000\001\000_\001\000\000\006\000\000\000\001\000\005\000"
	"\006\000\000\000\000\000\377\1775\000\003\000g\001\000\0005\000\001\000f\001\000\000"
	"\006\000\000\000\001\000\005\000\006\000\000\000\000\000\377\1775\000\021\000h\001\000\000"
	" \000\000\000\020\000\000\000\025\000\000\001(\000\000\000\006\000\000\000\001\000\005\000"
	" \000\000\000\020\000\000\000\025\000\000\003\020\000\000\000 \000\000\000 \000\000\000"
	"\025\000\000\001\011\000\000\000\006\000\000\000\026\000\005\000 \000\000\000\020\000\000\000"
	"\025\000\000\003\020\000\000\000 \000\000\000 \000\000\000\025\000\001\000\011\000\000\000"
	"\006\000\000\000\000\000\377\177 \000\000\000\020\000\000\000\025\000\001\000\020\000\000\000"
	"\006\000\000\000\000\000\377\177\006\000\000\000&\000\005\000\006\000\000\000\000\000\377\177"
	"5\000\007\000\203\001\000\0005\000\003\000\201\001\000\0005\000\001\000w\001\000\000"
	"\006\000\000\000\001\000\005\000\006\000\000\000\000\000\377\1775\000\001\000\202\001\000\000"
	"\006\000\000\000\001\000\005\000\006\000\000\000\000\000\377\1775\000\003\000\224\001\000\000"
	"5\000\001\000\211\001\000\000\006\000\000\000&\000\005\000\006\000\000\000\000\000\377\177"
	"5\000\001\000\225\001\000\000\006\000\000\000\001\000\005\000\006\000\000\000\000\000\377\177"
	"5\000\015\000\273\001\000\0005\000\005\000\251\001\000\0005\000\001\000\240\001\000\000"
	"\006\000\000\000&\000\005\0005\000\001\000\241\001\000\000\006\000\000\000\001\000\005\000"
	"\006\000\000\000\000\000\377\1775\000\003\000\270\001\000\0005\000\001\000\254\001\000\000"
	"\006\000\000\000&\000\005\000\006\000\000\000\000\000\377\1775\000\001\000\271\001\000\000"
	"\006\000\000\000\001\000\005\000\006\000\000\000\000\000\377\1775\000\007\000\303\001\000\000"
	"5\000\003\000\301\001\000\0005\000\001\000\274\001\000\000\006\000\000\000\001\000\005\000"
	"\006\000\000\000\000\000\377\1775\000\001\000\302\001\000\000\006\000\000\000\001\000\005\000"
	"\006\000\000\000&\000\005\0005\000\003\000\305\001\000\0005\000\001\000\304\001\000\000"
	"\006\000\000\000\001\000\005\000\006\000\000\000\000\000\377\1775\000\001\000\311\001\000\000"
	"\006\000\000\000\001\000\005\000\006\000\000\000&\000\005\000\006\000\000\000\000\000\000\000"
	" \000\000\000\000\000\000\0005\000\356\000\206\000\000@5\000\210\0008\001\000\000"
	"5\000^\000\262\000\000\0005\000H\000\232\000\000\0005\000>\000\210\000\000\000"
	"5\000\037\000*\000\000\0005\000\001\000)\000\000\000\006\000\000\000\000\000\377\177"
	" \000\000\000\024\000\000\000\025\000\000\003\000\000\000\000 \000\000\000\020\000\000\000"
	"\025\000\000\001(\000\000\000\006\000\000\000\001\000\005\000 \000\000\000\024\000\000\000"
	"\025\000\000\007\000\000\000\000 \000\000\000\020\000\000\000\025\000\000\005\020\000\000\000"
	" \000\000\000$\000\000\000\025\000\000\003\000\000\000\000 \000\000\000 \000\000\000"
	"\025\000\000\001\011\000\000\000\006\000\000\000\026\000\005\000 \000\000\000\024\000\000\000"
	"\025\000\000\007\000\000\000\000 \000\000\000\020\000\000\000\025\000\000\005\020\000\000\000"
	" \000\000\000$\000\000\000\025\000\000\002\000\000\000\000 \000\000\000 \000\000\000"
	"\025\000\001\000\011\000\000\000\006\000\000\000\000\000\377\177 \000\000\000\024\000\000\000"
	"\025\000\000\002\000\000\000\000 \000\000\000\020\000\000\000\025\000\001\000\020\000\000\000"
	"\006\000\000\000\000\000\377\177\006\000\000\000&\000\005\0005\000\001\000\206\000\000\000"
	"\006\000\000\000\000\000\377\1775\000\001\000\207\000\000\000\006\000\000\000\001\000\005\000"
	" \000\000\000\024\000\000\000\025\000\000\003\000\000\000\000 \000\000\000\020\000\000\000"
	"\025\000\000\001\000\000\000\000\006\000\000\000\000\000\377\177 \000\000\000\024\000\000\000"
	"\025\000\000\003\000\000\000\000 \000\000\000\020\000\000\000\025\000\000\001\010\000\000\000"
	"\006\000\000\000\000\000\377\177 \000\000\000\024\000\000\000\025\000\000\003\000\000\000\000"
	" \000\000\000\020\000\000\000\025\000\000\001\000\000\002\000\006\000\000\000\000\000\377\177"
	" \000\000\000\024\000\000\000\025\000\000\003\000\000\000\000 \000\000\000\020\000\000\000"
	"\025\000\000\001\010\000\002\000\006\000\000\000\000\000\377\177 \000\000\000\024\000\000\000"
	"\025\000\000\003\000\000\000\000 \000\000\000\020\000\000\000\025\000\000\001\377\377\377\377"
	"\006\000\000\000\000\000\377\177\006\000\000\000&\000\005\0005\000\003\000\213\000\000\000"
	"5\000\001\000\211\000\000\000\006\000\000\000\001\000\005\000\006\000\000\000\000\000\377\177"
	"5\000\001\000\214\000\000\000\006\000\000\000\001\000\005\0005\000\001\000\231\000\000\000"
	"\006\000\000\000\000\000\377\177\006\000\000\000\001\000\005\0005\000\011\000\247\000\000\000"
	"5\000\003\000\235\000\000\0005\000\001\000\234\000\000\000\006\000\000\000\000\000\377\177"
	"\006\000\000\000&\000\005\0005\000\001\000\243\000\000\000\006\000\000\000\000\000\377\177"
	"5\000\001\000\245\000\000\000\006\000\000\000\001\000\005\000\006\000\000\000\000\000\377\177"
	"5\000\005\000\256\000\000\0005\000\001\000\251\000\000\000\006\000\000\000\001\000\005\000"
	"5\000\001\000\252\000\000\000\006\000\000\000\000\000\377\177\006\000\000\000\001\000\005\000"
	"5\000\001\000\257\000\000\000\006\000\000\000&\000\005\0005\000\001\000\261\000\000\000"
	"\006\000\000\000\001\000\005\000\006\000\000\000&\000\005\0005\000\023\000\367\000\000\000"
	"5\000\011\000\343\000\000\0005\000\003\000\272\000\000\0005\000\001\000\265\000\000\000"
	"\006\000\000\000\001\000\005\000\006\000\000\000&\000\005\0005\000\001\000\324\000\000\000"
	"\006\000\000\000\000\000\377\1775\000\001\000\325\000\000\000\006\000\000\000\001\000\005\000"
	"\006\000\000\000\000\000\377\1775\000\003\000\354\000\000\0005\000\001\000\344\000\000\000"
	"\006\000\000\000\001\000\005\000\006\000\000\000\000\000\377\1775\000\001\000\355\000\000\000"
	"\006\000\000\000&\000\005\0005\000\001\000\366\000\000\000\006\000\000\000\000\000\377\177"
	"\006\000\000\000\001\000\005\0005\000\011\000\026\001\000\0005\000\003\000\372\000\000\000"
	"5\000\001\000\370\000\000\000\006\000\000\000\000\000\377\177\006\000\000\000&\000\005\000"
	"5\000\001\000\000\001\000\000\006\000\000\000\000\000\377\1775\000\001\000\001\001\000\000"
	"\006\000\000\000\001\000\005\000\006\000\000\000\000\000\377\1775\000\005\000+\001\000\000"
	"5\000\001\000\030\001\000\000\006\000\000\000\001\000\005\0005\000\001\000*\001\000\000"
	"\006\000\000\000\000\000\377\177\006\000\000\000\001\000\005\0005\000\001\0000\001\000\000"
	"\006\000\000\000\000\000\377\1775\000\001\0001\001\000\000\006\000\000\000\001\000\005\000"
	"\006\000\000\000\000\000\377\1775\000)\000\311\001\000\0005\000\023\000\251\001\000\000"
	"5\000\011\000D\001\000\0005\000\003\000@\001\000\0005\000\001\000:\001\000\000"
	"\006\000\000\000\001\000\005\000\006\000\000\000\000\000\377\1775\000\001\000B\001\000\000"
	"\006\000\000\000\001\000\005\0005\000\001\000C\001\000\000\006\000\000\000\000\000\377\177"
	"\006\000\000\000\001\000\005\0005\000\003\000N\001\000\0005\000\001\000M\001\000\000"
	"\006\000\000\000\000\000\377\177\006\000\000\000\001\000\005\0005\000\001\000O\001\000\000"
	"\006\000\000\000\000\000\377\1775\000\001\000\250\001\000\000\006\000\000\000&\000\005\000"
	"\006\000\000\000\000\000\377\1775\000\011\000\274\001\000\0005\000\003\000\270\001\000\000"
	"5\000\001\000\254\001\000\000\006\000\000\000&\000\005\000\006\000\000\000\000\000\377\177"
	"5\000\001\000\271\001\000\000\006\000\000\000\001\000\005\0005\000\001\000\273\001\000\000"
	"\006\000\000\000\000\000\377\177\006\000\000\000\001\000\005\0005\000\005\000\303\001\000\000"
	"5\000\001\000\301\001\000\000\006\000\000\000\000\000\377\1775\000\001\000\302\001\000\000"
	"\006\000\000\000\001\000\005\000\006\000\000\000&\000\005\0005\000\001\000\304\001\000\000"
	"\006\000\000\000\001\000\005\0005\000\001\000\305\001\000\000\006\000\000\000\000\000\377\177"
	"\006\000\000\000\001\000\005\0005\000%\0000\000\000@5\000\011\000\021\000\000@"
	"5\000\003\000\015\000\000@5\000\001\000\000\000\000@\006\000\000\000&\000\005\000"
	"\006\000\000\000\000\000\377\1775\000\001\000\016\000\000@\006\000\000\000&\000\005\000"
	"5\000\001\000\017\000\000@\006\000\000\000\000\000\377\177\006\000\000\000&\000\005\000"
	"5\000\005\000)\000\000@5\000\001\000\023\000\000@\006\000\000\000\000\000\377\177"
	"5\000\001\000\025\000\000@\006\000\000\000&\000\005\000\006\000\000\000\000\000\377\177"
	"5\000\021\000*\000\000@ \000\000\000\020\000\000\000\025\000\000\001(\000\000\000"
	"\006\000\000\000\001\000\005\000 \000\000\000\020\000\000\000\025\000\000\003\020\000\000\000"
	" \000\000\000 \000\000\000\025\000\000\001\011\000\000\000\006\000\000\000\026\000\005\000"
	" \000\000\000\020\000\000\000\025\000\000\003\020\000\000\000 \000\000\000 \000\000\000"
	"\025\000\001\000\011\000\000\000\006\000\000\000\000\000\377\177 \000\000\000\020\000\000\000"
	"\025\000\001\000\020\000\000\000\006\000\000\000\000\000\377\177\006\000\000\000&\000\005\000"
	"5\000\001\000-\000\000@\006\000\000\000\000\000\377\177\006\000\000\000&\000\005\000"
	"5\000\011\000e\000\000@5\000\003\0008\000\000@5\000\001\0006\000\000@"
	"\006\000\000\000\000\000\377\177\006\000\000\000&\000\005\0005\000\001\000;\000\000@"
	"\006\000\000\000\000\000\377\1775\000\001\000<\000\000@\006\000\000\000&\000\005\000"
	"\006\000\000\000\000\000\377\1775\000\005\000\202\000\000@5\000\001\000f\000\000@"
	"\006\000\000\000&\000\005\0005\000\001\000\177\000\000@\006\000\000\000\000\000\377\177"
	"\006\000\000\000&\000\005\0005\000\001\000\203\000\000@\006\000\000\000\000\000\377\177"
	"5\000\001\000\204\000\000@\006\000\000\000&\000\005\000\006\000\000\000\000\000\377\177"
	"5\000b\000\021\001\000@5\0008\000\315\000\000@5\000\042\000\243\000\000@"
	"5\000\030\000\214\000\000@5\000\022\000\210\000\000@5\000\001\000\207\000\000@"
	"\006\000\000\000&\000\005\000 \000\000\000\020\000\000\000\025\000\000\001\000\000\000\000"
	"\006\000\000\000\000\000\377\177 \000\000\000\020\000\000\000\025\000\000\001\010\000\000\000"
	"\006\000\000\000\000\000\377\177 \000\000\000\020\000\000\000\025\000\000\001\000\000\002\000"
	"\006\000\000\000\000\000\377\177 \000\000\000\020\000\000\000\025\000\000\001\010\000\002\000"
	"\006\000\000\000\000\000\377\177 \000\000\000\020\000\000\000\025\000\000\001\377\377\377\377"
	"\006\000\000\000\000\000\377\177\006\000\000\000&\000\005\0005\000\001\000\211\000\000@"
	"\006\000\000\000\001\000\005\0005\000\001\000\213\000\000@\006\000\000\000\000\000\377\177"
	"\006\000\000\000\001\000\005\0005\000\003\000\232\000\000@5\000\001\000\231\000\000@"
	"\006\000\000\000\000\000\377\177\006\000\000\000\001\000\005\0005\000\001\000\234\000\000@"
	"\006\000\000\000\000\000\377\1775\000\001\000\235\000\000@\006\000\000\000&\000\005\000"
	"\006\000\000\000\000\000\377\1775\000\011\000\256\000\000@5\000\003\000\247\000\000@"
	"5\000\001\000\245\000\000@\006\000\000\000\001\000\005\000\006\000\000\000\000\000\377\177"
	"5\000\001\000\251\000\000@\006\000\000\000\001\000\005\0005\000\001\000\252\000\000@"
	"\006\000\000\000\000\000\377\177\006\000\000\000\001\000\005\0005\000\005\000\263\000\000@"
	"5\000\001\000\257\000\000@\006\000\000\000&\000\005\0005\000\001\000\261\000\000@"
	"\006\000\000\000\001\000\005\000\006\000\000\000&\000\005\0005\000\001\000\264\000\000@"
	"\006\000\000\000\001\000\005\0005\000\001\000\272\000\000@\006\000\000\000&\000\005\000"
	"\006\000\000\000\000\000\377\1775\000\023\000\337\000\000@5\000\011\000\324\000\000@"
	"5\000\003\000\321\000\000@5\000\001\000\317\000\000@\006\000\000\000&\000\005\000"
	"\006\000\000\000\000\000\377\1775\000\001\000\322\000\000@\006\000\000\000&\000\005\000"
	"5\000\001\000\323\000\000@\006\000\000\000\000\000\377\177\006\000\000\000&\000\005\000"
	"5\000\003\000\326\000\000@5\000\001\000\325\000\000@\006\000\000\000\001\000\005\000"
	"\006\000\000\000\000\000\377\1775\000\001\000\330\000\000@\006\000\000\000&\000\005\000"
	"5\000\001\000\336\000\000@\006\000\000\000\000\000\377\177\006\000\000\000&\000\005\000"
	"5\000\011\000\364\000\000@5\000\003\000\344\000\000@5\000\001\000\343\000\000@"
	"\006\000\000\000\000\000\377\177\006\000\000\000\001\000\005\0005\000\001\000\354\000\000@"
	"\006\000\000\000\000\000\377\1775\000\001\000\355\000\000@\006\000\000\000&\000\005\000"
	"\006\000\000\000\000\000\377\1775\000\005\000\372\000\000@5\000\001\000\365\000\000@"
	"\006\000\000\000&\000\005\0005\000\001\000\366\000\000@\006\000\000\000\000\000\377\177"
	"\006\000\000\000&\000\005\0005\000\001\000\000\001\000@\006\000\000\000\000\000\377\177"
	"5\000\001\000\001\001\000@\006\000\000\000\001\000\005\000\006\000\000\000\000\000\377\177"
	"5\000)\000M\001\000@5\000\023\0003\001\000@5\000\011\000*\001\000@"
	"5\000\003\000\026\001\000@5\000\001\000\023\001\000@\006\000\000\000&\000\005\000"
	"\006\000\000\000\000\000\377\1775\000\001\000\030\001\000@\006\000\000\000&\000\005\000"
	"5\000\001\000'\001\000@\006\000\000\000\000\000\377\177\006\000\000\000&\000\005\000"
	"5\000\003\000,\001\000@5\000\001\000+\001\000@\006\000\000\000\001\000\005\000"
	"\006\000\000\000&\000\005\0005\000\001\0000\001\000@\006\000\000\000\000\000\377\177"
	"5\000\001\0001\001\000@\006\000\000\000\001\000\005\000\006\000\000\000\000\000\377\177"
	"5\000\011\000@\001\000@5\000\003\0006\001\000@5\000\001\0004\001\000@"
	"\006\000\000\000&\000\005\000\006\000\000\000\000\000\377\1775\000\001\0008\001\000@"
	"\006\000\000\000&\000\005\0005\000\001\000:\001\000@\006\000\000\000\001\000\005\000"
	"\006\000\000\000\000\000\377\1775\000\005\000D\001\000@5\000\001\000B\001\000@"
	"\006\000\000\000\001\000\005\0005\000\001\000C\001\000@\006\000\000\000&\000\005\000"
	"\006\000\000\000\001\000\005\0005\000\001\000G\001\000@\006\000\000\000\000\000\377\177"
	"5\000\001\000I\001\000@\006\000\000\000&\000\005\000\006\000\000\000\000\000\377\177"
	"5\000\025\000\302\001\000@5\000\011\000\254\001\000@5\000\003\000O\001\000@"
	"5\000\001\000N\001\000@\006\000\000\000\001\000\005\000\006\000\000\000\000\000\377\177"
	"5\000\001\000\250\001\000@\006\000\000\000&\000\005\0005\000\001\000\251\001\000@"
	"\006\000\000\000\000\000\377\177\006\000\000\000&\000\005\0005\000\005\000\273\001\000@"
	"5\000\001\000\270\001\000@\006\000\000\000\000\000\377\1775\000\001\000\271\001\000@"
	"\006\000\000\000\001\000\005\000\006\000\000\000\000\000\377\1775\000\001\000\274\001\000@"
	"\006\000\000\000\001\000\005\0005\000\001\000\301\001\000@\006\000\000\000\000\000\377\177"
	"\006\000\000\000\001\000\005\0005\000\011\000\000\002\000@5\000\003\000\304\001\000@"
	"5\000\001\000\303\001\000@\006\000\000\000&\000\005\000\006\000\000\000\001\000\005\000"
	"5\000\001\000\305\001\000@\006\000\000\000\000\000\377\1775\000\001\000\311\001\000@"
	"\006\000\000\000\001\000\005\000\006\000\000\000&\000\005\0005\000\005\000\024\002\000@"
	"5\000\001\000\020\002\000@\006\000\000\000\000\000\377\1775\000\001\000\021\002\000@"
	"\006\000\000\000\001\000\005\000\006\000\000\000\000\000\377\1775\000\001\000\026\002\000@"
	"\006\000\000\000\001\000\005\0005\000\001\000$\002\000@\006\000\000\000\000\000\377\177"
	"\006\000\000\000&\000\005\000";

static unsigned char *arena;
static struct seen *seen;
static int laid;

/* What a call returned, and an address in the arena. */
#define R(call) ((uint64_t)seen->values[call])
#define AT(offset) ((uint64_t)(uintptr_t)(arena + (offset)))

__attribute__((unused)) static uint64_t word(unsigned offset, unsigned size)
{
	int64_t value = 0;

	memcpy(&value, arena + offset, size);
	return (uint64_t)(value << (64 - 8 * size) >> (64 - 8 * size));
}

__attribute__((unused)) static void store(unsigned offset, unsigned size, uint64_t value)
{
	memcpy(arena + offset, &value, size);
}

static long enter_ia32(long number, const uint64_t *a)
{
	register const uint64_t *arguments __asm__("r9") = a;
	long value = number;

	__asm__ volatile("subq $128, %%rsp\n\tpushq %%rbx\n\tpushq %%rbp\n\t"
			 "movq 0(%%r9), %%rbx\n\tmovq 8(%%r9), %%rcx\n\tmovq 16(%%r9), %%rdx\n\t"
			 "movq 24(%%r9), %%rsi\n\tmovq 32(%%r9), %%rdi\n\tmovq 40(%%r9), %%rbp\n\t"
			 "int $0x80\n\tpopq %%rbp\n\tpopq %%rbx\n\taddq $128, %%rsp"
			 : "+a"(value), "+r"(arguments)
			 :
			 : "rcx", "rdx", "rsi", "rdi", "r8", "r10", "r11", "cc", "memory");
	value &= 0xffffffff;
	return value > 0xfffff000 ? (int32_t)value : value;
}

/* A child stays in registers, because it may share this stack: it ends or pauses right here.
 * One that pauses dies with its parent; was that gone already, an alarm(2) ends it later than
 * anybody waits for. */
static long enter(long number, const uint64_t *a, long child)
{
	register uint64_t d __asm__("r10") = a[3], e __asm__("r8") = a[4], f __asm__("r9") = a[5];
	register long role __asm__("r12") = child;
	long value;

	__asm__ volatile("syscall\n\ttestq %%r12, %%r12\n\tjz 9f\n\ttestl %%eax, %%eax\n\tjnz 9f\n\t"
			 "cmpq $1, %%r12\n\tje 5f\n\t"
			 "movl %[limit], %%edi\n\tmovl $37, %%eax\n\tsyscall\n\t"
			 "movl $1, %%edi\n\tmovl $9, %%esi\n\tmovl $157, %%eax\n\tsyscall\n"
			 "3:\tmovl $34, %%eax\n\tsyscall\n\tjmp 3b\n"
			 "5:\txorl %%edi, %%edi\n\tmovl $60, %%eax\n\tsyscall\n"
			 "9:"
			 : "=a"(value)
			 : "a"(number), "D"(a[0]), "S"(a[1]), "d"(a[2]), "r"(d), "r"(e), "r"(f),
			   "r"(role), [limit] "i"(SECONDS + 1)
			 : "rcx", "r11", "cc", "memory");
	return value;
}

static int forks(long number)
{
	return number == SYS_fork || number == SYS_vfork || number == SYS_clone ||
	       number == SYS_clone3;
}

static void do_call(int index, long number, enum abi abi, uint64_t a, uint64_t b, uint64_t c,
		    uint64_t d, uint64_t e, uint64_t f)
{
	uint64_t arguments[6] = { a, b, c, d, e, f };
	size_t at = 0;

	seen->values[index] = INT64_MAX - 1;
	seen->values[index] =
		abi == IA32 ? enter_ia32(number, arguments) :
		enter(number | (abi == X32 ? X32_BIT : 0), arguments, forks(number) ? CHILDREN : 0);
	for (int i = 0; outputs[i].call >= 0; i++) {
		if (outputs[i].call == index)
			memcpy(seen->outputs + at, arena + outputs[i].offset, outputs[i].length);
		at += outputs[i].length;
	}
}

static void program(void)
{
	/* r0 = prlimit64(0, RLIMIT_FSIZE, "d\000\000\000\000\000\000\000\377\377\377\377\377\377\377\377", 0) */
	do_call(0, 302, NATIVE, 0, 1, AT(0), 0, 0, 0);
	/* r1 = mkdirat(AT_FDCWD, "n1", 0) */
	do_call(1, 258, NATIVE, -100, AT(16), 0, 0, 0, 0);
	/* r2 = openat(AT_FDCWD, "n1", O_TMPFILE|O_RDWR, 0) */
	do_call(2, 257, NATIVE, -100, AT(16), 4259842, 0, 0, 0);
	/* r3 = copy_file_range(r2, 0, r2, "\000\020\000\000\000\000\000\000", 0, 0) */
	do_call(3, 326, NATIVE, R(2), 0, R(2), AT(32), 0, 0);
}

static void need(int good, const char *what)
{
	if (!good) {
		perror(what);
		_exit(3);
	}
}

static void put(pid_t pid, const char *file, const char *text)
{
	char path[64];
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/%s", pid, file);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	need(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text), path);
	close(fd);
}

static void write_maps(pid_t pid)
{
	unsigned uid = UID ? UID : geteuid(), gid = GID ? GID : getegid();
	char text[64];

	if (geteuid())
		put(pid, "setgroups", "deny");
	snprintf(text, sizeof(text), "%u %u 1", MAP_ROOT ? 0 : uid, uid);
	put(pid, "uid_map", text);
	snprintf(text, sizeof(text), "%u %u 1", MAP_ROOT ? 0 : gid, gid);
	put(pid, "gid_map", text);
}

/* An overlay of its own for the program, which finds a fresh folder in it. */
static void lay_over(const char *folder)
{
	char options[256];

	need(chdir(folder) == 0, folder);
	need(mkdir("lower", 0777) == 0 && mkdir("upper", 0777) == 0 && mkdir("work", 0777) == 0 &&
	     mkdir("merged", 0777) == 0, "overlay's folders");
	snprintf(options, sizeof(options), "lowerdir=%s/lower,upperdir=%s/upper,workdir=%s/work",
		 folder, folder, folder);
	need(mount("overlay", "merged", "overlay", 0, options) == 0, "mount overlay");
	need(mkdir("merged/cwd", 0755) == 0 && chown("merged/cwd", UID, GID) == 0, "merged/cwd");
}

static void set_mounts(const char *folder)
{
	if (NAMESPACES & CLONE_NEWNS)
		need(mount(0, "/", 0, MS_REC | MS_PRIVATE, 0) == 0, "private mounts");
	if (OWN_PROC)
		need(mount("proc", "/proc", "proc", 0, 0) == 0, "mount /proc");
	if (OWN_SYS)
		need(mount("sysfs", "/sys", "sysfs", 0, 0) == 0, "mount /sys");
	if (OVERLAY && !laid)
		lay_over(folder);
	need(chdir(folder) == 0 && (!OVERLAY || chdir("merged/cwd") == 0), folder);
}

static void set_identity(void)
{
	unsigned uid = NAMESPACES & CLONE_NEWUSER && MAP_ROOT ? 0 : UID ? UID : geteuid();
	unsigned gid = NAMESPACES & CLONE_NEWUSER && MAP_ROOT ? 0 : GID ? GID : getegid();

	need(syscall(SYS_setgroups, 0, 0) == 0 || errno == EPERM, "setgroups");
	need(setresgid(gid, gid, gid) == 0, "setresgid");
	need(setresuid(uid, uid, uid) == 0, "setresuid");
	prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
}

static void set_up(int gate, const char *folder)
{
	struct rlimit core = { 0, 0 }, files = { 1024, 4096 };
	struct { unsigned short length; const void *filter; } loaded = {
		(sizeof(filter) - 1) / 8, filter
	};
	char byte;

	setsid();
	need(read(gate, &byte, 1) == 1, "gate");
	umask(022);
	set_mounts(folder);
	setrlimit(RLIMIT_CORE, &core);
	setrlimit(RLIMIT_NOFILE, &files);
	for (int fd = 0; fd < 1024; fd++)
		close(fd);
	need(open("/dev/null", O_RDWR) == 0 && dup(0) == 1 && dup(0) == 2, "/dev/null");
	set_identity();
	need(!NO_NEW_PRIVS || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0, "no_new_privs");
	need(!loaded.length || prctl(PR_SET_SECCOMP, 2, &loaded, 0, 0) == 0, "seccomp");
}

static int same_call(const struct side *side, int index, int64_t bits)
{
	int64_t want = side->values[index], got = seen->values[index];
	size_t at = 0;

	if (want == INT64_MAX ? got < 0 && got >= -4095 : (got ^ want) & bits)
		return 0;
	for (int i = 0; outputs[i].call >= 0; i++)
		for (unsigned k = 0; k < outputs[i].length; k++, at++)
			/* the bytes of a side have a sign */
			if (outputs[i].call == index &&
			    (unsigned char)((seen->outputs[at] ^ side->outputs[at]) & side->mask[at]))
				return 0;
	return 1;
}

static int same(const struct side *side)
{
	for (int i = 0; i < CALLS; i++)
		if (!same_call(side, i, -1))
			return 0;
	return 1;
}

static int reached(int64_t value)
{
	return value != INT64_MIN && value != INT64_MAX - 1;
}

/* Exit status: 0 what is expected, 1 anything else, 3 the program did not get that far. */
static int verdict(int status, int timed_out)
{
	for (int i = 0; chain[i] >= 0; i++) {
		int64_t value = seen->values[chain[i]];
		int last = chain[i + 1] < 0, error = value < 0 && value >= -4095 ? (int)-value : 0;

		if (value == INT64_MIN)
			return 3;
		if (!reached(value))
			return timed_out ? expect != HANGS :
			       !(expect == SIGNALLED && WIFSIGNALED(status) &&
				 WTERMSIG(status) == expected);
		for (int k = 0; last && fine[k]; k++)
			error = error == fine[k] ? 0 : error;
		if (error)
			return !(expect == FAILS && error == expected);
		if (last)
			return expect == SEEN ? !same_call(&sides[0], chain[i], BITS) : expect != WORKS;
	}
	return 3;
}

static int wait_for(pid_t child, int *timed_out)
{
	int status = 0;

	*timed_out = 0;
	for (int waited = 0; waitpid(child, &status, WNOHANG) == 0; waited += 10) {
		if (waited > SECONDS * 1000) {
			*timed_out = 1;
			kill(-child, SIGKILL);
			kill(child, SIGKILL);
			waitpid(child, &status, 0);
			break;
		}
		poll(0, 0, 10);
	}
	return status;
}

int main(void)
{
	const char *base = getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp";
	int shared = MAP_SHARED | MAP_ANONYMOUS, status, timed_out, gate[2];
	struct statfs place;
	char folder[128];
	pid_t child;

	need(statfs(base, &place) == 0, base);
	need(!EXT4 || place.f_type == EXT4_MAGIC, "TMPDIR has to be on ext4");
	snprintf(folder, sizeof(folder), "%s/reproducer-XXXXXX", base);
	need(mkdtemp(folder) && chmod(folder, 0777) == 0 && pipe(gate) == 0, folder);
	need(!UID || chown(folder, UID, GID) == 0, "chown");
	seen = mmap(0, sizeof(*seen), PROT_READ | PROT_WRITE, shared, -1, 0);
	need(seen != MAP_FAILED, "mmap");
	for (int i = 0; i < CALLS; i++)
		seen->values[i] = INT64_MIN;
	if (OVERLAY && geteuid() == 0) {
		/* Not from a user namespace, where older kernels mount none. */
		need(unshare(CLONE_NEWNS) == 0, "unshare");
		need(mount(0, "/", 0, MS_REC | MS_PRIVATE, 0) == 0, "private mounts");
		lay_over(folder);
		laid = 1;
	}
	child = (pid_t)syscall(SYS_clone, NAMESPACES | SIGCHLD, 0, 0, 0, 0);
	need(child >= 0, "clone");
	if (child == 0) {
		set_up(gate[0], folder);
		arena = mmap((void *)0x200000000000, ARENA, PROT_READ | PROT_WRITE,
			     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
		need(arena != MAP_FAILED, "mmap");
		for (int i = 0; data[i].bytes; i++)
			memcpy(arena + data[i].offset, data[i].bytes, data[i].length);
		program();
		_exit(0);
	}
	if (NAMESPACES & CLONE_NEWUSER)
		write_maps(child);
	need(write(gate[1], "", 1) == 1, "gate");
	status = wait_for(child, &timed_out);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 3 && seen->values[0] == INT64_MIN)
		return 3;
	for (int i = 0; i < CALLS && reached(seen->values[i]); i++) {
		int64_t value = seen->values[i];

		printf("r%d %s = %lld%s%s\n", i, names[i], (long long)value,
		       value < 0 && value >= -4095 ? " " : "",
		       value < 0 && value >= -4095 ? strerror((int)-value) : "");
	}
	printf("status 0x%x%s, files in %s\n", status, timed_out ? ", too late" : "", folder);
	if (expect != NOTHING)
		return verdict(status, timed_out);
	for (int i = 0; i < SIDES; i++) {
		if (same(&sides[i])) {
			printf("as %s\n", sides[i].name);
			return i;
		}
	}
	return SIDES ? 2 : 0;
}
