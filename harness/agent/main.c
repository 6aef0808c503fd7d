/*
 * The agent: does what the host asks, on the kernel it runs on.
 *
 * As PID 1 it first makes the machine usable (init.c). Else it is started as
 *     agent --channel FD --scratch FOLDER --tasks COUNT
 * by an unprivileged user (COUNT bounds the user's processes), changes nothing outside its folder and leaves no
 * process behind. A program that executes itself anew goes on as
 *     agent --resume ROLE
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "agent.h"

struct agent agent = { .channel = -1, .signals = -1, .patience = 5000 };

/* So that a command that forks without end fails before the machine does. */
static void bound_tasks(unsigned long tasks)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NPROC, &limit) < 0 || limit.rlim_cur <= tasks)
		return;
	limit.rlim_cur = tasks;
	setrlimit(RLIMIT_NPROC, &limit);
}

static void beside_others(int argc, char **argv)
{
	unsigned long tasks = 0;

	for (int i = 1; i + 1 < argc; i += 2) {
		if (!strcmp(argv[i], "--channel"))
			agent.channel = atoi(argv[i + 1]);
		else if (!strcmp(argv[i], "--scratch"))
			agent.scratch = argv[i + 1];
		else if (!strcmp(argv[i], "--tasks"))
			tasks = strtoul(argv[i + 1], NULL, 10);
	}
	if (agent.channel < 0 || !agent.scratch || !tasks) {
		fprintf(stderr, "usage: agent --channel FD --scratch FOLDER --tasks COUNT\n");
		exit(2);
	}
	/* Programs can kill, mount and write settings: never as root beside others. */
	if (geteuid() == 0) {
		fprintf(stderr, "agent: refuses to serve as root unless it is PID 1\n");
		exit(2);
	}
	/* What was inherited beside the channel, such as our own image, is not needed. */
	for (int fd = 3; fd < 1024; fd++)
		if (fd != agent.channel)
			close(fd);
	fcntl(agent.channel, F_SETFD, FD_CLOEXEC);
	fcntl(agent.channel, F_SETFL, O_NONBLOCK);
	bound_tasks(tasks);
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
	    prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) < 0)
		die("prctl");
}

static void watch_signals(void)
{
	sigset_t set;

	/* SIGPIPE is blocked as well: a host that went away is an error of write(2). */
	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	sigaddset(&set, SIGPIPE);
	sigprocmask(SIG_BLOCK, &set, NULL);
	sigdelset(&set, SIGPIPE);
	agent.signals = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
	if (agent.signals < 0)
		die("signalfd");
}

int main(int argc, char **argv)
{
	if (argc >= 3 && !strcmp(argv[1], "--resume"))
		roles_resume((uint32_t)strtoul(argv[2], NULL, 10));
	agent.pid1 = getpid() == 1;
	if (agent.pid1)
		init();
	else
		beside_others(argc, argv);
	watch_signals();
	channel_open();
	serve();
}
