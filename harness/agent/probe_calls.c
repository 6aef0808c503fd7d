/* The system calls of a program and of all that it starts, and what they got:
 * ptrace(2), which changes no answer and sees also what a filter refuses. */
#include "probe.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

enum { TASKS = 64, SEEN = 1024, NONE = -1 };

/* A task that was stopped before, and the call that it is in. */
static struct task {
	pid_t tid;
	long long number;
} tasks[TASKS];

static struct seen {
	long long number;
	int error;
	unsigned count;
} seen[SEEN];
static size_t seen_count;

static struct task *task_of(pid_t tid, bool *is_new)
{
	struct task *unused = NULL;

	*is_new = false;
	for (size_t i = 0; i < TASKS; i++) {
		if (tasks[i].tid == tid)
			return &tasks[i];
		if (!tasks[i].tid && !unused)
			unused = &tasks[i];
	}
	*is_new = true;
	if (unused)
		*unused = (struct task){ .tid = tid, .number = NONE };
	return unused;
}

static void forget(pid_t tid)
{
	for (size_t i = 0; i < TASKS; i++)
		if (tasks[i].tid == tid)
			tasks[i].tid = 0;
}

static void count(long long number, int error)
{
	for (size_t i = 0; i < seen_count; i++)
		if (seen[i].number == number && seen[i].error == error) {
			seen[i].count++;
			return;
		}
	if (seen_count == SEEN)
		out.error = EOVERFLOW;
	else
		seen[seen_count++] = (struct seen){ number, error, 1 };
}

static void at_call(struct task *task)
{
	struct __ptrace_syscall_info info = { 0 };

	if (!task || ptrace(PTRACE_GET_SYSCALL_INFO, task->tid, sizeof(info), &info) < 0) {
		out.error = task ? errno : EOVERFLOW;
		return;
	}
	if (info.op == PTRACE_SYSCALL_INFO_ENTRY) {
		task->number = (long long)info.entry.nr;
	} else if (info.op == PTRACE_SYSCALL_INFO_EXIT && task->number != NONE) {
		count(task->number, info.exit.is_error ? (int)-info.exit.rval : 0);
		task->number = NONE;
	}
}

/* Which signal the stopped task goes on with. A new task begins with a SIGSTOP that nobody sent. */
static int signal_of(int status, struct task *task, bool is_new)
{
	int number = WSTOPSIG(status);

	if (number == (SIGTRAP | 0x80)) {
		at_call(task);
		return 0;
	}
	if (status >> 16 || (is_new && number == SIGSTOP))
		return 0;
	return number;
}

/* Until `first` has ended: its wait(2) status, or -1. */
static int follow(pid_t first)
{
	int status;
	pid_t tid;

	while ((tid = waitpid(-1, &status, __WALL)) > 0 || errno == EINTR) {
		bool is_new;
		struct task *task;

		if (tid <= 0)
			continue;
		if (!WIFSTOPPED(status)) {
			forget(tid);
			if (tid == first)
				return status;
			continue;
		}
		task = task_of(tid, &is_new);
		ptrace(PTRACE_SYSCALL, tid, 0, (long)signal_of(status, task, is_new));
	}
	return -1;
}

static void tell(void)
{
	for (size_t i = 0; i < seen_count && out.length < DATA_LIMIT; i++) {
		int length = snprintf(out.data + out.length, DATA_LIMIT - out.length,
				      "%lld %d %u\n", seen[i].number, seen[i].error, seen[i].count);

		if (length < 0 || (size_t)length >= DATA_LIMIT - out.length) {
			out.error = EOVERFLOW;
			return;
		}
		out.length += (size_t)length;
	}
}

/* calls PROGRAM ARGUMENT...: run it to its end; value is its exit status, and data
 * has a line "number errno count" for each system call that came to its end and
 * each way in which it ended. The errno tells when not all of them are there. */
void do_calls(int argc, char **argv)
{
	long options = PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK |
		       PTRACE_O_TRACECLONE | PTRACE_O_TRACEEXEC | PTRACE_O_EXITKILL;
	pid_t child = fork();
	int status;

	(void)argc;
	if (child == 0) {
		if (ptrace(PTRACE_TRACEME, 0, 0, 0) == 0 && raise(SIGSTOP) == 0)
			execv(argv[1], argv + 1);
		_exit(127);
	}
	if (child < 0 || waitpid(child, &status, 0) != child || !WIFSTOPPED(status) ||
	    ptrace(PTRACE_SETOPTIONS, child, 0, options) < 0 ||
	    ptrace(PTRACE_SYSCALL, child, 0, 0) < 0) {
		out.error = errno;
		return;
	}
	seen_count = 0;
	memset(tasks, 0, sizeof(tasks));
	tasks[0] = (struct task){ .tid = child, .number = NONE };
	status = follow(child);
	out.value = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
	out.signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
	tell();
}
