/* Deeds about the process itself: where its output goes, what it was given on
 * its input, its terminal, its clocks and how it is scheduled. */
#include "probe.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

/* into FILE: append what this and all further actions print to FILE, each line by one
 * write(2), so that several probes can write to it at once. */
void do_into(int argc, char **argv)
{
	static char whole_lines[4 * DATA_LIMIT];
	int fd = open(argv[1], O_WRONLY | O_CREAT | O_APPEND, 0666);

	(void)argc;
	if (fd < 0 || dup2(fd, 1) < 0)
		out.error = errno;
	if (fd > 1)
		close(fd);
	setvbuf(stdout, whole_lines, _IOFBF, sizeof(whole_lines));
}

/* stdin [LABEL]: all of the standard input, as far as there is room. */
void do_stdin(int argc, char **argv)
{
	ssize_t got = 0;

	(void)argc;
	(void)argv;
	while (out.length < DATA_LIMIT &&
	       (got = read(0, out.data + out.length, DATA_LIMIT - out.length)) > 0)
		out.length += (size_t)got;
	if (got < 0)
		out.error = errno;
	out.value = (long long)out.length;
}

static bool join_group(const char *folder)
{
	char path[512];
	int fd;

	snprintf(path, sizeof(path), "%s/cgroup.procs", folder);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	bool joined = fd >= 0 && write(fd, "0", 1) == 1;
	if (fd >= 0)
		close(fd);
	return joined;
}

/* become UID GROUP PATH ARGUMENT...: become a program of that user, in that
 * control group, with no other groups or privileges. */
void do_become(int argc, char **argv)
{
	uid_t uid = (uid_t)atol(argv[1]);

	(void)argc;
	if (join_group(argv[2]) && setgroups(0, NULL) == 0 && setresgid(uid, uid, uid) == 0 &&
	    setresuid(uid, uid, uid) == 0)
		execv(argv[3], argv + 3);
	out.error = errno;
	/* Nobody may take what is printed next for the program's success. */
	fprintf(stderr, "probe: cannot become %s: %s\n", argv[3], strerror(errno));
	_exit(126);
}

/* exit STATUS: end at once; there is no answer. */
void do_exit(int argc, char **argv)
{
	(void)argc;
	_exit(atoi(argv[1]));
}

/* clock NUMBER: value is that clock in milliseconds (clock_gettime(2)). */
void do_clock(int argc, char **argv)
{
	struct timespec now = { 0 };

	(void)argc;
	if (clock_gettime((clockid_t)atoi(argv[1]), &now) != 0)
		out.error = errno;
	out.value = now.tv_sec * 1000LL + now.tv_nsec / 1000000;
}

/* window: "rows columns own": the terminal on the standard input, and whether
 * it controls this session (tcgetsid(3)). */
void do_window(int argc, char **argv)
{
	struct winsize size;

	(void)argc;
	(void)argv;
	if (ioctl(0, TIOCGWINSZ, &size) != 0) {
		out.error = errno;
		return;
	}
	out.length = (size_t)snprintf(out.data, DATA_LIMIT, "%u %u %d", size.ws_row, size.ws_col,
				      tcgetsid(0) == getsid(0));
}

/* struct sched_attr of linux/sched/types.h in its first size, which every
 * kernel takes; libc headers lack it. */
struct attributes {
	uint32_t size;
	uint32_t policy;
	uint64_t flags;
	int32_t nice;
	uint32_t priority;
	uint64_t runtime;
	uint64_t deadline;
	uint64_t period;
};

/* scheduler: "policy flags nice priority runtime deadline period"
 * (sched_getattr(2)). */
void do_scheduler(int argc, char **argv)
{
	struct attributes got = { 0 };

	(void)argc;
	(void)argv;
	if (syscall(SYS_sched_getattr, 0, &got, sizeof(got), 0) != 0) {
		out.error = errno;
		return;
	}
	out.length = (size_t)snprintf(out.data, DATA_LIMIT, "%u %llu %d %u %llu %llu %llu",
				      got.policy, (unsigned long long)got.flags, got.nice,
				      got.priority, (unsigned long long)got.runtime,
				      (unsigned long long)got.deadline,
				      (unsigned long long)got.period);
}

static int receive_descriptor(int from)
{
	char byte[256];
	char control[CMSG_SPACE(sizeof(int))] = { 0 };
	struct iovec part = { .iov_base = byte, .iov_len = sizeof(byte) };
	struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1, .msg_control = control,
				  .msg_controllen = sizeof(control) };
	struct cmsghdr *header;
	int received = -1;

	if (recvmsg(from, &message, MSG_CMSG_CLOEXEC) < 0)
		return -1;
	header = CMSG_FIRSTHDR(&message);
	if (header && header->cmsg_level == SOL_SOCKET && header->cmsg_type == SCM_RIGHTS)
		memcpy(&received, CMSG_DATA(header), sizeof(received));
	return received;
}

/* Whoever holds the other end sees the terminal's output, until nobody is on it. */
static _Noreturn void keep_terminal(int listening, const char *output)
{
	static char block[4096];
	int file = open(output, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	int empty = open("/dev/null", O_RDWR);
	int peer, terminal;
	ssize_t got;

	setsid();
	/* No pipe of the command may stay open here. */
	for (int fd = 0; empty >= 0 && fd < 3; fd++)
		dup2(empty, fd);
	peer = accept(listening, NULL, NULL);
	terminal = peer < 0 ? -1 : receive_descriptor(peer);
	while (terminal >= 0 && (got = read(terminal, block, sizeof(block))) > 0)
		if (write(file, block, (size_t)got) != got)
			_exit(1);
	_exit(terminal < 0);
}

/* terminal SOCKET FILE PATH ARGUMENT...: become a program, while a child waits at SOCKET for
 * the terminal that a runtime sends there (--console-socket) and writes to FILE what it shows. */
void do_terminal(int argc, char **argv)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int listening = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	pid_t child = -1;

	(void)argc;
	snprintf(address.sun_path, sizeof(address.sun_path), "%s", argv[1]);
	unlink(argv[1]);
	if (listening >= 0 &&
	    bind(listening, (struct sockaddr *)&address, sizeof(address)) == 0 &&
	    listen(listening, 1) == 0)
		child = fork();
	if (child == 0)
		keep_terminal(listening, argv[2]);
	if (child > 0)
		execv(argv[3], argv + 3);
	out.error = errno;
}
