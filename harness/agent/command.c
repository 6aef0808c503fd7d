/* One command with arguments, environment, input and a deadline. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent.h"

#define ARGUMENTS 4096
#define DEFAULT_PATH "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

struct order {
	const struct wire_command *ask;
	const char *root;
	const char *cwd;
	char *argv[ARGUMENTS];
	char *envp[ARGUMENTS];
	const uint8_t *input;
};

/* One end of a pipe and the bytes that go through it. */
struct stream {
	int fd;
	uint8_t *bytes;
	size_t length;
	size_t limit;
	bool truncated;
};

/* What the child could not do before it became the command. */
struct failure {
	int error;
	char step[32];
};

static const char *next_string(struct cursor *text)
{
	size_t left = text->length - text->at;
	size_t size = strnlen((const char *)text->start + text->at, left) + 1;

	return take_string(text, size);
}

static int read_order(struct cursor *cursor, struct order *order)
{
	const struct wire_command *ask = take(cursor, sizeof(*ask));
	struct cursor text;

	if (!ask || !ask->arguments || ask->arguments >= ARGUMENTS ||
	    ask->environment >= ARGUMENTS)
		return -EBADMSG;
	order->ask = ask;
	text.start = take(cursor, ask->text);
	text.length = ask->text;
	text.at = 0;
	order->input = take(cursor, ask->input);
	if (!text.start || !order->input)
		return -EBADMSG;
	order->root = next_string(&text);
	order->cwd = order->root ? next_string(&text) : NULL;
	for (uint32_t i = 0; i < ask->arguments; i++)
		order->argv[i] = (char *)(uintptr_t)next_string(&text);
	for (uint32_t i = 0; i < ask->environment; i++)
		order->envp[i] = (char *)(uintptr_t)next_string(&text);
	/* A string that is missing makes all after it missing too. */
	if (!order->cwd || !order->argv[ask->arguments - 1] ||
	    (ask->environment && !order->envp[ask->environment - 1]))
		return -EBADMSG;
	order->argv[ask->arguments] = NULL;
	order->envp[ask->environment] = NULL;
	return 0;
}

static _Noreturn void fail(int report, const char *step)
{
	struct failure failure = { .error = errno };

	snprintf(failure.step, sizeof(failure.step), "%s", step);
	if (write(report, &failure, sizeof(failure)) < 0)
		_exit(126);
	_exit(127);
}

/* execvpe: looks the command up in the PATH of its own environment, in its own root. */
static void execute(struct order *order)
{
	const char *search = DEFAULT_PATH;
	int error = ENOENT;
	char path[512];

	if (strchr(order->argv[0], '/')) {
		execve(order->argv[0], order->argv, order->envp);
		return;
	}
	for (char **at = order->envp; *at; at++)
		if (!strncmp(*at, "PATH=", 5))
			search = *at + 5;
	while (*search) {
		size_t length = strcspn(search, ":");

		if (length && length < 256) {
			snprintf(path, sizeof(path), "%.*s/%s", (int)length, search, order->argv[0]);
			execve(path, order->argv, order->envp);
			if (errno != ENOENT && errno != ENOTDIR)
				error = errno;
		}
		search += length + (search[length] == ':');
	}
	errno = error;
}

static _Noreturn void become(struct order *order, int input, int output, int error, int report)
{
	sigset_t none;
	int failed;

	setsid();
	if (dup2(input, 0) < 0 || dup2(output, 1) < 0 || dup2(error, 2) < 0)
		fail(report, "descriptors");
	if (!agent.pid1)
		prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
	if (order->root[0]) {
		failed = root_enter(order->root);
		if (failed) {
			errno = -failed;
			fail(report, "enter root");
		}
	}
	if (chdir(order->cwd) < 0)
		fail(report, "chdir");
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	execute(order);
	fail(report, "execve");
}

static void stream_close(struct stream *stream)
{
	if (stream->fd >= 0)
		close(stream->fd);
	stream->fd = -1;
}

/* Reads what is there; what exceeds the limit is read too, so that nobody blocks on us. */
static void drain(struct stream *stream)
{
	static uint8_t rest[65536];

	while (stream->fd >= 0) {
		size_t space = stream->limit - stream->length;
		ssize_t n = space ? read(stream->fd, stream->bytes + stream->length, space)
				  : read(stream->fd, rest, sizeof(rest));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return;
		if (n <= 0)
			stream_close(stream);
		else if (space)
			stream->length += (size_t)n;
		else
			stream->truncated = true;
		/* A flood must not keep us from looking at the clock. */
		if (n > 0 && !space)
			return;
	}
}

static void feed(struct stream *stream)
{
	ssize_t n = write(stream->fd, stream->bytes + stream->length, stream->limit - stream->length);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n > 0)
		stream->length += (size_t)n;
	if (n < 0 || stream->length == stream->limit)
		stream_close(stream);
}

/* true when the command ended; false on the deadline or when nobody waits any more. */
static bool attend(pid_t pid, int64_t deadline, struct stream *in, struct stream *out,
		   struct stream *err, int *status)
{
	struct signalfd_siginfo info;

	for (;;) {
		struct pollfd polled[5] = {
			{ .fd = in->fd, .events = POLLOUT },
			{ .fd = out->fd, .events = POLLIN },
			{ .fd = err->fd, .events = POLLIN },
			{ .fd = agent.signals, .events = POLLIN },
			{ .fd = agent.pid1 ? -1 : agent.channel, .events = 0 },
		};
		int64_t left = deadline - now_ms();

		if (waitpid(pid, status, WNOHANG) == pid) {
			drain(out);
			drain(err);
			return true;
		}
		if (left <= 0 || poll(polled, 5, (int)left) == 0 || polled[4].revents)
			return false;
		while (read(agent.signals, &info, sizeof(info)) > 0)
			;
		if (polled[0].revents)
			feed(in);
		if (polled[1].revents)
			drain(out);
		if (polled[2].revents)
			drain(err);
	}
}

static int make_pipes(int pipes[4][2])
{
	for (int i = 0; i < 4; i++)
		if (pipe2(pipes[i], O_CLOEXEC) < 0) {
			int error = -errno;

			while (--i >= 0) {
				close(pipes[i][0]);
				close(pipes[i][1]);
			}
			return error;
		}
	return 0;
}

/*
 * Reads why the child did not become the command; nothing when it did, or when
 * it has not come so far by the deadline, which is then past for the command too.
 */
static bool started(int report, int64_t deadline, struct failure *failure)
{
	struct pollfd polled = { .fd = report, .events = POLLIN };
	int64_t left = deadline - now_ms();
	ssize_t n = 0;

	if (poll(&polled, 1, left > 0 ? (int)left : 0) > 0)
		n = read(report, failure, sizeof(*failure));
	failure->step[sizeof(failure->step) - 1] = '\0';
	return n != sizeof(*failure);
}

static int finish(struct answer *answer, struct wire_completed *result, struct stream *out,
		  struct stream *err)
{
	struct wire_completed *completed = answer_room(answer, sizeof(*completed));

	result->output = (uint32_t)out->length;
	result->error = (uint32_t)err->length;
	result->truncated = out->truncated || err->truncated;
	*completed = *result;
	if (answer_bytes(answer, out->bytes, out->length) ||
	    answer_bytes(answer, err->bytes, err->length))
		return answer_error(answer, -E2BIG, "output of the command");
	return 0;
}

/* The board, not needed by commands, holds the output while it is collected. */
int command_run(struct cursor *cursor, struct answer *answer)
{
	static struct order order;
	struct wire_completed result = { .status = -1 };
	struct failure failure = { 0 };
	int pipes[4][2], status = 0, error = read_order(cursor, &order);
	pid_t pid;

	if (error || order.ask->limit > WIRE_LIMIT / 2 - 64)
		return answer_error(answer, -EBADMSG, "command request");
	error = order.root[0] ? seal_tree(order.root) : 0;
	if (error)
		return answer_error(answer, error, "sealed program");
	error = make_pipes(pipes);
	if (error)
		return answer_error(answer, error, "pipes");
	family_keep();
	int64_t deadline = now_ms() + order.ask->timeout;
	pid = fork();
	if (pid == 0)
		become(&order, pipes[0][0], pipes[1][1], pipes[2][1], pipes[3][1]);
	error = pid < 0 ? -errno : 0;
	close(pipes[0][0]);
	close(pipes[1][1]);
	close(pipes[2][1]);
	close(pipes[3][1]);
	for (int i = 0; i < 3; i++)
		fcntl(pipes[i][i == 0], F_SETFL, O_NONBLOCK);

	size_t limit = order.ask->limit;
	struct stream in = { .fd = pipes[0][1], .bytes = (uint8_t *)(uintptr_t)order.input,
			     .limit = order.ask->input };
	struct stream out = { .fd = pipes[1][0], .bytes = board->room, .limit = limit };
	struct stream err = { .fd = pipes[2][0], .bytes = board->room + limit, .limit = limit };

	if (!in.limit)
		stream_close(&in);
	if (!error && started(pipes[3][0], deadline, &failure)) {
		if (!attend(pid, deadline, &in, &out, &err, &status)) {
			result.timed_out = 1;
			kill(-pid, SIGKILL);
			kill(pid, SIGKILL);
			family_wait(pid, now_ms() + 3000, &status);
			family_kill();
		}
		if (WIFEXITED(status))
			result.status = WEXITSTATUS(status);
		else
			result.signal = WTERMSIG(status);
	} else if (!error) {
		family_wait(pid, now_ms() + 3000, &status);
	}
	close(pipes[3][0]);
	stream_close(&in);
	stream_close(&out);
	stream_close(&err);
	if (error)
		return answer_error(answer, error, "fork");
	if (failure.error)
		return answer_error(answer, -failure.error, failure.step);
	return finish(answer, &result, &out, &err);
}
