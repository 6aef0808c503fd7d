/* Deeds for what a control group shares out: memory that stays, huge pages, the
 * pace of a processor and of a disk; and whether a tree can be mounted with
 * other owners. */
#include "probe.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { MIB = 1 << 20, HUGE_PAGE = 2 * MIB, BLOCK = 4096 };

static long long now(clockid_t clock)
{
	struct timespec time = { 0 };

	clock_gettime(clock, &time);
	return time.tv_sec * 1000LL + time.tv_nsec / 1000000;
}

/* hold MIB: take that much memory and keep it. */
void do_hold(int argc, char **argv)
{
	size_t size = strtoul(argv[1], NULL, 0) * MIB;
	char *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	(void)argc;
	if (memory == MAP_FAILED) {
		out.error = errno;
		return;
	}
	for (size_t i = 0; i < size; i += BLOCK)
		memory[i] = (char)((i >> 12) + 1);
	out.value = (long long)(size / MIB);
}

static void pace_child(struct shared *shared, int argc, char **argv)
{
	long long wanted = atoll(argv[1]), begun = now(CLOCK_MONOTONIC);

	(void)argc;
	while (now(CLOCK_PROCESS_CPUTIME_ID) < wanted)
		;
	shared->value = now(CLOCK_MONOTONIC) - begun;
}

/* pace MILLISECONDS: how long it takes to get that much processor time. */
void do_pace(int argc, char **argv)
{
	in_child(pace_child, argc, argv);
}

static void huge_child(struct shared *shared, int argc, char **argv)
{
	long wanted = atol(argv[1]);

	(void)argc;
	for (; shared->value < wanted; shared->value++) {
		char *page = mmap(NULL, HUGE_PAGE, PROT_READ | PROT_WRITE,
				  MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB, -1, 0);

		if (page == MAP_FAILED) {
			shared->error = errno;
			return;
		}
		page[0] = 1;
	}
}

/* huge PAGES: a child maps and writes huge pages one by one; value is how many. */
void do_huge(int argc, char **argv)
{
	in_child(huge_child, argc, argv);
}

static void pull_child(struct shared *shared, int argc, char **argv)
{
	static char block[BLOCK] __attribute__((aligned(BLOCK)));
	long long left = atoll(argv[2]), begun = now(CLOCK_MONOTONIC);
	int fd = open(argv[1], O_RDONLY | O_DIRECT | O_CLOEXEC);

	(void)argc;
	while (fd >= 0 && left > 0 && read(fd, block, sizeof(block)) == BLOCK)
		left -= BLOCK;
	if (left > 0)
		shared->error = errno ? errno : ENODATA;
	shared->value = now(CLOCK_MONOTONIC) - begun;
}

/* pull PATH BYTES: read a disk past the cache; value is the milliseconds it took. */
void do_pull(int argc, char **argv)
{
	in_child(pull_child, argc, argv);
}

static bool map_ids(pid_t child, const char *file)
{
	static const char line[] = "0 100000 65536\n";
	char path[64];
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/%s", child, file);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	bool done = fd >= 0 && write(fd, line, sizeof(line) - 1) == sizeof(line) - 1;
	if (fd >= 0)
		close(fd);
	return done;
}

/* The user namespace of a child that waits to be killed; -1 and errno. */
static int other_ids(pid_t *child)
{
	int ready[2], fd = -1;
	char path[64], byte;

	if (pipe2(ready, O_CLOEXEC) < 0)
		return -1;
	*child = fork();
	if (*child == 0) {
		if (unshare(CLONE_NEWUSER) == 0 && write(ready[1], "x", 1) == 1)
			pause();
		_exit(1);
	}
	close(ready[1]);
	snprintf(path, sizeof(path), "/proc/%d/ns/user", *child);
	if (*child > 0 && read(ready[0], &byte, 1) == 1 && map_ids(*child, "uid_map") &&
	    map_ids(*child, "gid_map"))
		fd = open(path, O_RDONLY | O_CLOEXEC);
	close(ready[0]);
	return fd;
}

/* idmap PATH: whether that tree can be mounted with other owners, mount_setattr(2). */
void do_idmap(int argc, char **argv)
{
	struct mount_attr wanted = { .attr_set = MOUNT_ATTR_IDMAP };
	pid_t child = -1;
	int tree = (int)syscall(SYS_open_tree, AT_FDCWD, argv[1], OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
	int ids = tree < 0 ? -1 : other_ids(&child);

	(void)argc;
	wanted.userns_fd = (__u64)ids;
	if (tree < 0 || ids < 0 ||
	    syscall(SYS_mount_setattr, tree, "", AT_EMPTY_PATH, &wanted, sizeof(wanted)) < 0)
		out.error = errno;
	if (child > 0) {
		kill(child, SIGKILL);
		waitpid(child, NULL, 0);
	}
	if (ids >= 0)
		close(ids);
	if (tree >= 0)
		close(tree);
}
