/* Deeds: one thing tried, answered in one line with value, errno, signal and
 * data. What a limit or a restriction does is shown by these, not by the value
 * somebody stored. */
#include "probe.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

struct outcome out;

static void fail(void)
{
	out.error = errno;
}

void in_child(void (*work)(struct shared *shared, int argc, char **argv), int argc, char **argv)
{
	struct shared *shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE,
				     MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	int status = 0;

	if (shared == MAP_FAILED) {
		fail();
		return;
	}
	pid_t child = fork();
	if (child == 0) {
		work(shared, argc, argv);
		_exit(0);
	}
	if (child < 0) {
		fail();
	} else {
		while (waitpid(child, &status, 0) < 0 && errno == EINTR)
			;
		out.value = shared->value;
		out.error = shared->error;
		out.signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
	}
	munmap(shared, sizeof(*shared));
}

static void do_read(int argc, char **argv)
{
	size_t limit = argc > 2 ? strtoul(argv[2], NULL, 0) : 4096;
	long length = read_file(argv[1], out.data, limit < DATA_LIMIT ? limit : DATA_LIMIT);

	if (length < 0)
		out.error = (int)-length;
	else
		out.value = (long long)(out.length = (size_t)length);
}

static int flags_of(const char *mode)
{
	int flags = O_CLOEXEC | O_NONBLOCK | O_NOCTTY;

	flags |= strchr(mode, '+') ? O_RDWR : strchr(mode, 'w') ? O_WRONLY : O_RDONLY;
	if (strchr(mode, 'c'))
		flags |= O_CREAT;
	if (strchr(mode, 'x'))
		flags |= O_EXCL;
	if (strchr(mode, 'd'))
		flags |= O_DIRECTORY;
	return flags;
}

static void do_open(int argc, char **argv)
{
	int fd = open(argv[1], flags_of(argc > 2 ? argv[2] : "r"), 0644);

	if (fd < 0)
		fail();
	else
		close(fd);
}

static void do_write(int argc, char **argv)
{
	int fd = open(argv[1], flags_of(argc > 3 ? argv[3] : "w"), 0644);

	if (fd < 0) {
		fail();
		return;
	}
	out.value = write(fd, argv[2], strlen(argv[2]));
	if (out.value < 0)
		fail();
	close(fd);
}

/* Names joined by "/", the one byte that no name has. */
static void do_list(int argc, char **argv)
{
	struct dirent **entries = NULL;
	int found = scandir(argv[1], &entries, NULL, alphasort);

	(void)argc;
	if (found < 0)
		fail();
	for (int i = 0; i < found; i++) {
		const char *name = entries[i]->d_name;
		size_t length = strlen(name);

		if (strcmp(name, ".") != 0 && strcmp(name, "..") != 0) {
			out.value++;
			if (out.length + length + 1 < DATA_LIMIT) {
				if (out.length)
					out.data[out.length++] = '/';
				memcpy(out.data + out.length, name, length);
				out.length += length;
			}
		}
		free(entries[i]);
	}
	free(entries);
}

/* "mode uid gid major minor size", the mode with its type bits, in octal. */
static void do_stat(int argc, char **argv)
{
	struct stat status;

	(void)argc;
	if (lstat(argv[1], &status) != 0) {
		fail();
		return;
	}
	out.length = (size_t)snprintf(out.data, DATA_LIMIT, "%o %u %u %u %u %lld", status.st_mode,
				      status.st_uid, status.st_gid, major(status.st_rdev),
				      minor(status.st_rdev), (long long)status.st_size);
}

/* copy FROM TO MODE: with the set-uid bit when MODE has it. */
static void do_copy(int argc, char **argv)
{
	int from = open(argv[1], O_RDONLY | O_CLOEXEC);
	int to = open(argv[2], O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	ssize_t got = 0;

	(void)argc;
	if (from < 0 || to < 0) {
		fail();
	} else {
		while ((got = read(from, out.data, DATA_LIMIT)) > 0 &&
		       write(to, out.data, (size_t)got) == got)
			out.value += got;
		if (got != 0 || fchmod(to, (mode_t)strtoul(argv[3], NULL, 8)) != 0)
			fail();
	}
	if (from >= 0)
		close(from);
	if (to >= 0)
		close(to);
}

/* Arguments of a system call: "=text" is a string, all else a number. */
long long numbered_call(int argc, char **argv)
{
	long arguments[6] = { 0 };

	for (int i = 0; i < 6 && i + 2 < argc; i++) {
		const char *word = argv[i + 2];

		arguments[i] = word[0] == '=' ? (long)(intptr_t)(word + 1) :
						(long)strtoull(word, NULL, 0);
	}
	return syscall(strtol(argv[1], NULL, 0), arguments[0], arguments[1], arguments[2],
		       arguments[3], arguments[4], arguments[5]);
}

/* call NUMBER ARGUMENT...: in the probe itself, so that it lasts. */
static void do_call(int argc, char **argv)
{
	out.value = numbered_call(argc, argv);
	if (out.value < 0)
		fail();
}

static void try_child(struct shared *shared, int argc, char **argv)
{
	shared->value = numbered_call(argc, argv);
	if (shared->value < 0)
		shared->error = errno;
}

/* try NUMBER ARGUMENT...: in a child, so that it leaves nothing behind and a
 * signal can be told. */
static void do_try(int argc, char **argv)
{
	in_child(try_child, argc, argv);
}

static void exec_child(struct shared *shared, int argc, char **argv)
{
	uid_t uid = (uid_t)atol(argv[1]);

	(void)argc;
	if (uid != geteuid() && (setgroups(0, NULL) != 0 || setresgid(uid, uid, uid) != 0 ||
				 setresuid(uid, uid, uid) != 0)) {
		shared->error = errno;
		return;
	}
	execv(argv[2], argv + 2);
	shared->error = errno;
}

/* exec UID PATH ARGUMENT...: run a program as UID; it shares our output. */
static void do_exec(int argc, char **argv)
{
	in_child(exec_child, argc, argv);
}

/* identity: value is the effective user. */
static void do_identity(int argc, char **argv)
{
	(void)argc;
	(void)argv;
	out.value = geteuid();
}

/* await PID: until that process has ended (pidfd_open(2), Linux 5.3). */
static void do_await(int argc, char **argv)
{
	struct pollfd waiting = { .events = POLLIN };

	(void)argc;
	waiting.fd = (int)syscall(SYS_pidfd_open, (pid_t)atol(argv[1]), 0);
	/* Gone already is what was waited for. */
	if (waiting.fd < 0 && errno == ESRCH)
		return;
	if (waiting.fd < 0 || poll(&waiting, 1, -1) < 0)
		fail();
}

/* signal FIFO: wait for any signal; value is its number. Blocked signals reach
 * even the first process of a pid namespace, which has no default actions.
 * Opening the fifo lasts until someone reads it, who then knows that we wait. */
static void do_signal(int argc, char **argv)
{
	sigset_t all;
	int ready;

	(void)argc;
	sigfillset(&all);
	sigprocmask(SIG_BLOCK, &all, NULL);
	ready = open(argv[1], O_WRONLY | O_CLOEXEC);
	if (ready >= 0) {
		close(ready);
		out.value = sigwaitinfo(&all, NULL);
	}
	if (ready < 0 || out.value < 0)
		fail();
}

/* detach FILE PATH ARGUMENT...: become a program whose input is empty and whose
 * output goes to FILE, so that what it leaves behind holds no pipe of ours. */
static void do_detach(int argc, char **argv)
{
	int empty = open("/dev/null", O_RDONLY);
	int file = open(argv[1], O_WRONLY | O_CREAT | O_TRUNC, 0600);

	(void)argc;
	if (empty >= 0 && file >= 0 && dup2(empty, 0) == 0 && dup2(file, 1) == 1 &&
	    dup2(file, 2) == 2) {
		close(empty);
		close(file);
		execv(argv[2], argv + 2);
	}
	fail();
}

/* probe_calls.c: the system calls of a program. */
void do_calls(int argc, char **argv);

static const struct {
	const char *name;
	int arguments; /* at least, with the name */
	void (*act)(int argc, char **argv);
} deeds[] = {
	{ "await", 2, do_await },
	{ "become", 4, do_become },
	{ "bundle", 3, do_bundle },
	{ "call", 2, do_call },
	{ "calls", 2, do_calls },
	{ "clock", 2, do_clock },
	{ "compat", 2, do_compat },
	{ "copy", 4, do_copy },
	{ "descriptors", 2, do_descriptors },
	{ "detach", 3, do_detach },
	{ "discard", 2, do_discard },
	{ "exec", 3, do_exec },
	{ "exit", 2, do_exit },
	{ "fill", 3, do_fill },
	{ "fork", 2, do_fork },
	{ "hold", 2, do_hold },
	{ "huge", 2, do_huge },
	{ "identity", 1, do_identity },
	{ "idmap", 2, do_idmap },
	{ "interrupt", 2, do_interrupt },
	{ "into", 2, do_into },
	{ "list", 2, do_list },
	{ "listen", 3, do_listen },
	{ "lock", 2, do_lock },
	{ "open", 2, do_open },
	{ "pace", 2, do_pace },
	{ "pull", 3, do_pull },
	{ "read", 2, do_read },
	{ "scheduler", 1, do_scheduler },
	{ "signal", 2, do_signal },
	{ "spin", 2, do_spin },
	{ "stat", 2, do_stat },
	{ "stdin", 1, do_stdin },
	{ "terminal", 4, do_terminal },
	{ "thread", 2, do_thread },
	{ "touch", 2, do_touch },
	{ "trace", 2, do_trace },
	{ "trap", 2, do_trap },
	{ "try", 2, do_try },
	{ "window", 1, do_window },
	{ "write", 3, do_write },
};

bool deed(int argc, char **argv)
{
	for (size_t i = 0; i < sizeof(deeds) / sizeof(*deeds); i++) {
		if (strcmp(deeds[i].name, argv[0]) != 0 || argc < deeds[i].arguments)
			continue;
		out.value = 0;
		out.error = 0;
		out.signal = 0;
		out.length = 0;
		deeds[i].act(argc, argv);
		json_line_begin();
		json_text("action", argv[0]);
		json_open("arguments", '[');
		for (int word = 1; word < argc; word++)
			json_text(NULL, argv[word]);
		json_close(']');
		json_number("value", out.value);
		json_number("errno", out.error);
		json_number("signal", out.signal);
		json_bytes("data", out.data, out.length);
		json_line_end();
		return true;
	}
	return false;
}
