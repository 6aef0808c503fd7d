/*
 * A child of the agent, set up the same way on every kernel before it does
 * what it is for: its own session, scratch folder, descriptors, limits,
 * namespaces, user and filter.
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/filter.h>
#include <linux/futex.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent.h"

#ifndef CLONE_NEWTIME
#define CLONE_NEWTIME 0x00000080
#endif
#define NAMESPACES ((uint64_t)CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | \
		    CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWTIME)
#define GATE_CLOSED 1
#define GATE_OPEN 0

struct board *board;

/* The arguments of clone3(2), first published version. */
struct clone_args_v0 {
	uint64_t flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls;
};

void board_clear(void)
{
	memset(board, 0, sizeof(*board));
}

static int refuse(const char *step, int error)
{
	board->refused = error;
	snprintf(board->step, sizeof(board->step), "%s", step);
	return -error;
}

static _Noreturn void refuse_child(const char *step)
{
	refuse(step, errno);
	_exit(0);
}

static int close_from(unsigned int first, unsigned int last)
{
	return (int)syscall(SYS_close_range, first, last, 0U);
}

int plain_descriptors(bool keep)
{
	unsigned int kept = keep ? WIRE_RECORD : 1023;

	/* close_range(2) is in all kernels from 5.9 on. */
	if (close_from(0, kept - 1) < 0 || close_from(kept + !!keep, ~0U) < 0)
		for (unsigned int fd = 0; fd < 1024; fd++)
			if (!keep || fd != kept)
				close((int)fd);
	if (open("/dev/null", O_RDWR) != 0 || dup(0) != 1 || dup(0) != 2)
		return -EBADF;
	return 0;
}

/* clone(2) reads the low byte of its flags as the exit signal, where CLONE_NEWTIME lies. */
static pid_t fork_into(uint64_t namespaces)
{
	struct clone_args_v0 arguments = { .flags = namespaces, .exit_signal = SIGCHLD };

	if (namespaces & CLONE_NEWTIME)
		return (pid_t)syscall(SYS_clone3, &arguments, sizeof(arguments));
	return (pid_t)syscall(SYS_clone, namespaces | SIGCHLD, 0, 0, 0, 0);
}

/*
 * A user namespace belongs to the effective user that makes it, and an
 * ordinary user may be refused one; user_namespaces(7).
 */
static pid_t fork_for(uint64_t namespaces, uid_t uid)
{
	uid_t own = geteuid();
	int error;
	pid_t pid;

	if (!(namespaces & CLONE_NEWUSER) || uid == own)
		return fork_into(namespaces);
	if (seteuid(uid) < 0)
		return -1;
	pid = fork_into(namespaces);
	if (pid == 0)
		return 0;
	error = errno;
	if (seteuid(own) < 0)
		die("seteuid");
	/* The change of identity took /proc/self from the agent, for which others may look. */
	prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
	errno = error;
	return pid;
}

static int write_map(pid_t pid, const char *file, const char *text)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/%s", pid, file);
	return write_file(path, text);
}

/* user_namespaces(7): one line maps one identity; without CAP_SETGID setgroups goes first. */
static int write_maps(const struct wire_sandbox *box, pid_t pid, uid_t uid, gid_t gid)
{
	bool root = box->flags & WIRE_MAP_ROOT;
	char text[64];
	int error;

	if (geteuid() != 0) {
		error = write_map(pid, "setgroups", "deny");
		if (error)
			return refuse("setgroups", -error);
	}
	snprintf(text, sizeof(text), "%u %u 1", root ? 0 : uid, uid);
	error = write_map(pid, "uid_map", text);
	if (error)
		return refuse("uid_map", -error);
	snprintf(text, sizeof(text), "%u %u 1", root ? 0 : gid, gid);
	error = write_map(pid, "gid_map", text);
	return error ? refuse("gid_map", -error) : 0;
}

static void open_gate(void)
{
	__atomic_store_n(&board->gate, GATE_OPEN, __ATOMIC_RELEASE);
	syscall(SYS_futex, &board->gate, FUTEX_WAKE, 1, NULL, NULL, 0);
}

static void pass_gate(void)
{
	while (__atomic_load_n(&board->gate, __ATOMIC_ACQUIRE) == GATE_CLOSED)
		syscall(SYS_futex, &board->gate, FUTEX_WAIT, GATE_CLOSED, NULL, NULL, 0);
}

/* proc(5) and sysfs(5) show the namespaces of whoever mounts them. */
static void mount_own(uint32_t flags)
{
	static const unsigned long plain = MS_NOSUID | MS_NODEV | MS_NOEXEC;

	if (flags & WIRE_OWN_PROC && mount("proc", "/proc", "proc", plain, NULL) < 0)
		refuse_child("own proc");
	if (flags & WIRE_OWN_SYS && mount("sysfs", "/sys", "sysfs", plain, NULL) < 0)
		refuse_child("own sysfs");
}

static void set_limits(void)
{
	static const struct rlimit core = { 0, 0 }, files = { 1024, 4096 };

	if (setrlimit(RLIMIT_CORE, &core) < 0)
		refuse_child("rlimit core");
	if (setrlimit(RLIMIT_NOFILE, &files) < 0 && errno != EPERM)
		refuse_child("rlimit nofile");
}

static void set_identity(const struct wire_sandbox *box, uid_t uid, gid_t gid)
{
	bool mapped = box->namespaces & CLONE_NEWUSER && box->flags & WIRE_MAP_ROOT;

	if (mapped)
		uid = gid = 0;
	else if (uid == geteuid() && gid == getegid())
		return;
	/* Refused where setgroups is denied, and then the groups are not ours to drop. */
	if (setgroups(0, NULL) < 0 && errno != EPERM)
		refuse_child("setgroups");
	if (setresgid(gid, gid, gid) < 0)
		refuse_child("setresgid");
	if (setresuid(uid, uid, uid) < 0)
		refuse_child("setresuid");
	/* The change of identity made /proc/self root's, execve(2) would have undone it. */
	prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
}

static void set_filter(const struct wire_sandbox *box, const void *filter)
{
	struct sock_fprog program = {
		.len = (unsigned short)(box->filter / sizeof(struct sock_filter)),
		.filter = (struct sock_filter *)(uintptr_t)filter,
	};

	if (box->flags & WIRE_NO_NEW_PRIVS && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		refuse_child("no_new_privs");
	if (box->filter && syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) < 0)
		refuse_child("seccomp");
}

static void set_up(const struct wire_sandbox *box, const void *filter, const char *folder,
		   uid_t uid, gid_t gid)
{
	sigset_t none;

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	/* The only handler the agent ever sets; execve(2) would drop it, a program does not call it. */
	signal(SIGALRM, SIG_DFL);
	setsid();
	if (box->namespaces & CLONE_NEWUSER)
		pass_gate();
	if (box->namespaces & CLONE_NEWNS && mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		refuse_child("private mounts");
	mount_own(box->flags);
	if (chdir(folder) < 0)
		refuse_child("scratch folder");
	umask(022);
	if (plain_descriptors(board->keep) < 0)
		refuse_child("descriptors");
	set_limits();
	set_identity(box, uid, gid);
	if (!agent.pid1)
		prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
	set_filter(box, filter);
}

pid_t sandbox_fork(const struct wire_sandbox *box, const void *filter)
{
	/* An agent without privileges has one identity; 0 stands for it. */
	uid_t uid = box->uid ? box->uid : geteuid();
	gid_t gid = box->gid ? box->gid : getegid();
	bool gated = box->namespaces & CLONE_NEWUSER;
	const char *folder;
	int error;
	pid_t pid;

	if (box->namespaces & ~NAMESPACES || box->filter % sizeof(struct sock_filter))
		return refuse("request", EINVAL);
	/* Elsewhere they would cover those of the agent. */
	if (box->flags & (WIRE_OWN_PROC | WIRE_OWN_SYS) && !(box->namespaces & CLONE_NEWNS))
		return refuse("own proc", EINVAL);
	error = scratch_make(box->scratch, uid, gid, &folder);
	if (error)
		return refuse("scratch", -error);
	board->gate = gated ? GATE_CLOSED : GATE_OPEN;
	pid = fork_for(box->namespaces, uid);
	if (pid < 0)
		return refuse("clone", errno);
	if (pid == 0) {
		set_up(box, filter, folder, uid, gid);
		return 0;
	}
	if (gated) {
		error = write_maps(box, pid, uid, gid);
		if (error)
			kill(pid, SIGKILL);
		open_gate();
	}
	return pid;
}

void sandbox_end(const struct wire_sandbox *box, pid_t pid, struct wire_ran *ran)
{
	int status = 0;

	if (pid > 0) {
		if (!family_wait(pid, now_ms() + box->timeout, &status)) {
			ran->end = WIRE_TIMED_OUT;
			kill(-pid, SIGKILL);
			kill(pid, SIGKILL);
			family_wait(pid, now_ms() + 3000, &status);
		} else if (WIFSIGNALED(status)) {
			ran->end = WIRE_SIGNALLED;
			ran->code = WTERMSIG(status);
		} else {
			ran->end = WIRE_EXITED;
			ran->code = WEXITSTATUS(status);
		}
		/* The session's group at once, then whoever left it. */
		kill(-pid, SIGKILL);
		family_kill();
	}
	if (board->refused) {
		ran->end = WIRE_REFUSED;
		ran->code = board->refused;
		memcpy(ran->step, board->step, sizeof(ran->step));
		ran->step[sizeof(ran->step) - 1] = '\0';
	}
}
