/* Deeds for seccomp(2): what each action does to the caller, told apart from
 * all others, and a listener that answers for SCMP_ACT_NOTIFY. */
#include "probe.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { RECEIVED = 8, LIFETIME = 60, PATIENCE = 50, MESSAGE = 1 << 16 };

static void pause_ms(long milliseconds)
{
	struct timespec span = { .tv_nsec = milliseconds * 1000000 };

	nanosleep(&span, NULL);
}

struct threaded {
	int argc;
	char **argv;
	volatile pid_t tid;
	volatile bool returned;
};

static void *thread_body(void *context)
{
	struct threaded *self = context;

	self->tid = (pid_t)syscall(SYS_gettid);
	numbered_call(self->argc, self->argv);
	self->returned = true;
	for (;;)
		pause();
	return NULL;
}

static void thread_child(struct shared *shared, int argc, char **argv)
{
	struct threaded context = { .argc = argc, .argv = argv };
	pthread_t thread;

	shared->error = pthread_create(&thread, NULL, thread_body, &context);
	/* A thread that was killed is gone without a word to the library. */
	while (!shared->error && !context.returned &&
	       (!context.tid || syscall(SYS_tgkill, getpid(), context.tid, 0) == 0))
		pause_ms(1);
	shared->value = context.returned ? 2 : 1;
}

/* thread NUMBER ARGUMENT...: a second thread makes the call; value is 1 when it
 * was killed and the process lives on, 2 when the call returned. */
void do_thread(int argc, char **argv)
{
	in_child(thread_child, argc, argv);
}

static struct shared *caught;

static void on_signal(int number, siginfo_t *info, void *context)
{
	(void)context;
	if (number == SIGSYS && caught) {
		caught->value = info->si_syscall;
		caught->error = info->si_errno;
		_exit(0);
	}
}

static void trap_child(struct shared *shared, int argc, char **argv)
{
	struct sigaction action = { .sa_sigaction = on_signal, .sa_flags = SA_SIGINFO };

	caught = shared;
	sigaction(SIGSYS, &action, NULL);
	numbered_call(argc, argv);
	shared->value = -1;
}

/* trap NUMBER ARGUMENT...: with a handler for SIGSYS; value is the call that it
 * was told and errno what came with it, -1 when the call returned. */
void do_trap(int argc, char **argv)
{
	in_child(trap_child, argc, argv);
}

static void interrupt_child(struct shared *shared, int argc, char **argv)
{
	struct sigaction action = { .sa_sigaction = on_signal, .sa_flags = SA_SIGINFO };

	sigaction(SIGUSR1, &action, NULL);
	shared->value = numbered_call(argc, argv);
	if (shared->value < 0)
		shared->error = errno;
}

/* interrupt NUMBER ARGUMENT...: a call that SIGUSR1 interrupts. */
void do_interrupt(int argc, char **argv)
{
	in_child(interrupt_child, argc, argv);
}

/* Follows a stopped child to its end; the message of its first seccomp event, or -1. */
static long long follow(pid_t child)
{
	long long message = -1;
	unsigned long seen = 0;
	int status;

	while (waitpid(child, &status, 0) == child && WIFSTOPPED(status)) {
		if (status >> 8 == (SIGTRAP | PTRACE_EVENT_SECCOMP << 8) && message < 0 &&
		    ptrace(PTRACE_GETEVENTMSG, child, NULL, &seen) == 0)
			message = (long long)seen;
		ptrace(PTRACE_CONT, child, NULL, NULL);
	}
	return message;
}

static void trace_child(struct shared *shared, int argc, char **argv)
{
	pid_t child = fork();
	int status;

	if (child == 0) {
		ptrace(PTRACE_TRACEME, 0, NULL, NULL);
		raise(SIGSTOP);
		numbered_call(argc, argv);
		_exit(0);
	}
	if (child < 0 || waitpid(child, &status, 0) != child || !WIFSTOPPED(status) ||
	    ptrace(PTRACE_SETOPTIONS, child, NULL, PTRACE_O_TRACESECCOMP) != 0) {
		shared->error = errno;
		return;
	}
	ptrace(PTRACE_CONT, child, NULL, NULL);
	shared->value = follow(child);
}

/* trace NUMBER ARGUMENT...: a traced child makes the call; value is the message
 * of the seccomp event that its tracer gets, -1 when there is none. */
void do_trace(int argc, char **argv)
{
	in_child(trace_child, argc, argv);
}

static void compat_child(struct shared *shared, int argc, char **argv)
{
	long result = strtol(argv[1], NULL, 0);

	(void)argc;
#ifdef __x86_64__
	__asm__ volatile("int $0x80" : "+a"(result) : "b"(0L), "c"(0L), "d"(0L) : "memory", "r8",
			 "r9", "r10", "r11");
#else
	result = -ENOSYS;
#endif
	shared->value = result < 0 ? -1 : result;
	shared->error = result < 0 ? (int)-result : 0;
}

/* compat NUMBER: a call of the machine's 32-bit architecture, without arguments. */
void do_compat(int argc, char **argv)
{
	in_child(compat_child, argc, argv);
}

/* The state that the runtime sends goes to `file`; the descriptor that takes
 * notifications is told from the others that may come along by what it answers. */
static int receive(int connection, const char *file)
{
	static char text[MESSAGE];
	char control[CMSG_SPACE(sizeof(int) * RECEIVED)];
	struct iovec part = { text, sizeof(text) };
	struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1, .msg_control = control,
				  .msg_controllen = sizeof(control) };
	ssize_t length = recvmsg(connection, &message, MSG_CMSG_CLOEXEC);
	struct cmsghdr *header = length > 0 ? CMSG_FIRSTHDR(&message) : NULL;
	int to = open(file, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	__u64 none = 0;

	if (to < 0 || !header || header->cmsg_type != SCM_RIGHTS ||
	    write(to, text, (size_t)length) != length)
		return -1;
	close(to);
	for (size_t at = 0; at + sizeof(int) <= header->cmsg_len - CMSG_LEN(0); at += sizeof(int)) {
		int fd;

		memcpy(&fd, CMSG_DATA(header) + at, sizeof(fd));
		if (ioctl(fd, SECCOMP_IOCTL_NOTIF_ID_VALID, &none) < 0 && errno == ENOENT)
			return fd;
	}
	return -1;
}

/* Whether a signal leaves the call waiting for its answer. */
static bool outlasts_signal(int fd, const struct seccomp_notif *asked)
{
	__u64 id = asked->id;

	kill((pid_t)asked->pid, SIGUSR1);
	for (int i = 0; i < PATIENCE; i++) {
		if (ioctl(fd, SECCOMP_IOCTL_NOTIF_ID_VALID, &id) < 0)
			return false;
		pause_ms(10);
	}
	return true;
}

/* The first argument says what the caller wants: 0 an error, 2 the call itself,
 * 3 to be interrupted, any other number itself and one. */
static void answer(int fd, const struct seccomp_notif *asked)
{
	struct seccomp_notif_resp reply = { .id = asked->id };
	__u64 wanted = asked->data.args[0];

	if (wanted == 0)
		reply.error = -ENOANO;
	else if (wanted == 2)
		reply.flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE;
	else
		reply.val = (__s64)wanted + 1;
	if (wanted != 3 || outlasts_signal(fd, asked))
		ioctl(fd, SECCOMP_IOCTL_NOTIF_SEND, &reply);
}

static void serve(int listener, const char *file)
{
	int connection = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	int fd = connection < 0 ? -1 : receive(connection, file);
	struct pollfd polled = { .fd = fd, .events = POLLIN };

	close(connection);
	while (fd >= 0 && poll(&polled, 1, -1) >= 0 && polled.revents & POLLIN) {
		struct seccomp_notif asked = { 0 };

		if (ioctl(fd, SECCOMP_IOCTL_NOTIF_RECV, &asked) == 0)
			answer(fd, &asked);
	}
}

/* listen SOCKET FILE: a process of its own waits there for a runtime, writes the
 * state that it sends to FILE, and answers notifications until nobody can send
 * one any more. Outside of containers. */
void do_listen(int argc, char **argv)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	(void)argc;
	strncpy(address.sun_path, argv[1], sizeof(address.sun_path) - 1);
	if (listener < 0 || bind(listener, (struct sockaddr *)&address, sizeof(address)) < 0 ||
	    listen(listener, 1) < 0) {
		out.error = errno;
		return;
	}
	pid_t child = fork();
	if (child == 0) {
		int null = open("/dev/null", O_RDWR | O_CLOEXEC);

		setsid();
		alarm(LIFETIME);
		for (int fd = 0; fd < 3; fd++)
			dup2(null, fd);
		serve(listener, argv[2]);
		_exit(0);
	}
	out.value = child;
	close(listener);
}
