/* The processes below the agent: waiting for them, ending them, reaping orphans. */
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "agent.h"

/* How long what was killed may take to go, in milliseconds. */
#define KILL_MS 3000
#define KEPT 1024

static pid_t kept[KEPT];
static size_t kept_count;

int64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

void family_reap(void)
{
	struct signalfd_siginfo info;

	while (read(agent.signals, &info, sizeof(info)) > 0)
		;
	while (waitpid(-1, NULL, WNOHANG) > 0)
		;
}

/* Sleeps until a child changes state or the deadline passes; false when it has passed. */
static bool wait_change(int64_t deadline)
{
	int64_t left = deadline - now_ms();
	struct timespec span = { .tv_sec = left / 1000, .tv_nsec = left % 1000 * 1000000 };
	sigset_t set;

	if (left <= 0)
		return false;
	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	return sigtimedwait(&set, NULL, &span) >= 0 || errno == EINTR;
}

bool family_wait(pid_t pid, int64_t deadline, int *status)
{
	for (;;) {
		pid_t got = waitpid(pid, status, WNOHANG);

		if (got == pid || (got < 0 && errno == ECHILD))
			return true;
		if (!wait_change(deadline)) {
			got = waitpid(pid, status, WNOHANG);
			return got == pid || (got < 0 && errno == ECHILD);
		}
	}
}

static bool childless(void)
{
	siginfo_t info;

	return waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) < 0 && errno == ECHILD;
}

/* The parent of a process, the second field after its name in /proc/pid/stat, proc(5); 0: gone. */
static pid_t parent_of(const char *pid)
{
	char path[64], text[512], *end;
	int parent = 0;

	snprintf(path, sizeof(path), "/proc/%.20s/stat", pid);
	if (read_file(path, text, sizeof(text)) <= 0)
		return 0;
	end = strrchr(text, ')');
	return end && sscanf(end + 1, " %*c %d", &parent) == 1 ? (pid_t)parent : 0;
}

/* For a kernel without CONFIG_PROC_CHILDREN: looks at every process there is. */
static size_t search_children(pid_t *pids, size_t limit)
{
	DIR *dir = opendir("/proc");
	struct dirent *entry;
	size_t count = 0;

	while (dir && count < limit && (entry = readdir(dir)))
		if (isdigit((unsigned char)entry->d_name[0]) && parent_of(entry->d_name) == getpid())
			pids[count++] = (pid_t)atoi(entry->d_name);
	if (dir)
		closedir(dir);
	return count;
}

/* Fills pids with the agent's children; proc(5), /proc/pid/task/tid/children. */
static size_t children(pid_t *pids, size_t limit)
{
	static char text[KEPT * 11];
	size_t count = 0;
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/task/%d/children", getpid());
	if (read_file(path, text, sizeof(text)) < 0)
		return search_children(pids, limit);
	for (char *at = text, *end; count < limit; at = end) {
		long pid = strtol(at, &end, 10);

		if (end == at)
			break;
		if (pid > 1)
			pids[count++] = (pid_t)pid;
	}
	return count;
}

void family_keep(void)
{
	kept_count = childless() ? 0 : children(kept, KEPT);
}

static bool is_kept(pid_t pid)
{
	for (size_t i = 0; i < kept_count; i++)
		if (kept[i] == pid)
			return true;
	return false;
}

static void kill_child(pid_t pid)
{
	pid_t group = getpgid(pid);

	/* The whole group at once: its members cannot fork away from the signal. */
	if (group > 1 && group != getpgid(0) && !is_kept(group))
		kill(-group, SIGKILL);
	kill(pid, SIGKILL);
}

void family_kill(void)
{
	static pid_t pids[KEPT];
	int64_t deadline = now_ms() + KILL_MS;

	if (childless())
		return;
	for (;;) {
		size_t count = children(pids, KEPT), left = 0;

		for (size_t i = 0; i < count; i++) {
			if (is_kept(pids[i]))
				continue;
			kill_child(pids[i]);
			if (waitpid(pids[i], NULL, WNOHANG) != pids[i])
				left++;
		}
		/* What the killed leave behind becomes a child in turn, so look again. */
		if (!left && (!count || children(pids, KEPT) <= kept_count))
			return;
		if (left && !wait_change(deadline)) {
			say("%zu processes do not end", left);
			return;
		}
	}
}

void family_kill_all(void)
{
	kept_count = 0;
	/* Never as an agent beside others: -1 means every process of this user there. */
	if (agent.pid1)
		kill(-1, SIGKILL);
	family_kill();
}
