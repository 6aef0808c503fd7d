/*
/*@title@*/
 *
 * cc -o reproducer reproducer.c && ./reproducer; exit status 2: something else was seen,
 * 3: it could not be tried. Made by hostabi.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define CALLS /*@calls_count@*/
#define ARENA /*@arena@*/
#define SIDES /*@sides_count@*/
#define NAMESPACES /*@namespaces@*/
#define UID /*@uid@*/
#define GID /*@gid@*/
#define MAP_ROOT /*@map_root@*/
#define NO_NEW_PRIVS /*@no_new_privs@*/

struct seen {
	int64_t values[CALLS + 1];
	unsigned char outputs[/*@outputs_room@*/];
};

struct side {
	const char *name;
	int64_t values[CALLS + 1];
	const char *outputs, *mask;
};

static const char data[] =
/*@data@*/;
static const char *const names[] = {
/*@names@*/	0
};
static const struct { int call; unsigned offset, length; } outputs[] = {
/*@outputs@*/	{ -1, 0, 0 }
};
/* INT64_MIN: not reached; INT64_MAX: anything but an error. */
static const struct side sides[] = {
/*@sides@*/	{ 0, { 0 }, "", "" }
};

static unsigned char *arena;
static struct seen *seen;

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

static void do_call(int index, long number, uint64_t a, uint64_t b, uint64_t c, uint64_t d,
		    uint64_t e, uint64_t f)
{
	long value = syscall(number, a, b, c, d, e, f);
	size_t at = 0;

	seen->values[index] = value == -1 ? -errno : value;
	for (int i = 0; outputs[i].call >= 0; i++) {
		if (outputs[i].call == index)
			memcpy(seen->outputs + at, arena + outputs[i].offset, outputs[i].length);
		at += outputs[i].length;
	}
}

static void program(void)
{
/*@calls@*/
}

static void need(int good, const char *what)
{
	if (!good) {
		perror(what);
		_exit(3);
	}
}

static void put(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY);

	need(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text), path);
	close(fd);
}

static void enter_namespaces(void)
{
	unsigned uid = UID ? UID : getuid(), gid = GID ? GID : getgid();
	char text[64];

	need(unshare(NAMESPACES) == 0, "unshare");
	if (!(NAMESPACES & CLONE_NEWUSER))
		return;
	if (access("/proc/self/setgroups", F_OK) == 0)
		put("/proc/self/setgroups", "deny");
	snprintf(text, sizeof(text), "%u %u 1", MAP_ROOT ? 0 : uid, uid);
	put("/proc/self/uid_map", text);
	snprintf(text, sizeof(text), "%u %u 1", MAP_ROOT ? 0 : gid, gid);
	put("/proc/self/gid_map", text);
}

static void set_up(void)
{
	struct rlimit core = { 0, 0 }, files = { 1024, 4096 };

	umask(022);
	setsid();
	if (NAMESPACES)
		enter_namespaces();
	setrlimit(RLIMIT_CORE, &core);
	setrlimit(RLIMIT_NOFILE, &files);
	if (!(NAMESPACES & CLONE_NEWUSER)) {
		need(!GID || setresgid(GID, GID, GID) == 0, "setresgid");
		need(!UID || setresuid(UID, UID, UID) == 0, "setresuid");
	}
	need(!NO_NEW_PRIVS || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0, "no_new_privs");
	for (int fd = 0; fd < 1024; fd++)
		close(fd);
	need(open("/dev/null", O_RDWR) == 0 && dup(0) == 1 && dup(0) == 2, "/dev/null");
}

static int same(const struct side *side)
{
	size_t at = 0;

	for (int i = 0; i < CALLS; i++) {
		int64_t want = side->values[i], got = seen->values[i];

		if (want == INT64_MAX ? got < 0 && got >= -4095 : got != want)
			return 0;
	}
	for (int i = 0; outputs[i].call >= 0; i++)
		for (unsigned k = 0; k < outputs[i].length; k++, at++)
			if ((seen->outputs[at] ^ side->outputs[at]) & side->mask[at])
				return 0;
	return 1;
}

int main(void)
{
	char folder[] = "/tmp/reproducer-XXXXXX";
	int shared = MAP_SHARED | MAP_ANONYMOUS, status = 0;
	pid_t child;

	need(mkdtemp(folder) && chdir(folder) == 0 && chmod(folder, 0777) == 0, folder);
	seen = mmap(0, sizeof(*seen), PROT_READ | PROT_WRITE, shared, -1, 0);
	need(seen != MAP_FAILED, "mmap");
	for (int i = 0; i < CALLS; i++)
		seen->values[i] = INT64_MIN;
	child = fork();
	need(child >= 0, "fork");
	if (child == 0) {
		set_up();
		arena = mmap((void *)0x200000000000, ARENA, PROT_READ | PROT_WRITE,
			     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
		need(arena != MAP_FAILED, "mmap");
		memcpy(arena, data, sizeof(data) - 1);
		program();
		_exit(0);
	}
	waitpid(child, &status, 0);
	for (int i = 0; i < CALLS && seen->values[i] != INT64_MIN; i++) {
		int64_t value = seen->values[i];

		printf("r%d %s = %lld%s%s\n", i, names[i], (long long)value,
		       value < 0 && value >= -4095 ? " " : "",
		       value < 0 && value >= -4095 ? strerror((int)-value) : "");
	}
	printf("status 0x%x, files in %s\n", status, folder);
	for (int i = 0; i < SIDES; i++) {
		if (same(&sides[i])) {
			printf("as %s\n", sides[i].name);
			return i;
		}
	}
	return SIDES ? 2 : 0;
}
