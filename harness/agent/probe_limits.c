/* Deeds that run into a limit: memory, processes, descriptors, file size, time. */
#include "probe.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { FORK_LIMIT = 4096, DESCRIPTOR_LIMIT = 1 << 20, MIB = 1 << 20 };

static void touch_child(struct shared *shared, int argc, char **argv)
{
	long wanted = atol(argv[1]);

	(void)argc;
	for (; shared->value < wanted; shared->value++) {
		char *page = mmap(NULL, MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
				  -1, 0);

		if (page == MAP_FAILED) {
			shared->error = errno;
			return;
		}
		/* Not zeroes, and not alike: no merging, no shared zero page. */
		for (size_t i = 0; i < MIB; i += 4096)
			page[i] = (char)(shared->value + (long long)(i >> 12) + 1);
	}
}

/* touch MIB: write to that much memory in a child; value is how much it got. */
void do_touch(int argc, char **argv)
{
	in_child(touch_child, argc, argv);
}

static void lock_child(struct shared *shared, int argc, char **argv)
{
	size_t size = strtoul(argv[1], NULL, 0) * MIB;
	void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	(void)argc;
	if (memory == MAP_FAILED || mlock(memory, size) != 0)
		shared->error = errno;
}

/* lock MIB: mlock(2) that much in a child. */
void do_lock(int argc, char **argv)
{
	in_child(lock_child, argc, argv);
}

static void fork_all(struct shared *shared, long wanted)
{
	static pid_t children[FORK_LIMIT];

	while (shared->value < wanted && shared->value < FORK_LIMIT) {
		pid_t child = fork();

		if (child == 0) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			pause();
			_exit(0);
		}
		if (child < 0) {
			shared->error = errno;
			break;
		}
		children[shared->value++] = child;
	}
	for (long long i = 0; i < shared->value; i++)
		kill(children[i], SIGKILL);
	for (long long i = 0; i < shared->value; i++)
		waitpid(children[i], NULL, 0);
}

static void fork_child(struct shared *shared, int argc, char **argv)
{
	if (argc > 2 && setresuid((uid_t)atol(argv[2]), (uid_t)atol(argv[2]),
				  (uid_t)atol(argv[2])) != 0)
		shared->error = errno;
	else
		fork_all(shared, atol(argv[1]));
}

/* fork N [UID]: have N children at once (as UID); value is how many came to be. */
void do_fork(int argc, char **argv)
{
	in_child(fork_child, argc, argv);
}

static void descriptors_child(struct shared *shared, int argc, char **argv)
{
	long wanted = atol(argv[1]);

	(void)argc;
	while (shared->value < wanted && shared->value < DESCRIPTOR_LIMIT) {
		if (dup(2) < 0) {
			shared->error = errno;
			break;
		}
		shared->value++;
	}
}

/* descriptors N: have N more open in a child; value is how many it got. */
void do_descriptors(int argc, char **argv)
{
	in_child(descriptors_child, argc, argv);
}

static void fill_child(struct shared *shared, int argc, char **argv)
{
	static char block[4096];
	long long wanted = atoll(argv[2]);
	int fd = open(argv[1], O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	(void)argc;
	signal(SIGXFSZ, SIG_IGN);
	while (fd >= 0 && shared->value < wanted) {
		ssize_t done = write(fd, block, sizeof(block));

		if (done <= 0)
			break;
		shared->value += done;
	}
	if (fd < 0 || shared->value < wanted)
		shared->error = errno;
}

/* fill PATH BYTES: write a file that long; value is how far it came. */
void do_fill(int argc, char **argv)
{
	in_child(fill_child, argc, argv);
}

static void spin_child(struct shared *shared, int argc, char **argv)
{
	struct timespec used = { 0 };
	long long wanted = atoll(argv[1]);

	(void)argc;
	while (shared->value < wanted) {
		clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
		shared->value = used.tv_sec * 1000LL + used.tv_nsec / 1000000;
	}
}

/* spin MILLISECONDS: use that much processor time in a child. */
void do_spin(int argc, char **argv)
{
	in_child(spin_child, argc, argv);
}
