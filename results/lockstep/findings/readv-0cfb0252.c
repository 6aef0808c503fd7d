/*
 * exits 0 where it sees what 5.10 did:
 * r0 = timerfd_create(0, 2048) = 3
 * r1 = readv(r0, {}, 2) = -EINVAL
 * exited 0
 * fd 3: anon_inode:[timerfd] cloexec=0 flags=04002 mode=0600
 *
 * exits 1 where it sees what 6.12 did:
 * r0 = timerfd_create(0, 2048) = 3
 * r1 = readv(r0, {}, 2) = -EAGAIN
 * exited 0
 * fd 3: anon_inode:[timerfd] cloexec=0 flags=04002 mode=0600
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

#define CALLS 2
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
	unsigned char outputs[101];
};

struct side {
	const char *name;
	int64_t values[CALLS + 1];
	const char *outputs, *mask;
};

static const struct { unsigned offset, length; const char *bytes; } data[] = {
	{ 40, 1,
	"d" },
	{ 72, 2,
	"\377\017" },
	{ 88, 1,
	"d" },
	{ 0, 0, 0 }
};
static const char *const names[] = {
	"timerfd_create",
	"readv",
	0
};
static const struct { int call; unsigned offset, length; } outputs[] = {
	{ 1, 130800, 1 },
	{ 1, 130688, 100 },
	{ -1, 0, 0 }
};
/* INT64_MIN: not reached; INT64_MAX: anything but an error. */
static const struct side sides[] = {
	{ "5.10", { 3LL, -22LL },
	"\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000"
	"\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000"
	"\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000"
	"\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000"
	"\000\000\000\000\000",
	"\377\377\377\377\377\377\377\377\377\377\377\377\377\377\377\377\377\377\377\377\377\377\377\377"
	"\377\377\377\377\377\377\377\377\377\377\377\377\377\377\377\377\377\377\377\377\377\377\377\377"
	"\377\377\377\377\377\377\377\377\377\377\377\377\377\377\377\377\377\377\377\377\377\377\377\377"
	"\377\377\377\377\377\377\377\377\377\377\377\377\377\377\377\377\377\377\377\377\377\377\377\377"
	"\377\377\377\377\377" },
	{ "6.12", { 3LL, -11LL },
	"\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000"
	"\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000"
	"\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000"
	"\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000"
	"\000\000\000\000\000",
	"\377\377\377\377\377\377\377\377\377\377\377\377\377\377\377\377\377\377\377\377\377\377\377\377"
	"\377\377\377\377\377\377\377\377\377\377\377\377\377\377\377\377\377\377\377\377\377\377\377\377"
	"\377\377\377\377\377\377\377\377\377\377\377\377\377\377\377\377\377\377\377\377\377\377\377\377"
	"\377\377\377\377\377\377\377\377\377\377\377\377\377\377\377\377\377\377\377\377\377\377\377\377"
	"\377\377\377\377\377" },
	{ 0, { 0 }, "", "" }
};

/* Calls that have to work first, then the one that decides. */
static const int chain[] = { -1 };
static const int fine[] = { 0 };
static const enum expect expect = NOTHING;
static const int expected = 0;
static const unsigned char filter[] =
	"";

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
	/* r0 = timerfd_create(0, 2048) */
	do_call(0, 283, NATIVE, 0, 2048, 0, 0, 0, 0);
	/* r1 = readv(r0, {}, 2) */
	store(16, 8, AT(130800));
	store(32, 8, AT(130688));
	store(48, 8, AT(130688));
	do_call(1, 19, NATIVE, R(0), AT(16), 2, 0, 0, 0);
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
