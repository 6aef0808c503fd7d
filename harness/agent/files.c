/* Reading and writing single files, which may be of a kind that blocks. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>

#include "agent.h"

/* A read that gives nothing for so long is given up (EINTR), in milliseconds. */
#define PATIENCE_MS 2000

static void on_alarm(int signal)
{
	(void)signal;
}

static bool handled;

void forget_patience(void)
{
	handled = false;
}

void patience(int ms)
{
	/* Without SA_RESTART a blocked call returns; repeated, in case it comes between two. */
	struct sigaction action = { .sa_handler = on_alarm };
	struct itimerval timer = {
		.it_value = { ms / 1000, ms % 1000 * 1000 },
		.it_interval = { 0, ms ? 50000 : 0 },
	};

	if (!handled)
		sigaction(SIGALRM, &action, NULL);
	handled = true;
	setitimer(ITIMER_REAL, &timer, NULL);
}

ssize_t read_bounded(int fd, uint8_t *into, size_t limit)
{
	size_t got = 0;

	while (got < limit) {
		/* A sysctl refuses a buffer of 4 MiB and more: proc_sys_call_handler(). */
		size_t most = limit - got < (1 << 20) ? limit - got : (1 << 20);
		ssize_t n = read(fd, into + got, most);

		if (n < 0)
			return got ? (ssize_t)got : -errno;
		if (n == 0)
			break;
		got += (size_t)n;
	}
	return (ssize_t)got;
}

int file_read(struct cursor *cursor, struct answer *answer)
{
	const struct wire_read *ask = take(cursor, sizeof(*ask));
	const char *path = ask ? take_string(cursor, ask->path) : NULL;
	ssize_t got;
	int fd;

	if (!path || ask->limit > WIRE_LIMIT)
		return answer_error(answer, -EBADMSG, "read request");
	fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	if (fd < 0)
		return answer_error(answer, -errno, "open");
	if (ask->offset && lseek(fd, (off_t)ask->offset, SEEK_SET) < 0) {
		close(fd);
		return answer_error(answer, -errno, "seek");
	}
	patience(PATIENCE_MS);
	got = read_bounded(fd, answer->bytes, ask->limit);
	patience(0);
	close(fd);
	if (got < 0)
		return answer_error(answer, (int)got, "read");
	answer->length = (size_t)got;
	return 0;
}

int file_write(struct cursor *cursor, struct answer *answer)
{
	const struct wire_write *ask = take(cursor, sizeof(*ask));
	const char *path = ask ? take_string(cursor, ask->path) : NULL;
	const uint8_t *bytes = path ? take(cursor, ask->length) : NULL;
	int flags = O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC;
	bool created = false;
	size_t left;
	int fd = -1, error = 0;

	if (!bytes)
		return answer_error(answer, -EBADMSG, "write request");
	if (ask->flags & WIRE_CREATE) {
		fd = open(path, flags | O_CREAT | O_EXCL, ask->mode);
		created = fd >= 0;
	}
	flags |= ask->flags & WIRE_TRUNCATE ? O_TRUNC : 0;
	/* Once more with O_CREAT: a link to what is not there is no file, and exists. */
	if (fd < 0)
		fd = open(path, flags | (ask->flags & WIRE_CREATE ? O_CREAT : 0), ask->mode);
	if (fd < 0)
		return answer_error(answer, -errno, "open");
	if (ask->offset && lseek(fd, (off_t)ask->offset, SEEK_SET) < 0)
		error = -errno;
	patience(PATIENCE_MS);
	/* At least one write, for an empty one means something to some files of the kernel. */
	left = ask->length;
	do {
		ssize_t n = error ? -1 : write(fd, bytes, left);

		if (n < 0) {
			error = error ? error : -errno;
			break;
		}
		bytes += n;
		left -= (size_t)n;
	} while (left);
	patience(0);
	/* The mode as asked for, whatever the umask; what was there before keeps its own. */
	if (!error && created)
		fchmod(fd, ask->mode);
	close(fd);
	return error ? answer_error(answer, error, "write") : 0;
}
