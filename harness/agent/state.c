/*
 * What a program leaves in its own process, told by that process after its
 * last call: descriptors, credentials, signals, limits, folder, cgroup and
 * mounts, a line for each, "NAME: VALUE". Numbers that a boot or a run decides
 * (inodes, pids, mount ids) are left out. Only bare system calls: the program
 * may have broken all else. What a call is refused stands as -errno.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent.h"

/* Descriptors that are looked for, and those that are told of. */
#define DESCRIPTORS 1024
#define TOLD 64
/* Where PID 1 has the scratch folders of programs, scratch.c. */
#define SCRATCH "/scratch/tmpfs"

/* Whatever is read goes here: each page that is touched for the first time costs a fault. */
static _Alignas(8) char room[65536];

/* struct stat of the kernel is that of the C library on x86_64. */
static int64_t ask(long number, uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e)
{
	const uint64_t arguments[WIRE_ARGUMENTS] = { a, b, c, d, e, 0 };

	return call_make(number, WIRE_NATIVE, arguments, CHILD_ENDS);
}

#define ADDRESS(place) ((uint64_t)(uintptr_t)(place))
#define ASK(number, a, b, c) ask(number, (uint64_t)(a), (uint64_t)(b), (uint64_t)(c), 0, 0)

static void name(struct report *report, const char *name)
{
	report_text(report, name);
	report_text(report, ": ");
}

static void line(struct report *report, const char *title, int64_t value)
{
	name(report, title);
	report_number(report, value);
	report_char(report, '\n');
}

static bool digit(char c)
{
	return c >= '0' && c <= '9';
}

/* The same for every agent: where it has its scratch folder is its own affair. */
static size_t tell_scratch(struct report *report, const char *text, size_t size)
{
	size_t i = 0;

	while (agent.scratch && i < size && agent.scratch[i] == text[i])
		i++;
	if (!agent.scratch || agent.scratch[i])
		return 0;
	report_text(report, SCRATCH);
	return i;
}

/* A path, or the target of a link in proc(5), without inode numbers and pids. */
static void tell_target(struct report *report, const char *text, size_t size)
{
	for (size_t i = tell_scratch(report, text, size); i < size; i++) {
		bool number = i && digit(text[i]) &&
			      (text[i - 1] == '[' || (i == 6 && !memcmp(text, "/proc/", 6)));

		if (!number) {
			report_bytes(report, text + i, 1);
			continue;
		}
		report_char(report, '#');
		while (i + 1 < size && digit(text[i + 1]))
			i++;
	}
}

static void tell_link(struct report *report, const char *path)
{
	int64_t size = ASK(SYS_readlink, ADDRESS(path), ADDRESS(room), sizeof(room));

	if (size < 0)
		report_number(report, size);
	else
		tell_target(report, room, (size_t)size);
}

static void tell_socket(struct report *report, int fd)
{
	static const int options[] = { SO_DOMAIN, SO_TYPE, SO_PROTOCOL, SO_ACCEPTCONN };

	report_text(report, " socket");
	for (size_t i = 0; i < sizeof(options) / sizeof(options[0]); i++) {
		int value = 0, size = sizeof(value);
		int64_t error = ask(SYS_getsockopt, (uint64_t)fd, SOL_SOCKET, (uint64_t)options[i],
				    ADDRESS(&value), ADDRESS(&size));

		report_char(report, i ? ',' : '=');
		report_number(report, error < 0 ? error : value);
	}
}

static void tell_descriptor(struct report *report, int fd)
{
	char path[32] = "/proc/self/fd/", *end = path + 14;
	struct stat status;
	int waiting = 0;

	report_text(report, "fd ");
	report_number(report, fd);
	report_text(report, ": ");
	for (int scale = 1000; scale; scale /= 10)
		if (fd >= scale || scale == 1)
			*end++ = (char)('0' + fd / scale % 10);
	*end = '\0';
	tell_link(report, path);
	report_text(report, " cloexec=");
	report_number(report, ASK(SYS_fcntl, fd, F_GETFD, 0));
	report_text(report, " flags=");
	report_bits(report, (uint64_t)ASK(SYS_fcntl, fd, F_GETFL, 0), 8);
	if (ASK(SYS_fstat, fd, ADDRESS(&status), 0) < 0)
		memset(&status, 0, sizeof(status));
	report_text(report, " mode=");
	report_bits(report, status.st_mode, 8);
	if (S_ISREG(status.st_mode)) {
		report_text(report, " size=");
		report_number(report, status.st_size);
		report_text(report, " at=");
		report_number(report, ASK(SYS_lseek, fd, 0, SEEK_CUR));
		report_text(report, " seals=");
		report_number(report, ASK(SYS_fcntl, fd, F_GET_SEALS, 0));
	} else if (S_ISSOCK(status.st_mode)) {
		tell_socket(report, fd);
	} else if (S_ISFIFO(status.st_mode)) {
		report_text(report, " room=");
		report_number(report, ASK(SYS_fcntl, fd, F_GETPIPE_SZ, 0));
		report_text(report, " waiting=");
		ASK(SYS_ioctl, fd, FIONREAD, ADDRESS(&waiting));
		report_number(report, waiting);
	}
	report_char(report, '\n');
}

/* poll(2) tells in one call which numbers are open; it takes no more than the limit allows. */
static void tell_descriptors(struct report *report)
{
	static bool open[DESCRIPTORS];
	struct pollfd *all = (struct pollfd *)room;
	struct rlimit limit = { DESCRIPTORS, DESCRIPTORS };
	size_t count = DESCRIPTORS, told = 0;

	ask(SYS_prlimit64, 0, RLIMIT_NOFILE, 0, ADDRESS(&limit), 0);
	if (limit.rlim_cur < count)
		count = limit.rlim_cur;
	for (size_t fd = 0; fd < DESCRIPTORS; fd++)
		all[fd] = (struct pollfd){ .fd = (int)fd };
	if (ASK(SYS_poll, ADDRESS(all), count, 0) < 0)
		count = 0;
	for (size_t fd = 0; fd < DESCRIPTORS; fd++) {
		/* Those beyond a limit that was lowered stay open. */
		open[fd] = fd < count ? !(all[fd].revents & POLLNVAL) :
					ASK(SYS_fcntl, fd, F_GETFD, 0) >= 0;
	}
	for (size_t fd = 0; fd < DESCRIPTORS; fd++)
		if (open[fd] && told++ < TOLD)
			tell_descriptor(report, (int)fd);
	if (told > TOLD)
		line(report, "more descriptors", (int64_t)(told - TOLD));
}

/* A whole file into the room, but for one byte; its size, or -errno. */
static int64_t slurp(const char *path)
{
	char *into = room;
	int64_t fd = ASK(SYS_open, ADDRESS(path), O_RDONLY | O_CLOEXEC, 0), got, size = 0;

	if (fd < 0)
		return fd;
	while ((got = ASK(SYS_read, fd, ADDRESS(into + size),
			   sizeof(room) - 1 - (size_t)size)) > 0)
		size += got;
	ASK(SYS_close, fd, 0, 0);
	return got < 0 ? got : size;
}

static bool wanted(const char *text)
{
	static const char *const names[] = {
		"Umask:", "Uid:", "Gid:", "Groups:", "SigPnd:", "ShdPnd:", "SigBlk:", "SigIgn:",
		"SigCgt:", "CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:", "NoNewPrivs:",
		"Seccomp:", "THP_enabled:", "CoreDumping:",
	};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		size_t k = 0;

		while (names[i][k] && names[i][k] == text[k])
			k++;
		if (!names[i][k])
			return true;
	}
	return false;
}

/* proc(5), /proc/pid/status: credentials, capabilities and signals at the price of one read. */
static void tell_status(struct report *report)
{
	int64_t size = slurp("/proc/self/status");
	char *at = room, *end = room + (size > 0 ? size : 0);

	if (size < 0)
		line(report, "status", size);
	*end = '\0';
	while (at < end) {
		bool told = wanted(at);

		for (; at < end && *at != '\n'; at++)
			if (told)
				report_char(report, *at == '\t' ? ' ' : *at);
		at++;
		if (told)
			report_char(report, '\n');
	}
}

static void tell_process(struct report *report)
{
	static const struct { const char *name; int option; } values[] = {
		{ "dumpable", PR_GET_DUMPABLE }, { "keepcaps", PR_GET_KEEPCAPS },
		{ "securebits", PR_GET_SECUREBITS }, { "timerslack", PR_GET_TIMERSLACK },
		{ "timing", PR_GET_TIMING }, { "io flusher", PR_GET_IO_FLUSHER },
	};
	static const struct { const char *name; int option; } places[] = {
		{ "subreaper", PR_GET_CHILD_SUBREAPER }, { "death signal", PR_GET_PDEATHSIG },
		{ "tsc", PR_GET_TSC },
	};
	struct itimerval timer = { 0 };
	char comm[17] = "";

	for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++)
		line(report, values[i].name, ASK(SYS_prctl, values[i].option, 0, 0));
	for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
		int value = 0;
		int64_t error = ASK(SYS_prctl, places[i].option, ADDRESS(&value), 0);

		line(report, places[i].name, error < 0 ? error : value);
	}
	name(report, "name");
	ASK(SYS_prctl, PR_GET_NAME, ADDRESS(comm), 0);
	report_bytes(report, comm, strnlen(comm, 16));
	report_char(report, '\n');
	line(report, "nice", ASK(SYS_getpriority, PRIO_PROCESS, 0, 0));
	line(report, "policy", ASK(SYS_sched_getscheduler, 0, 0, 0));
	line(report, "io priority", ASK(SYS_ioprio_get, 1, 0, 0));
	line(report, "personality", ASK(SYS_personality, 0xffffffff, 0, 0));
	line(report, "leads its session", ASK(SYS_getsid, 0, 0, 0) == ASK(SYS_getpid, 0, 0, 0));
	line(report, "leads its group", ASK(SYS_getpgid, 0, 0, 0) == ASK(SYS_getpid, 0, 0, 0));
	ASK(SYS_getitimer, ITIMER_REAL, ADDRESS(&timer), 0);
	line(report, "timer", timer.it_value.tv_sec || timer.it_value.tv_usec);
	line(report, "children",
	     ask(SYS_waitid, P_ALL, 0, 0, WEXITED | WNOHANG | WNOWAIT, 0));
}

static void tell_limits(struct report *report)
{
	for (int i = 0; i < RLIM_NLIMITS; i++) {
		struct rlimit limit = { 0, 0 };
		int64_t error = ask(SYS_prlimit64, 0, (uint64_t)i, 0, ADDRESS(&limit), 0);

		report_text(report, "limit ");
		report_number(report, i);
		report_text(report, ": ");
		report_number(report, error < 0 ? error : (int64_t)limit.rlim_cur);
		report_char(report, ' ');
		report_number(report, (int64_t)limit.rlim_max);
		report_char(report, '\n');
	}
}

static void tell_folder(struct report *report)
{
	int64_t size = ASK(SYS_getcwd, ADDRESS(room), sizeof(room), 0);

	name(report, "folder");
	if (size < 0)
		report_number(report, size);
	else
		tell_target(report, room, size ? (size_t)size - 1 : 0);
	report_text(report, "\nroot: ");
	tell_link(report, "/proc/self/root");
	report_char(report, '\n');
}

static void tell_cgroup(struct report *report)
{
	int64_t size = slurp("/proc/self/cgroup");

	name(report, "cgroup");
	if (size < 0)
		report_number(report, size);
	else
		report_bytes(report, room, (size_t)size);
	report_char(report, '\n');
}

/* proc(5), /proc/pid/mountinfo, from the fourth field on, and no number of a peer group. */
static void tell_mounts(struct report *report)
{
	const char *text = room;
	int64_t size = slurp("/proc/self/mountinfo");
	int field = 0;

	if (size < 0)
		line(report, "mounts", size);
	for (int64_t i = 0; i < size; i++) {
		if (field == 3 && text[i] != '\n' && text[i - 1] == ' ')
			report_text(report, "mount: ");
		if (text[i] == ' ')
			field++;
		if (field >= 6 && digit(text[i]) && text[i - 1] == ':') {
			while (i + 1 < size && digit(text[i + 1]))
				i++;
			continue;
		}
		if (field > 3 || (field == 3 && text[i] != ' ') || text[i] == '\n')
			report_char(report, text[i]);
		if (text[i] == '\n')
			field = 0;
	}
}

void state_tell(struct report *report, uint32_t wanted)
{
	if (wanted & WIRE_REPORT_STATE) {
		tell_descriptors(report);
		tell_status(report);
		tell_process(report);
		tell_limits(report);
		tell_folder(report);
		tell_cgroup(report);
	}
	if (wanted & WIRE_REPORT_MOUNTS)
		tell_mounts(report);
}
